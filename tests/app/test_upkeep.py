"""Owns the proof of what goes on in the background: house-keeping, recovery and reload."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy import app
from proxy.app import upkeep
from proxy.config import Loaded
from proxy.errors import Unauthenticated
from proxy.identity import new_key
from proxy.policy import Lock
from proxy.snapshot import Snapshot
from proxy.stores import sqlite
from proxy.terms import Attempt, Caller, Exchange, Kept, Level, RawRequest, Session, State, Target
from tests.app.running import CONFIG, POLICY, ask, differs, get, options, status_of, token_of, until


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


async def test_files_of_two_versions_never_serve_together(folder: Path) -> None:
    """What was read while a file changed is not put in force; what is read after it is."""
    settings = await asyncio.to_thread(options, folder, watch_s=60)
    built = list[str]()

    async with app.running(settings) as here:

        def build(_: Loaded) -> Snapshot:
            if not built:
                (folder / "policy.yaml").write_text(POLICY.replace("No.", "A longer no."))
            built.append(f"reading {len(built)}")
            return replace(here.house.snapshot, revision=built[-1])

        async def whole() -> bool:
            return here.house.snapshot.revision.startswith("reading")

        async with upkeep.background(upkeep.reload_on_change(here, replace(settings, watch_s=0.02), build, {})):
            assert await until(whole)
            assert "reading 1" == here.house.snapshot.revision


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


async def test_a_key_that_is_revoked_opens_nothing(folder: Path) -> None:
    """A key that is taken out of its file is refused once the file was looked at, and the one beside it is not."""
    text, digest = new_key(bytes(16))
    other, other_digest = new_key(bytes(range(16)))
    entries = [f"- {{name: web, sha256: {digest}}}\n", f"- {{name: shop, sha256: {other_digest}}}\n"]
    await asyncio.to_thread((folder / "keys.yaml").write_text, "".join(entries))
    settings = await asyncio.to_thread(options, folder, "auth: {keys_file: keys.yaml}\n")
    async with app.running(settings) as here:
        assert isinstance(await ask(here, key=text), str)
        await asyncio.to_thread((folder / "keys.yaml").write_text, entries[1])

        async def refused() -> bool:
            said = await ask(here, key=text)
            return isinstance(said, dict) and said["error"]["code"] == "invalid_api_key"

        assert await until(refused)
        assert isinstance(await ask(here, key=other), str)


async def test_an_open_listener_keeps_its_keys(folder: Path) -> None:
    """While others can reach the listener, a reload that takes `auth` away is refused, whatever address it names for
    the next start: nobody is let in meanwhile."""
    _, digest = new_key(bytes(16))
    await asyncio.to_thread((folder / "keys.yaml").write_text, f"- {{name: web, sha256: {digest}}}\n")
    closed = CONFIG + "policies: [policy.yaml]\n"
    others = f"\nlisten: unix:{folder}/s\nsocket_mode: '0666'\nauth: {{keys_file: keys.yaml}}"
    opened = closed.replace("\nlisten: 127.0.0.1:0", others)
    await asyncio.to_thread((folder / "handrail.yaml").write_text, opened)
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        await asyncio.to_thread((folder / "handrail.yaml").write_text, closed)

        assert await until(lambda: _stale_about(here, "restart to take `auth` away"))
        with pytest.raises(Unauthenticated):
            here.house.snapshot.identify(RAW, 0)


RAW = RawRequest(method="POST", path="/", headers={}, body=b"", peer="unix", uid=0)


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
        await until(lambda: differs(here, before))

    assert '"restart_needed","keys":["state"]' in capsys.readouterr().err


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """Let no file of this process be written, as on a disk that fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_records_that_cannot_be_written_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says so once, and once more when they can be written again; meanwhile a metric is 1."""
    said = ""

    async def told(event: str, unwritable: int) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        page = (await get(f"http://{here.health_listen}/metrics"))[1]
        return event in said and f"handrail_records_unwritable {unwritable}.0" in page

    async with app.running(await asyncio.to_thread(options, folder)) as here:
        with nothing_written():
            refused = await ask(here)
            begun = await until(lambda: told("records_unwritable", 1))
        over = await until(lambda: told("records_written_again", 0))

    assert ([True, True], "server_error") == ([begun, over], refused["error"]["type"])
    assert [1, 1] == [said.count(event) for event in ('"records_unwritable"', '"records_written_again"')]
