"""Owns the proof that all listeners open, and what is told of one that cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy import app
from proxy.errors import ConfigError
from tests.app.running import CONFIG, get, options, token_of


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
