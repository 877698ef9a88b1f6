"""Owns the proof that all listeners open, and what is told of one that cannot."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from proxy import app
from proxy.errors import ConfigError
from proxy.identity import new_key
from tests.app.running import ASK, CONFIG, ask, get, options, token_of


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


async def test_a_socket_without_its_folder_says_what_to_do(folder: Path) -> None:
    """Where a listener cannot open, the message says what to do about it."""
    text = (CONFIG + "policies: [policy.yaml]\n").replace("\nlisten: 127.0.0.1:0", "\nlisten: unix:/nowhere/a.sock")
    await asyncio.to_thread((folder / "handrail.yaml").write_text, text)
    settings = await asyncio.to_thread(options, folder)

    with pytest.raises(ConfigError, match=r"cannot listen on unix:/nowhere/a.sock: No such .*make the folder first"):
        async with app.running(settings):
            pass


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


@pytest.mark.parametrize(("more", "mode"), [("", 0o600), ("socket_mode: '0660'\n", 0o660)], ids=["default", "group"])
async def test_the_socket_s_mode_says_who_may_connect(folder: Path, more: str, mode: int) -> None:
    """Where `listen` is a Unix socket only this user may connect, or whom `socket_mode` names."""
    path = folder / "handrail.yaml"
    await asyncio.to_thread(path.write_text, CONFIG.replace("\nlisten: 127.0.0.1:0", f"\nlisten: unix:{folder}/s"))
    settings = await asyncio.to_thread(options, folder, more)
    async with app.running(settings):
        found = await asyncio.to_thread((folder / "s").stat)

    assert mode == stat.S_IMODE(found.st_mode)


async def test_a_key_sees_and_asks_for_its_own_models_alone(folder: Path) -> None:
    """The scope of a key holds for the list, for one model and for calls; the name of another is not told apart from
    one that does not exist."""
    text, digest = new_key(bytes(16))
    keys = f"- {{name: web, sha256: {digest}, models: [small]}}\n"
    await asyncio.to_thread((folder / "keys.yaml").write_text, keys)
    models = "models: {large: {provider: model}, small: {provider: model, model: gpt-5-mini}}\n"
    settings = await asyncio.to_thread(options, folder, models + "auth: {keys_file: keys.yaml}\n")
    async with app.running(settings) as here:
        said = [await ask(here, {**ASK, "model": name}, text) for name in ("small", "large", "gone")]
        listed = await get(f"{here.base_url}/models", text)
        single = [await get(f"{here.base_url}/models/{name}", text) for name in ("large", "gone")]

    assert ["small"] == [model["id"] for model in listed[1]["data"]]
    assert ["model_not_allowed"] * 2 == [reply["error"]["code"] for reply in said[1:]]
    assert said[1] == said[2]
    assert isinstance(said[0], str)
    assert [(404, "model_not_found")] * 2 == [(status, reply["error"]["code"]) for status, reply in single]
