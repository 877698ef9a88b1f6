"""Owns the proof that key sets are at hand, newest first, and that no failure takes a good one away."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from proxy.credentials import AGAIN_MS, MAX_BYTES, Fetched, Source, keep_fresh
from tests.fakes import FakeClock
from tests.identity.issuing import issuer, jwks
from tests.upstream.scripted import CERTIFICATE


def source(url: str, **more: object) -> Source:
    """Name where a set is."""
    plain = Source(url=url, algorithms=("EdDSA",), refresh_s=300.0, max_age_s=3600.0)
    return msgspec.structs.replace(plain, **more)


def held(sets: Fetched, url: str) -> list[str]:
    """Return the ids of the keys that are at hand."""
    found = sets.find(url)
    return sorted(found.keys) if found else []


async def test_a_set_is_fetched_when_it_is_due() -> None:
    """The first at once, the next after `refresh_s`; it may be believed for `max_age_s` from then."""
    sets, clock = Fetched(), FakeClock()
    start, asked = clock.at_ms, []
    async with issuer() as site:
        for at_s in (0, 1, 299, 300):
            clock.at_ms = start + at_s * 1000
            await sets.refresh(source(site.url), clock)
            asked.append(len(site.asked))
        found = sets.find(site.url)

    assert [1, 1, 1, 2] == asked
    assert found
    assert (["ed"], start + (300 + 3600) * 1000) == (sorted(found.keys), found.until_ms)


async def test_the_same_set_is_the_same_keys() -> None:
    """What comes again unchanged is not another set, so nothing that was proven by it is forgotten; a new one is."""
    sets, clock = Fetched(), FakeClock()
    seen: list[object] = []
    async with issuer() as site:
        for answer in (jwks("ed"), jwks("ed"), jwks("ed", kid="new")):
            site.answer = (200, answer)
            await sets.refresh(source(site.url), clock)
            found = sets.find(site.url)
            assert found
            seen.append(found.keys)
            clock.at_ms += 300_000

    assert (True, False) == (seen[0] is seen[1], seen[1] is seen[2])
    assert ["new"] == held(sets, site.url)


@pytest.mark.parametrize(
    ("answer", "headers", "trouble"),
    [
        pytest.param((503, b""), {}, "HTTP 503", id="an error"),
        pytest.param((302, b""), {"location": "http://127.0.0.1:1/"}, "HTTP 302", id="a redirect"),
        pytest.param((200, b"<html>"), {}, "it is no JWK set", id="a page"),
        pytest.param((200, jwks("rsa")), {}, "there is no key in it", id="another algorithm"),
        pytest.param((200, b" " * (MAX_BYTES + 1)), {}, "it is larger than", id="a flood"),
    ],
)
async def test_the_last_good_set_stays(answer: tuple[int, bytes], headers: dict[str, str], trouble: str) -> None:
    """Whatever comes instead of a set is told and changes nothing; it is asked again soon, and a good one cures it."""
    sets, clock = Fetched(), FakeClock()
    async with issuer() as site:
        await sets.refresh(source(site.url), clock)
        site.answer, site.headers = answer, headers
        clock.at_ms += 300_000
        await sets.refresh(source(site.url), clock)
        told, kept = sets.trouble, held(sets, site.url)
        site.answer, site.headers = (200, jwks("ed", kid="new")), {}
        for _ in range(2):
            clock.at_ms += AGAIN_MS // 2
            await sets.refresh(source(site.url), clock)

    assert (f"{site.url}: {trouble}", ["ed"]) == (told[: len(f"{site.url}: {trouble}")], kept)
    assert (3, "", ["new"]) == (len(site.asked), sets.trouble, held(sets, site.url))


async def test_a_missing_key_is_asked_for_soon_but_not_each_time() -> None:
    """An unknown key has the set fetched early, once in a while: nobody can have it fetched with each call."""
    sets, clock, asked = Fetched(), FakeClock(), []
    async with issuer() as site:
        await sets.refresh(source(site.url), clock)
        for _ in range(4):
            sets.ask(site.url)
            clock.at_ms += AGAIN_MS // 2
            await sets.refresh(source(site.url), clock)
            asked.append(len(site.asked))

    assert [1, 2, 2, 3] == asked


async def test_an_address_where_nobody_listens_is_told() -> None:
    """No answer is a trouble with a name, and no set."""
    sets = Fetched()
    await sets.refresh(source("http://127.0.0.1:1/jwks"), FakeClock())

    assert ("http://127.0.0.1:1/jwks: ClientConnectorError", []) == (
        sets.trouble,
        held(sets, "http://127.0.0.1:1/jwks"),
    )


@pytest.mark.parametrize(
    ("ca_file", "kids"), [pytest.param(CERTIFICATE, ["ed"], id="known"), pytest.param(None, [], id="a stranger")]
)
async def test_the_server_has_to_prove_itself(ca_file: Path | None, kids: list[str]) -> None:
    """A set comes only from a server whose certificate somebody vouches for: `jwks_ca_file`, or the system."""
    sets = Fetched()
    async with issuer(tls=True) as site:
        await sets.refresh(source(site.url, ca_file=ca_file), FakeClock())

    assert kids == held(sets, site.url)
    assert bool(kids) is (not sets.trouble)


async def test_the_token_for_the_server_is_read_each_time(tmp_path: Path) -> None:
    """What `jwks_token_file` has now is shown: such tokens are replaced while Handrail runs."""
    sets, clock, path = Fetched(), FakeClock(), tmp_path / "token"
    async with issuer() as site:
        for text in ("one\n", "two\n"):
            await asyncio.to_thread(path.write_text, text)
            await sets.refresh(source(site.url, token_file=path), clock)
            clock.at_ms += 300_000

    assert ["Bearer one", "Bearer two"] == site.asked


async def test_trouble_is_told_when_it_changes() -> None:
    """The task fetches whatever source is named now, and tells of trouble and of its end once each."""
    sets, clock = Fetched(), FakeClock()
    told: list[str] = []
    async with issuer() as site:
        named = [None, source("http://127.0.0.1:1/jwks"), source("http://127.0.0.1:1/jwks"), source(site.url)]

        async def rest(_: float) -> None:
            clock.at_ms += AGAIN_MS
            if not named:
                raise asyncio.CancelledError

        with contextlib.suppress(asyncio.CancelledError):
            await keep_fresh(sets, lambda: named.pop(0), clock, tell=told.append, sleep=rest)

    assert ["http://127.0.0.1:1/jwks: ClientConnectorError", ""] == told
