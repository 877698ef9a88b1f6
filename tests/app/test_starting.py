"""Owns the proof that everything starts, serves and stops together."""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy import accounting, app
from proxy.errors import BudgetExceeded
from proxy.stores import sqlite
from proxy.terms import Selection, State, Table
from tests.app.running import ASK, CONFIG, POLICY, ask, differs, get, options, status_of, until
from tests.identity.issuing import AUDIENCE, NAME, claims, issuer, token
from tests.redis_servers import RedisServer, whichever
from tests.stores.samples import AT_MS, DAY, limit, reservation


async def test_state_path(folder: Path) -> None:
    """Records are kept in the file that the config names."""
    settings = await asyncio.to_thread(options, folder, "state: {path: kept/records.db}\n")
    async with app.running(settings) as here:
        await ask(here)

    with sqlite.Reader(str(folder / "kept" / "records.db")) as reader:
        assert [State.COMPLETE] == [exchange.state for _, exchange in reader.tail(5)]


@asynccontextmanager
async def webhook() -> AsyncIterator[tuple[str, list[tuple[str, bytes]]]]:
    """Take packets on loopback; the first answer is lost."""
    taken: list[tuple[str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        taken.append((request.headers["webhook-id"], await request.read()))
        return web.Response(status=503 if len(taken) == 1 else 200)

    site = web.Application()
    site.router.add_post("/hook", take)
    runner = web.AppRunner(site)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", taken
    finally:
        await runner.cleanup()


ESCALATES = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  escalation: [{id: human, when: 'true', to: tier2, message: One moment.}]
"""


async def test_a_packet_reaches_the_webhook(folder: Path) -> None:
    """A hand-off is sent, signed, until it is taken, always under one id; the conversation then waits for a human."""
    await asyncio.to_thread((folder / "policy.yaml").write_text, ESCALATES)
    await asyncio.to_thread((folder / "secret").write_text, "whsec_" + "QUJD" * 10)
    async with webhook() as (url, taken):
        handoff = f"handoff: {{url: '{url}', secret_file: secret, timeout_s: 5}}\n"
        async with app.running(await asyncio.to_thread(options, folder, handoff)) as here:
            reply = await ask(here)

            assert await until(lambda: _came(taken, 2))
            assert "One moment." in str(reply)
            assert 1 == len({packet_id for packet_id, _ in taken})
            assert "tier2" == json.loads(taken[-1][1])["data"]["queue"]


async def _came(taken: Sequence[object], count: int) -> bool:
    return len(taken) >= count


@contextmanager
def collector() -> Iterator[tuple[str, threading.Event]]:
    """Run an OTLP/HTTP collector that only notices whether anything came."""
    came = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            came.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("sample", "sent"), [(1.0, True), (0.0, False)])
async def test_spans_are_sent(sample: float, sent: bool, folder: Path) -> None:
    """With an endpoint a sampled call's spans have left when the process stops; with sample 0 none ever do."""
    with collector() as (url, came):
        more = f"telemetry: {{otlp_endpoint: '{url}', sample: {sample}}}\n"
        settings = await asyncio.to_thread(options, folder, more)
        async with app.running(settings) as here:
            await ask(here)

        assert sent is came.is_set()


@pytest.mark.parametrize(("level", "told"), [("info", True), ("error", False)])
async def test_log_level(level: str, told: bool, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reload is a line of level info: it is written from that level on."""
    settings = await asyncio.to_thread(options, folder, f"telemetry: {{log_level: {level}}}\n")
    async with app.running(settings) as here:
        before = here.house.snapshot.revision
        await asyncio.to_thread((folder / "policy.yaml").write_text, POLICY.replace("WORD", "one"))
        await until(lambda: differs(here, before))

    assert told is ('"reloaded"' in capsys.readouterr().err)


SPENDS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {spend: [{id: day, scope: agent, limitUSD: 100, window: day}]}
"""


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that wants a password."""
    with RedisServer(whichever(), tmp_path / "redis", password="right") as server:
        yield server


def host(
    tmp_path: Path, name: str, server: RedisServer, more: str = "password_file: secret, timeout_ms: 5000"
) -> app.Options:
    """Configure a host that keeps its budgets in Redis, with a limit."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "secret").write_text("right\n")
    (folder / "policy.yaml").write_text(SPENDS)
    budgets = f"budgets: {{redis: {{url: '{server.url}', ledger: shop, {more}}}}}\n"
    (folder / "handrail.yaml").write_text(CONFIG + "policies: [policy.yaml]\n" + budgets)
    return app.Options(path=folder / "handrail.yaml", environment={"REDIS_PASSWORD": "right"})


async def spent(here: app.Running, server: RedisServer) -> bool:
    """Say whether a host knows of one call, and no other ledger on the server has any."""
    day = accounting.window_key(accounting.Window.DAY, here.house.clock.wall_ms())
    (total,) = await here.house.budgets.totals([("agent:agent", day)])
    names = await asyncio.to_thread(server.command, "KEYS", "*:c:*")
    return total.calls == 1 and all(name.startswith("{handrail:shop}") for name in names)


async def test_two_hosts_share_a_limit(tmp_path: Path, redis_server: RedisServer) -> None:
    """What one holds the other cannot have, and what one used both know; the admin page says how the ledger is."""
    one, two = [await asyncio.to_thread(host, tmp_path, name, redis_server) for name in "ab"]
    async with app.running(one) as first, app.running(two) as second:
        assert isinstance(await ask(first), str)
        assert await until(lambda: spent(second, redis_server))
        await first.house.budgets.reserve(reservation("ex_1", 60, limit(DAY)), AT_MS)
        with pytest.raises(BudgetExceeded):
            await second.house.budgets.reserve(reservation("ex_2", 60, limit(DAY)), AT_MS)

        page: Any = app.status(first)
        assert {"away": "", "unheld": 0} == page["ledger"]


async def test_the_ledger_s_password_can_come_from_the_environment(tmp_path: Path, redis_server: RedisServer) -> None:
    """A variable is as good as a file."""
    settings = await asyncio.to_thread(host, tmp_path, "a", redis_server, "password_env: REDIS_PASSWORD")
    async with app.running(settings) as here:
        assert {"away": "", "unheld": 0} == app.status(here)["ledger"]


@pytest.mark.parametrize(
    ("on_outage", "answered", "unheld"),
    [pytest.param("closed", False, 0, id="closed"), pytest.param("open", True, 1, id="open")],
)
async def test_a_ledger_that_is_away(
    tmp_path: Path, redis_server: RedisServer, on_outage: str, answered: bool, unheld: int
) -> None:
    """After `timeout_ms` a call goes on as `on_outage` says; the admin page and the metrics tell why, and how many."""
    more = f"password_file: secret, on_outage: {on_outage}, timeout_ms: 30"
    async with app.running(await asyncio.to_thread(host, tmp_path, "a", redis_server, more)) as here:
        redis_server.freeze()
        reply = await ask(here)
        page: Any = app.status(here)
        _, metrics = await get(f"http://{here.health_listen}/metrics")
        redis_server.thaw()

        assert answered is isinstance(reply, str)
        assert answered or "ledger_away" == reply["error"]["code"]
        assert ("no reply within 30 ms", unheld) == (page["ledger"]["away"], page["ledger"]["unheld"])
        assert "handrail_ledger_away 1" in metrics
        assert f"handrail_budget_unheld_total {unheld}" in metrics


ESCALATE_AT_ONCE = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {escalation: [{id: person, when: 'request.user_text.contains("person")', message: A person will answer.}]}
"""


def conversing(tmp_path: Path, name: str, server: RedisServer, more: str = "password_file: secret") -> app.Options:
    """Configure a host that keeps its conversations in Redis, with a rule that hands over."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "secret").write_text("right\n")
    (folder / "policy.yaml").write_text(ESCALATE_AT_ONCE)
    tiers = f"tiers: {{hot: {{redis: {{url: '{server.url}', name: shop, {more}}}}}}}\n"
    (folder / "handrail.yaml").write_text(CONFIG + "policies: [policy.yaml]\n" + tiers)
    return app.Options(path=folder / "handrail.yaml", environment={"REDIS_PASSWORD": "right"})


def said(*texts: str) -> dict[str, Any]:
    """Return a call with this history, the user's turn first."""
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return {"model": "gpt-5-mini", "messages": messages}


async def test_two_hosts_share_conversations(tmp_path: Path, redis_server: RedisServer) -> None:
    """A conversation that went on at the one goes on at the other; what is handed over here a human owns there, too,
    until it is given back by either; no other name on the server has any of it."""
    one, two = [await asyncio.to_thread(conversing, tmp_path, name, redis_server) for name in "ab"]
    question = "What is the state of my order 1234567?"
    async with app.running(one) as first, app.running(two) as second:
        answer = await ask(first, said(question))
        handed = await ask(second, said(question, answer, "I want a person"))
        owned = await ask(first, said(question, answer, "I want a person", handed, "Hello? Are you there?"))
        [packet] = await first.house.desk.handoffs(True, 9)
        await first.house.desk.close_handoff(packet.id, "ann", AT_MS)
        after = await ask(second, said(question, answer, "Never mind, which colours are there?"))
        page: Any = app.status(first)
    names = await asyncio.to_thread(redis_server.command, "KEYS", "*")

    assert packet.turn == 2
    assert "A person will answer." == handed
    assert isinstance(owned, str)
    assert isinstance(after, str)
    assert owned != after
    assert {"away": "", "pending": 0} == page["conversations"]
    assert all(name.startswith("{handrail-conversations:shop}:") for name in names)
    with sqlite.Reader(str(tmp_path / "a" / ".handrail" / "handrail.sqlite")) as reader:
        assert ["complete", "denied"] == [exchange.state for _, exchange in reader.tail(5)]


async def test_erasing_reaches_what_hosts_share(tmp_path: Path, redis_server: RedisServer) -> None:
    """A conversation that was handed over is erased from Redis as from the file, and both are searched for it."""
    settings = await asyncio.to_thread(conversing, tmp_path, "a", redis_server)
    async with app.running(settings) as here:
        await ask(here, said("I want a person, my order is 1234567"))
        [packet] = await here.house.desk.handoffs(True, 9)
    loaded = await asyncio.to_thread(app.read_config, settings)
    async with app.open_tiers(loaded, settings.environment) as tiers:
        found = await app.gather(tiers, Selection(sessions=frozenset((packet.session_id,))))
        done = await app.erase_found(loaded, tiers, found, "dpo", AT_MS)
    keys = await asyncio.to_thread(redis_server.command, "KEYS", "*")

    assert ["hot", "local"] == [*found.rows]
    assert 1 == done.rows["hot"][Table.HANDOFFS] == done.rows["local"][Table.HANDOFFS]
    assert done.proven
    assert not any(packet.session_id in key or packet.id in key for key in keys)


async def test_conversations_that_are_away(tmp_path: Path, redis_server: RedisServer) -> None:
    """Nobody knows then who owns them: calls are refused after `timeout_ms`, readiness says why, and it passes."""
    more = "password_env: REDIS_PASSWORD, timeout_ms: 200"
    async with app.running(await asyncio.to_thread(conversing, tmp_path, "a", redis_server, more)) as here:
        question = "What is the state of my order 1234567?"
        answer = await ask(here, said(question))
        redis_server.freeze()
        refused = await ask(here, said(question, answer, "And now?"))
        readiness, why = await get(f"http://{here.health_listen}/readyz")
        redis_server.thaw()

        async def ready() -> bool:
            return (await get(f"http://{here.health_listen}/readyz"))[0] == 200

        assert "conversations_away" == refused["error"]["code"]
        assert 503 == readiness
        assert "conversations cannot be asked for" in str(why)
        assert await until(ready)
        assert isinstance(await ask(here, said(question, answer, "And now?")), str)


def test_a_start_without_redis_does_not_load_it() -> None:
    """Only a config that asks for shared budgets pays for the client."""
    code = "import sys, proxy.app, proxy.cli; sys.exit('redis' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


async def test_a_candidate_is_tried_out_beside(folder: Path) -> None:
    """A candidate that is broken is told in /status, and what is in force goes on; once it is right it is asked about
    each call, and its verdict is on record."""
    await asyncio.to_thread((folder / "new.yaml").write_text, "kind: [")
    settings = await asyncio.to_thread(options, folder, "candidate: {policies: [new.yaml]}\n")
    async with app.running(settings) as here:

        async def tried() -> bool:
            return not (await status_of(here))["candidate"]["problems"]

        broken = await status_of(here)
        assert ("new.yaml:1:", []) == (broken["candidate"]["problems"][0].rpartition("/")[2][:11], broken["stale"])
        await asyncio.to_thread((folder / "new.yaml").write_text, POLICY.replace("WORD", "one"))
        assert await until(tried)
        assert ["p@1.0.0"] == (await status_of(here))["candidate"]["documents"]
        assert "No." != await ask(here)
        path = str(here.loaded.folder / here.loaded.config.state.path)

    with sqlite.Reader(path) as reader:
        (exchange,) = (exchange for _, exchange in reader.tail(5))
    assert ["p/r@1.0.0"] == [decision.rule for decision in exchange.candidate]


@pytest.mark.parametrize(
    ("limit", "directive", "code"),
    [
        pytest.param("first_byte_s: 0.1", {"delay_ms": 2000}, "first_byte_timeout", id="first byte"),
        pytest.param("idle_s: 0.1", {"stall_after": 3}, "idle_timeout", id="silence"),
        pytest.param("max_reply_bytes: 1024", {"text": "word " * 1000}, "too_large", id="size"),
    ],
)
async def test_limits_of_a_reply_act(limit: str, directive: dict[str, object], code: str, folder: Path) -> None:
    """The limits on a provider's reply in the config are those that end it."""
    settings = await asyncio.to_thread(options, folder, f"limits: {{{limit}}}\n")
    async with app.running(settings) as here:
        reply = await ask(here, {**ASK, "metadata": {"simulate": json.dumps(directive)}})

    assert code == reply["error"]["code"]


async def test_tokens_open_by_keys_that_are_fetched(folder: Path) -> None:
    """With `jwks_url` the issuer's keys are fetched beside the calls; a new one opens soon, without a restart."""
    async with issuer() as site:
        jwt = f"issuer: {NAME}, audience: {AUDIENCE}, jwks_url: '{site.url}', jwks_refresh_s: 10"
        settings = await asyncio.to_thread(options, folder, f"auth: {{jwt: {{{jwt}, jwks_max_age_s: 60}}}}\n")
        async with app.running(settings) as here:
            now = here.house.clock.wall_ms() // 1000
            good = token(claims(iat=now, exp=now + 600))

            async def says() -> bool:
                return isinstance(await ask(here, key=good), str)

            assert await until(says)
            other = token(claims(iat=now, exp=now + 600), kid="ec")
            refused = [await ask(here, key=text) for text in (other, "x")]
            assert ["invalid_api_key"] * 2 == [reply["error"]["code"] for reply in refused]
