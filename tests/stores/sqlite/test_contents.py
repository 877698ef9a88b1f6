"""Owns the proof of proxy/stores/sqlite/contents.py: with a key, what was said stands in no byte of the file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.errors import ConfigError, Overloaded
from proxy.sealing import KEY_BYTES, NONCE_BYTES, PLAIN, Seal
from proxy.stores import sqlite
from proxy.terms import Checked, Decision, Facts, HeldState, Kept, Message, Phase, Request, Session, Verdict
from tests.stores.samples import AT_MS, LATER_MS, exchange, handoff, held

CANARY = "the canary sings"
DIGEST = "a digest of what it sings"
MINE, OTHER = (Seal([secret * KEY_BYTES], partial(os.urandom, NONCE_BYTES)) for secret in (b"m", b"o"))
KEPT = Kept(
    exchange_id="ex_1",
    at_ms=AT_MS,
    policy_digest="",
    checks=(
        Checked(
            facts=Facts(
                at_ms=AT_MS,
                caller=exchange("ex_1").caller,
                request=Request(
                    dialect="chat", model="m", messages=(Message(role="user", text=CANARY),), body={}, raw=b""
                ),
                session=Session(id="s"),
            ),
            decision=Decision(id="d", phase=Phase.REQUEST, verdict=Verdict.ALLOW),
        ),
    ),
)
HELD = replace(held("ap_1"), arguments=f'{{"note":"{CANARY}"}}', key=DIGEST)
HANDOFF = replace(handoff("ho_1"), summary=CANARY)


async def write(path: Path, seal: Seal) -> bytes:
    """Put content into a store; return every byte of its files while it is open, and once it is closed."""
    async with sqlite.open(sqlite.Settings(path=str(path), seal=seal, checkpoint_s=0.05)) as store:
        store.keep(KEPT)
        await store.hold(HELD)
        await store.decide("ap_1", HeldState.APPROVED, "ann", CANARY, AT_MS)
        await store.hand_over(HANDOFF)
        said = b"".join(file.read_bytes() for file in path.parent.iterdir())
    return said + b"".join(file.read_bytes() for file in path.parent.iterdir())


@pytest.mark.parametrize(
    ("seal", "shows"), [pytest.param(MINE, False, id="sealed"), pytest.param(PLAIN, True, id="not")]
)
async def test_what_was_said_is_in_no_byte_of_the_files(tmp_path: Path, seal: Seal, shows: bool) -> None:
    """Neither in the database nor in its log, where a key is configured, and no digest of it either; without one they
    are found."""
    files = await write(tmp_path / "handrail.db", seal)

    assert [shows, shows] == [text.encode() in files for text in (CANARY, DIGEST)]


async def test_whoever_has_the_key_reads_as_before(tmp_path: Path) -> None:
    """The desk, deliveries, house-keeping and the reader beside it give what was put in."""
    await write(path := tmp_path / "handrail.db", MINE)
    async with sqlite.open(sqlite.Settings(path=str(path), seal=MINE)) as store:
        [packet], [delivery], [action] = (
            await store.handoffs(True, 9),
            await store.due(AT_MS, 9),
            await store.held(None, 9),
        )
        again = await store.hand_over(handoff("ho_2"))
        await store.recover(LATER_MS)
        late = await store.use(DIGEST, LATER_MS)
        closed = await store.close_handoff("ho_1", "ann", AT_MS)

    assert ([HANDOFF] * 3, HELD.arguments) == ([packet, delivery.handoff, again], action.arguments)
    assert (HeldState.EXPIRED, CANARY) == (late and late.state, closed and closed.summary)
    with sqlite.Reader(str(path), MINE) as reader:
        assert (KEPT, [KEPT]) == (reader.kept_of("ex_1"), list(reader.kept(0)))


@pytest.mark.parametrize("seal", [pytest.param(OTHER, id="another key"), pytest.param(PLAIN, id="no key")])
async def test_without_the_key_it_is_an_error(tmp_path: Path, seal: Seal) -> None:
    """Whoever reads is told which key is missing, and nothing starts: an empty answer would be a wrong one."""
    await write(path := tmp_path / "handrail.db", MINE)

    with sqlite.Reader(str(path), seal) as reader, pytest.raises(Overloaded, match="facts ex_1 is sealed with key"):
        reader.kept_of("ex_1")
    with pytest.raises(ConfigError, match=r"ex_1 is sealed with key .*`state\.content_key_file` does not have"):
        async with sqlite.open(sqlite.Settings(path=str(path), seal=seal)):
            pass


async def test_bodies_cannot_be_swapped(tmp_path: Path) -> None:
    """Whoever can write to the file cannot put one action's arguments in the place of another's."""
    path = tmp_path / "handrail.db"
    async with sqlite.open(sqlite.Settings(path=str(path), seal=MINE)) as store:
        for name in ("ap_1", "ap_2", "ap_3"):
            await store.hold(replace(held(name, key=name), arguments=name))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE held SET body = (SELECT body FROM held WHERE id = 'ap_2') WHERE id = 'ap_1'")

    async with sqlite.open(sqlite.Settings(path=str(path), seal=MINE)) as store:
        with pytest.raises(Overloaded, match="held ap_1 is not as it was sealed"):
            await store.use("ap_1", AT_MS)
        assert "ap_2" == getattr(await store.use("ap_2", AT_MS), "arguments", "")


async def test_what_was_there_before_the_key_is_still_read(tmp_path: Path) -> None:
    """A key that is configured later seals what comes from then on."""
    path = tmp_path / "handrail.db"
    await write(path, PLAIN)
    async with sqlite.open(sqlite.Settings(path=str(path), seal=MINE)) as store:
        store.keep(replace(KEPT, exchange_id="ex_2"))

    with sqlite.Reader(str(path), MINE) as reader:
        assert [KEPT.checks] * 2 == [kept.checks for kept in reader.kept(0)]
