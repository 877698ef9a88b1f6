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
from proxy.terms import State
from tests.app.running import ASK, CONFIG, POLICY, ask, differs, get, options, status_of, until
from tests.redis_servers import RedisServer, of_the_system, of_the_wheel
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
    with RedisServer(of_the_wheel() or of_the_system(), tmp_path / "redis", password="right") as server:
        yield server


def host(tmp_path: Path, name: str, server: RedisServer, more: str = "password_file: secret") -> app.Options:
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
