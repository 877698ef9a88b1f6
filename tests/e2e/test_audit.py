"""Owns the proof that a whole Handrail keeps its audit log, and stops where that is required and cannot be done."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy import app, audit, journal
from proxy.cli import main
from proxy.errors import ConfigError
from proxy.terms import Json
from tests.journal.written import entries, kinds, look

WAIT_S = 60.0
CONFIG = """
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {model: {dialect: simulated, prices: openai}}
policies: [policy.yaml]
"""
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules: [{id: no, phase: request, when: 'request.user_text.contains("secret word")', action: deny, message: No.}]
"""
off = asyncio.to_thread


def written(folder: Path, keys: str) -> app.Options:
    """Write a configuration with more keys."""
    (folder / "handrail.yaml").write_text(CONFIG + keys)
    (folder / "policy.yaml").write_text(POLICY)
    return app.Options(path=folder / "handrail.yaml", environment={}, watch_s=0.02)


async def ask(here: app.Running, text: str = "one two") -> tuple[int, Any]:
    """Send one call."""
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{here.base_url}/chat/completions", json=body) as reply,
    ):
        return reply.status, await reply.json()


async def get(url: str, token: str = "") -> tuple[int, Any]:
    """Fetch a JSON page."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        return reply.status, await reply.json()


async def page(url: str) -> str:
    """Fetch a page of text."""
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        return await reply.text()


async def until(claim: Any) -> bool:
    """Wait until an async claim is true."""
    async with asyncio.timeout(WAIT_S):
        while not await claim():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.02)
    return True


async def test_what_happens_is_in_the_log(tmp_path: Path) -> None:
    """That Handrail started and under which policies, each call before and after, a reload, and that it stopped; and of
    what was said there is nothing. The key is its owner's alone."""
    settings = await off(written, tmp_path, "audit: {}\n")
    async with app.running(settings) as here:
        await ask(here)
        await ask(here, "the secret word")
        await off((tmp_path / "policy.yaml").write_text, POLICY.replace("1.0.0", "1.0.1"))
        log = tmp_path / ".handrail" / "audit"
        assert await until(lambda: off(lambda: "reloaded" in kinds(log)))
        token = (await off(here.admin_token_path.read_text)).strip()
        status = (await get(f"http://{here.admin_listen}/status", token))[1]["audit"]

    found = await off(entries, log)
    assert ["opened", "started", "dispatched", "call", "call", "reloaded", "stopped"] == [e["kind"] for e in found]
    assert ["complete", "denied"] == [entry["state"] for entry in found if entry["kind"] == "call"]
    assert ["p/no@1.0.0"] == found[4]["decisions"][0]["rules"]
    assert 2 == len({found[1]["policies"], found[5]["policies"]})
    assert (False, "", False) == (status["required"], status["trouble"], b"secret word" in await off(all_of, log))
    assert ((), 7) == ((report := await off(look, log)).problems, report.signed)
    assert 0o600 == stat.S_IMODE((tmp_path / ".handrail" / "audit.key").stat().st_mode)


def all_of(folder: Path) -> bytes:
    """Read all files of a folder."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_without_the_key_there_is_none(tmp_path: Path) -> None:
    """No file, and nothing on the status page."""
    settings = await off(written, tmp_path, "")
    async with app.running(settings) as here:
        token = (await off(here.admin_token_path.read_text)).strip()

        assert (await get(f"http://{here.admin_listen}/status", token))[1]["audit"] is None
    assert {"handrail.sqlite", "handrail.sqlite-ballast", "admin.token", "customer.key", "vault.key"} == {
        p.name for p in (tmp_path / ".handrail").iterdir()
    }


async def test_places_can_be_named(tmp_path: Path) -> None:
    """`path`, `key_file` and `anchor.path` are where the config says, and the key is used that lies there."""
    seed = "07" * 32
    await off((tmp_path / "my.key").write_text, seed)
    keys = "audit: {path: my-log, key_file: my.key, anchor: {path: kept}}\n"
    async with app.running(await off(written, tmp_path, keys)) as here:
        await ask(here)

    log = tmp_path / "my-log"
    assert audit.Signer("x", bytes.fromhex(seed)).verifier.public == (await off(journal.key_of, log)).public
    report = await off(look, log, tmp_path / "kept")
    assert ((), report.entries) == (report.problems, report.anchored)


@pytest.mark.parametrize("key", ["", "07", "x" * 64])
async def test_a_key_that_is_none_is_told(tmp_path: Path, key: str) -> None:
    """Nothing starts."""
    await off((tmp_path / "my.key").write_text, key)

    with pytest.raises(ConfigError, match=r"audit\.key_file: .* is no private key"):
        async with app.running(await off(written, tmp_path, "audit: {key_file: my.key}\n")):
            pass


@asynccontextmanager
async def keeper() -> AsyncIterator[tuple[str, list[str]]]:
    """Keep checkpoints on loopback; the first answer is a failure."""
    kept: list[str] = []

    async def take(request: web.Request) -> web.Response:
        kept.append(await request.text())
        return web.Response(status=503 if len(kept) == 1 else 200)

    site = web.Application()
    site.router.add_post("/keep", take)
    runner = web.AppRunner(site)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/keep", kept
    finally:
        await runner.cleanup()


async def test_checkpoints_are_sent_to_where_they_are_kept(tmp_path: Path) -> None:
    """`anchor.url` gets the newest until it takes it, and at the end the one that covers all."""
    async with keeper() as (url, kept):
        settings = await off(written, tmp_path, f"audit: {{anchor: {{url: '{url}'}}}}\n")
        async with app.running(settings) as here:
            await ask(here)

            async def took() -> bool:
                return len(kept) >= 2

            assert await until(took)
        await off((tmp_path / "anchor").write_text, "".join(kept))

    report = await off(look, tmp_path / ".handrail" / "audit", tmp_path / "anchor")
    assert ((), report.entries, kept[0]) == (report.problems, report.anchored, kept[1])


@contextmanager
def full_disk(here: app.Running) -> Iterator[None]:
    """Let the log's file be on a disk that is full, and the records on one that is not."""
    assert here.audit_log
    file = here.audit_log._log._entries._file
    kept, full = os.dup(file), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file)
    try:
        yield
    finally:
        os.dup2(kept, file)
        os.close(kept)
        os.close(full)


async def test_where_it_is_required_nothing_goes_unlogged(tmp_path: Path) -> None:
    """While it cannot be written, calls are refused with a typed 503 before anything is sent, and /readyz says why;
    once it can, all is as before."""
    async with app.running(await off(written, tmp_path, "audit: {required: true}\n")) as here:
        assert 200 == (await ask(here))[0]
        with full_disk(here):
            refused = [await ask(here) for _ in range(2)]
            ready = await get(f"http://{here.health_listen}/readyz")

        assert [(503, "audit_unavailable")] * 2 == [(status, body["error"]["code"]) for status, body in refused]
        assert (503, "the audit log cannot be written") == (ready[0], ready[1]["reasons"][0].partition(":")[0])

        async def ready_again() -> bool:
            return (await get(f"http://{here.health_listen}/readyz"))[0] == 200

        assert await until(ready_again)
        assert 200 == (await ask(here))[0]
    found = await off(entries, tmp_path / ".handrail" / "audit")
    assert [("complete", 1), ("fault", 1), ("fault", 1), ("complete", 1)] == [
        (entry["state"], len(entry["attempts"])) for entry in found if "state" in entry
    ]
    assert [["not_sent"]] * 2 == [[one["error"] for one in e["attempts"]] for e in found if e.get("state") == "fault"]


async def test_where_it_is_not_required_calls_go_on(tmp_path: Path) -> None:
    """And are on record once the log can be written; meanwhile a metric says that it cannot."""
    async with app.running(await off(written, tmp_path, "audit: {required: false}\n")) as here:
        metrics = f"http://{here.health_listen}/metrics"
        assert "handrail_audit_unwritable 0" in await page(metrics)
        with full_disk(here):
            assert 200 == (await ask(here))[0]

            async def troubled() -> bool:
                return bool(here.audit_log and here.audit_log.trouble)

            assert await until(troubled)
            assert 200 == (await get(f"http://{here.health_listen}/readyz"))[0]
            assert "handrail_audit_unwritable 1" in await page(metrics)
    found = await off(entries, tmp_path / ".handrail" / "audit")
    assert ["complete"] == [entry["state"] for entry in found if "state" in entry]


def test_a_killed_handrail_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    """Killed, it leaves what it had written; the next start says so, and the command line proves all of it."""
    written(tmp_path, "audit: {required: true, anchor: {path: anchor}}\n")
    for number, ending in ((signal.SIGKILL, -9), (signal.SIGTERM, 0)):
        server = serve(tmp_path)
        assert server.stdout
        url = next(found[1] for line in server.stdout if (found := re.search(r"OPENAI_BASE_URL=(\S+)", line)))
        asyncio.run(call(url))
        os.kill(server.pid, number)
        server.communicate()
        assert ending == server.returncode

    log = tmp_path / ".handrail" / "audit"
    assert 1 == kinds(log).count("recovered")
    assert 2 == kinds(log).count("dispatched")
    assert 0 == main(["audit", "verify", "--config", str(tmp_path / "handrail.yaml"), "--records"])


def serve(folder: Path) -> subprocess.Popen[str]:
    """Start a Handrail of its own."""
    command = [sys.executable, "-m", "proxy", "serve", "--config", "handrail.yaml"]
    environment = os.environ | {"PYTHONPATH": str(Path(app.__file__).parents[1])}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


async def call(url: str) -> None:
    """Send one call."""
    body: Json = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}]}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/chat/completions", json=body) as reply:
        assert 200 == reply.status
