"""Owns the proof of the secrets that an installation has."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from proxy import app
from proxy.errors import ConfigError
from tests.app.running import get, options, token_of


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


async def test_a_signing_key_that_is_none_is_told(folder: Path) -> None:
    """What no receiver could check with is refused at the start."""
    await asyncio.to_thread((folder / "secret").write_text, "short")
    handoff = "handoff: {url: 'http://127.0.0.1:1/', secret_file: secret}\n"

    with pytest.raises(ConfigError):
        async with app.running(await asyncio.to_thread(options, folder, handoff)):
            pass
