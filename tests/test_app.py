"""Owns the proof of proxy/app.py: everything starts, serves, reloads and stops together."""

from __future__ import annotations

import asyncio
import http.server
import json
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy import accounting, app
from proxy.errors import BudgetExceeded, ConfigError
from proxy.policy import Lock
from proxy.server import routes
from proxy.stores import sqlite
from proxy.terms import Attempt, Caller, Exchange, Kept, Level, Session, State, Target
from tests.redis_servers import RedisServer, of_the_system, of_the_wheel
from tests.stores.samples import AT_MS, DAY, limit, reservation
from tests.walking import CONFIG as WALKED
from tests.walking import compiled

WAIT_S = 15.0
CONFIG = """
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {model: {dialect: simulated, prices: openai}}
"""
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: request, when: 'request.user_text.contains("WORD")', action: deny, message: No.}]}
"""
ASK = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "one two"}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a config and a policy about the word `one`."""
    (tmp_path / "handrail.yaml").write_text(CONFIG + "policies: [policy.yaml]\n")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("WORD", "three"))
    return tmp_path


def options(folder: Path, more: str = "", *, watch_s: float = 0.02) -> app.Options:
    """Start with the folder's config and more keys."""
    path = folder / "handrail.yaml"
    path.write_text(path.read_text() + more)
    return app.Options(path=path, environment={}, watch_s=watch_s)


async def get(url: str, token: str = "") -> tuple[int, Any]:
    """Fetch a page; return its status and its text or JSON."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        text = await reply.text()
        return reply.status, json.loads(text) if reply.content_type == "application/json" else text


async def ask(here: app.Running, body: object = ASK) -> Any:
    """Send one call; return what the model is said to have said."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{here.base_url}/chat/completions", json=body) as reply,
    ):
        tree = await reply.json()
        return tree["choices"][0]["message"]["content"] if reply.status == 200 else tree


async def token_of(here: app.Running) -> str:
    """Read the admin token."""
    return (await asyncio.to_thread(here.admin_token_path.read_text)).strip()


async def until(claim: Any) -> bool:
    """Wait until an async claim is true."""
    async with asyncio.timeout(WAIT_S):
        while not await claim():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.02)
    return True


# --- listeners ------------------------------------------------------------------------------------------------------


async def test_three_listeners(folder: Path) -> None:
    """Each listener serves its own pages and nothing of the others'."""
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        token = await token_of(here)
        data, health, admin = (f"http://{a}" for a in (here.listen, here.health_listen, here.admin_listen))

        assert (200, "list") == ((found := await get(f"{data}/v1/models"))[0], found[1]["object"])
        assert 200 == (await get(f"{health}/healthz"))[0] == (await get(f"{health}/readyz"))[0]
        assert "handrail_" in (await get(f"{health}/metrics"))[1]
        assert ["p"] == [d["name"] for d in (await get(f"{admin}/status", token))[1]["documents"]]
        assert ["endpoints", "guards", "rules"] == [*(await get(f"{admin}/coverage", token))[1]]
        assert 401 == (await get(f"{admin}/status"))[0]
        assert [404] * 3 == [
            (await get(url, token))[0] for url in (f"{data}/status", f"{health}/status", f"{admin}/v1/models")
        ]


COVERED = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - {id: asks, phase: request, action: deny, when: guards.injection.score > 0.9}
    - {id: reads, phase: response, action: deny, when: guards.voice.flagged && guards.injection.flagged}
    - {id: notes, phase: response, action: annotate, when: guards.voice.flagged, annotations: {a: b}, mode: shadow}
    - {id: steps, phase: chunk, action: deny, when: chunk.text == "x"}
    - {id: calls, phase: tool_call, action: deny, when: tool.name == "x"}
"""


async def test_coverage_says_what_is_looked_at(folder: Path) -> None:
    """By endpoint; by guard, in which phases rules read it, none of measured quality; and by rule, what waits for it
    where the reply is streamed and where it is not."""
    snapshot = await asyncio.to_thread(compiled, WALKED, COVERED, folder)

    page: Any = app.coverage(snapshot)

    read = {guard["name"]: (guard["quality"], guard["read_in"]) for guard in page["guards"]}
    assert routes.coverage() == page["endpoints"]
    assert (("unmeasured", ["request", "response"]), ("unmeasured", ["response"])) == (read["injection"], read["voice"])
    assert ("unmeasured", []) == read["pii"]
    assert [
        ("p/asks@1.0.0", "request", "enforce", "before", "before"),
        ("p/reads@1.0.0", "response", "enforce", "hold", "hold"),
        ("p/notes@1.0.0", "response", "shadow", "after", "after"),
        ("p/steps@1.0.0", "chunk", "enforce", "window", "window"),
        ("p/calls@1.0.0", "tool_call", "enforce", "hold", "hold"),
    ] == [(*rule.values(),) for rule in page["rules"]]


async def test_models_are_told_one_by_one(folder: Path) -> None:
    """A configured alias can be retrieved; an unknown one is a 404 in OpenAI's form."""
    settings = await asyncio.to_thread(options, folder, "models: {large: {provider: model}}\n")
    async with app.running(settings) as here:
        assert "large" == (await get(f"{here.base_url}/models/large"))[1]["id"]
        assert (404, "model_not_found") == ((no := await get(f"{here.base_url}/models/x"))[0], no[1]["error"]["code"])


@pytest.mark.parametrize("key", ["listen", "health_listen", "admin_listen"])
async def test_a_port_in_use_names_its_key(key: str, folder: Path) -> None:
    """A listener that cannot open is a problem with its key and address, and nothing stays open."""
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    text = (CONFIG + "policies: [policy.yaml]\n").replace(f"\n{key}: 127.0.0.1:0", f"\n{key}: {address}")
    await asyncio.to_thread((folder / "handrail.yaml").write_text, text)
    settings = await asyncio.to_thread(options, folder)

    with pytest.raises(ConfigError) as caught:
        async with app.running(settings):
            pass
    server.close()

    way = f"(is another Handrail running? stop it, or set another `{key}`)"
    assert [f"{key}: cannot listen on {address}: Address already in use {way}"] == caught.value.problems


async def test_admin_token_file(folder: Path) -> None:
    """The default token is made at the first start for its owner alone; a configured file is used as it is."""
    first = await asyncio.to_thread(options, folder)
    async with app.running(first) as here:
        assert 0o600 == stat.S_IMODE((await asyncio.to_thread(here.admin_token_path.stat)).st_mode)
        made = await token_of(here)
    await asyncio.to_thread((folder / "own").write_text, "x" * 40)
    second = await asyncio.to_thread(options, folder, "admin_token_file: own\n")
    async with app.running(second) as here:
        url = f"http://{here.admin_listen}/status"

        assert [401, 200] == [(await get(url, token))[0] for token in (made, "x" * 40)]


# --- state, telemetry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "left"),
    [
        pytest.param("", (["ex_0", "ex_20", "ex_60"], ["ex_20"]), id="records stay, what was kept goes after 30 days"),
        pytest.param("state: {keep_days: 50}\n", (["ex_0", "ex_20"], ["ex_20"]), id="records"),
        pytest.param("state: {keep_days: 10}\n", (["ex_0"], []), id="nothing is kept longer than its record"),
        pytest.param("state: {keep_facts_days: 90}\n", (["ex_0", "ex_20", "ex_60"], ["ex_20", "ex_60"]), id="facts"),
    ],
)
async def test_old_records_are_deleted(folder: Path, state: str, left: tuple[list[str], list[str]]) -> None:
    """Records older than `keep_days`, and what was kept of calls older than `keep_facts_days`, are deleted."""
    settings, now = await asyncio.to_thread(options, folder, state), app.SystemClock().wall_ms()
    path = str(folder / ".handrail" / "handrail.sqlite")
    async with sqlite.open(sqlite.Settings(path=path)) as store:
        for days in (60, 20, 0):
            at_ms = now - days * app.DAY_MS
            store.finish(recorded(f"ex_{days}", at_ms))
            if days:
                store.keep(Kept(exchange_id=f"ex_{days}", at_ms=at_ms, policy_digest=""))

    async def found() -> bool:
        with sqlite.Reader(path) as reader:
            ids = sorted(exchange.id for _, exchange in reader.tail(9))
            return left == (ids, sorted(kept.exchange_id for kept in reader.kept(0)))

    async with app.running(settings):
        assert await until(found)


def recorded(name: str, at_ms: int) -> Exchange:
    """Make the record of a call that never left."""
    return Exchange(
        id=name,
        started_ms=at_ms,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="web", level=Level.EXECUTE, principal="local"),
        session=Session(id="se_1"),
        stream=False,
        model_asked="m",
        state=State.DENIED,
    )


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


async def test_a_signing_key_that_is_none_is_told(folder: Path) -> None:
    """What no receiver could check with is refused at the start."""
    await asyncio.to_thread((folder / "secret").write_text, "short")
    handoff = "handoff: {url: 'http://127.0.0.1:1/', secret_file: secret}\n"

    with pytest.raises(ConfigError):
        async with app.running(await asyncio.to_thread(options, folder, handoff)):
            pass


async def test_what_a_dead_process_left_is_closed_at_the_start(folder: Path) -> None:
    """A call that was dispatched by a process that died is on record as recovered when the next one starts."""
    settings = await asyncio.to_thread(options, folder)
    path = str(folder / ".handrail" / "handrail.sqlite")
    target = Target(alias="a", provider="model", model="a")
    left = Exchange(
        id="ex_1",
        started_ms=1,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="agent", level=Level.EXECUTE, principal="local"),
        session=Session(id="se_1"),
        stream=False,
        model_asked="a",
        state=State.DISPATCHED,
        attempts=(Attempt(number=1, reservation_id="ex_1:1", target=target, started_ms=1),),
    )
    async with sqlite.open(sqlite.Settings(path=path)) as store:
        await store.dispatch(left)

    async with app.running(settings):
        pass

    with sqlite.Reader(path) as reader:
        found = reader.find("ex_1")
        assert found
        assert State.RECOVERED is found.state


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
        await until(lambda: _differs(here, before))

    assert told is ('"reloaded"' in capsys.readouterr().err)


async def _differs(here: app.Running, revision: str) -> bool:
    return here.house.snapshot.revision != revision


# --- budgets of several hosts ---------------------------------------------------------------------------------------

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


# --- reload ---------------------------------------------------------------------------------------------------------


async def test_a_changed_policy_is_in_force(folder: Path) -> None:
    """A changed file governs the next call without a restart."""
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        before = await ask(here)
        await asyncio.to_thread((folder / "policy.yaml").write_text, POLICY.replace("WORD", "one"))

        assert "No." != before
        assert await until(lambda: _says(here, "No."))


async def _says(here: app.Running, text: str) -> bool:
    return bool(text == await ask(here))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("policy.yaml", "kind: [", id="broken policy"),
        pytest.param("policy.yaml", POLICY.replace("user_text", "user_txt"), id="bad CEL"),
        pytest.param("handrail.yaml", "lisen: x\n", id="broken config"),
        pytest.param("policy.yaml", None, id="deleted policy"),
    ],
)
async def test_the_last_good_set_stays(name: str, text: str | None, folder: Path) -> None:
    """A change that is wrong is refused, told in /status and /metrics, and cured by a right one."""
    await asyncio.to_thread((folder / "policy.yaml").write_text, POLICY.replace("WORD", "one"))
    settings = await asyncio.to_thread(options, folder)
    good = await asyncio.to_thread((folder / name).read_text)
    async with app.running(settings) as here:
        status = f"http://{here.admin_listen}/status"
        token = await token_of(here)
        await asyncio.to_thread((folder / name).unlink)
        if text is not None:
            await asyncio.to_thread((folder / name).write_text, text)

        async def stale() -> bool:
            return bool((await get(status, token))[1]["stale"])

        async def cured() -> bool:
            return not await stale()

        assert await until(stale)
        assert "No." == await ask(here)
        assert "handrail_config_stale 1" in (await get(f"http://{here.health_listen}/metrics"))[1]
        assert 200 == (await get(f"http://{here.health_listen}/readyz"))[0]
        await asyncio.to_thread((folder / name).write_text, good)
        assert await until(cured)


async def status_of(here: app.Running) -> Any:
    """Fetch /status."""
    return (await get(f"http://{here.admin_listen}/status", await token_of(here)))[1]


async def test_a_deleted_file_takes_its_rules_along(folder: Path) -> None:
    """Of a glob's two policies the one that is deleted stops deciding; once the last is gone the reload is refused."""
    await asyncio.to_thread(
        (folder / "other.yaml").write_text, POLICY.replace("WORD", "one").replace("name: p", "name: q")
    )
    await asyncio.to_thread((folder / "handrail.yaml").write_text, CONFIG + "policies: ['[op]*.yaml']\n")
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:

        async def only_p() -> bool:
            return ["p"] == [document["name"] for document in (await status_of(here))["documents"]]

        async def stale() -> bool:
            return bool((await status_of(here))["stale"])

        assert "No." == await ask(here)
        await asyncio.to_thread((folder / "other.yaml").unlink)
        assert await until(only_p)
        assert "No." != await ask(here)
        await asyncio.to_thread((folder / "policy.yaml").unlink)
        assert await until(stale)
        assert await only_p()


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


async def test_a_refused_config_is_cured_by_the_file_it_names(folder: Path) -> None:
    """What a refused config names is watched as well: the policy that was missing comes, and is in force."""
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:

        async def stale() -> bool:
            return bool(here.stale)

        new = CONFIG + "policies: [new.yaml]\n"
        await asyncio.to_thread((folder / "new.yaml").write_text, "kind: [")
        await asyncio.to_thread((folder / "handrail.yaml").write_text, new)
        assert await until(stale)
        await asyncio.to_thread((folder / "new.yaml").write_text, POLICY.replace("WORD", "one"))

        assert await until(lambda: _says(here, "No."))


async def test_a_locked_version_cannot_change(folder: Path) -> None:
    """/status says what is locked; a change without a new version is refused, one with it is taken, not locked yet."""
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        (document,) = here.house.snapshot.policies.documents
        text = Lock().add([document]).text()

        async def locked(state: object) -> bool:
            return bool(state == (await status_of(here))["documents"][0]["locked"])

        assert await locked(False)
        await asyncio.to_thread((folder / "policies.lock").write_text, text)
        assert await until(lambda: locked(True))
        await asyncio.to_thread((folder / "policy.yaml").write_text, POLICY.replace("WORD", "one"))
        assert await until(lambda: _stale_about(here, "raise its `version`"))
        assert "No." != await ask(here)
        newer = POLICY.replace("WORD", "one").replace("1.0.0", "1.1.0")
        await asyncio.to_thread((folder / "policy.yaml").write_text, newer)
        assert await until(lambda: _says(here, "No."))
        assert await locked(False)
        other = text.replace("1.0.0", "1.1.0")
        await asyncio.to_thread((folder / "policies.lock").write_text, other)
        assert await until(lambda: locked("changed"))
        assert "No." == await ask(here)


async def test_a_gate_that_fails_keeps_the_last_good_set(folder: Path) -> None:
    """A reload whose set does not pass a gate is refused and told; the gate, once it is right, opens."""
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        await asyncio.to_thread((folder / "tests.yaml").write_text, GATE)
        await asyncio.to_thread((folder / "policy.yaml").write_text, POLICY.replace("WORD", "one"))

        assert await until(lambda: _stale_about(here, "`one is fine` fails: verdict: expected allow, got deny"))
        assert "No." != await ask(here)
        await asyncio.to_thread((folder / "tests.yaml").write_text, GATE.replace("allow", "deny"))
        assert await until(lambda: _says(here, "No."))


GATE = """
kind: AgentPolicyTest
spec:
  policies: [policy.yaml]
  cases:
    - {name: one is fine, phase: request, gate: true, given: {request: {user_text: one}}, expect: {verdict: allow}}
"""


async def _stale_about(here: app.Running, words: str) -> bool:
    return any(words in problem for problem in here.stale)


async def test_what_needs_a_restart_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reload that changes where records are kept is taken, and the log names the key that waits for a restart."""
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        before = here.house.snapshot.revision
        await asyncio.to_thread(options, folder, "state: {path: other.sqlite}\n")
        await until(lambda: _differs(here, before))

    assert '"restart_needed","keys":["state"]' in capsys.readouterr().err


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


async def test_rules_are_counted(folder: Path) -> None:
    """/status says of each rule how often it matched."""
    await asyncio.to_thread((folder / "policy.yaml").write_text, POLICY.replace("WORD", "one"))
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        token = await token_of(here)
        await ask(here)

        async def counted() -> bool:
            (rule,) = (await get(f"http://{here.admin_listen}/status", token))[1]["rules"]
            return bool(rule["matched"] == 1)

        assert await until(counted)


async def test_the_tokenizer_is_loaded_by_the_first_need(folder: Path) -> None:
    """The first count is an estimate that starts the loading; a later one is a tokenizer's."""
    estimator = app.LazyEstimator()

    first = estimator.count("one two three")

    assert (4, False) == first

    async def exact() -> bool:
        return estimator.count("one two three") == (3, True)

    assert await until(exact)


def test_a_config_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that is not there, or is no text, is a problem with its name."""
    (tmp_path / "b.yaml").write_bytes(b"\xff")

    for name in ("a.yaml", "b.yaml"):
        with pytest.raises(ConfigError) as caught:
            app.read_config(app.Options(path=tmp_path / name))
        assert name in caught.value.problems[0]


def test_names_are_new_and_stand_in_the_order_of_time() -> None:
    """A name is 32 hexadecimal digits that begin with the millisecond, and none is made twice."""
    clock, ids = app.SystemClock(), app.RandomIds()

    before = clock.wall_ms()
    names = [ids.new("ex") for _ in range(1000)]
    after = clock.wall_ms()

    assert 1000 == len(set(names))
    assert {("ex", 32)} == {(name[:2], len(name[3:])) for name in names}
    assert all(before <= int(name[3:15], 16) <= after for name in names)
