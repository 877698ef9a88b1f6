"""Owns the proof of the secrets that an installation has."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from proxy import app
from proxy.errors import ConfigError
from proxy.stores import sqlite
from tests.app.running import ASK, CONFIG, ask, get, options, token_of


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


async def test_handrails_that_share_a_key_know_a_customer_as_the_same(folder: Path) -> None:
    """`state.customer_key_file` says which; without it each has its own, made at the first start, its owner's alone."""
    await asyncio.to_thread((folder / "shared").write_text, "5" * 64)
    keys = ("path: a/h.db", "path: b/h.db, customer_key_file: shared", "path: c/h.db, customer_key_file: shared")
    told = []
    for state in keys:
        settings = await asyncio.to_thread(options, folder)
        text = f"{CONFIG}state: {{{state}}}\n"
        await asyncio.to_thread((folder / "handrail.yaml").write_text, text)
        async with app.running(settings) as here:
            await ask(here, {**ASK, "user": "ann"})
        with sqlite.Reader(str(folder / state[6:12])) as reader:
            told += [exchange.customer for _, exchange in reader.tail(1)]

    assert (2, told[1], True) == (len(set(told)), told[2], all(told))
    assert 0o600 == stat.S_IMODE((folder / "a" / "customer.key").stat().st_mode)


KEEPS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: keep, phase: post, when: "true", action: record}]}
"""


@pytest.mark.parametrize(("key", "shows"), [("", True), ("state: {content_key_file: content.key}\n", False)])
async def test_content_is_sealed_where_a_key_is_named(folder: Path, key: str, shows: bool) -> None:
    """With `state.content_key_file` what a rule keeps of a call stands in no byte beside the records."""
    await asyncio.to_thread((folder / "content.key").write_text, f"{'ab' * 32}\n")
    await asyncio.to_thread((folder / "policy.yaml").write_text, KEEPS)
    async with app.running(await asyncio.to_thread(options, folder, key)) as here:
        await ask(here, {**ASK, "messages": [{"role": "user", "content": "the canary sings"}]})

    def all_bytes() -> bytes:
        return b"".join(path.read_bytes() for path in (folder / ".handrail").iterdir())

    assert shows == (b"the canary sings" in await asyncio.to_thread(all_bytes))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        pytest.param(
            None, r"content\.key cannot be read: No such file .*`openssl rand -hex 32` makes a key", id="none"
        ),
        pytest.param(b"\xff", r"content\.key cannot be read: it is not text", id="bytes"),
        pytest.param(b"ab\n", r"content\.key:1: is no key: it has 32 bytes in hexadecimal", id="too short"),
    ],
)
async def test_a_content_key_that_is_none_is_told(folder: Path, key: bytes | None, says: str) -> None:
    """It is never made in the place of one that was only forgotten: nothing starts."""
    if key is not None:
        await asyncio.to_thread((folder / "content.key").write_bytes, key)

    with pytest.raises(ConfigError, match=says):
        async with app.running(await asyncio.to_thread(options, folder, "state: {content_key_file: content.key}\n")):
            pass


async def test_a_key_that_could_be_guessed_is_told(folder: Path) -> None:
    """An empty or short file is no key."""
    await asyncio.to_thread((folder / "short").write_text, "x" * 31)

    with pytest.raises(ConfigError, match=r"state\.customer_key_file: .*short is too short to be a key"):
        async with app.running(await asyncio.to_thread(options, folder, "state: {customer_key_file: short}\n")):
            pass


async def test_a_signing_key_that_is_none_is_told(folder: Path) -> None:
    """What no receiver could check with is refused at the start."""
    await asyncio.to_thread((folder / "secret").write_text, "short")
    handoff = "handoff: {url: 'http://127.0.0.1:1/', secret_file: secret}\n"

    with pytest.raises(ConfigError):
        async with app.running(await asyncio.to_thread(options, folder, handoff)):
            pass
