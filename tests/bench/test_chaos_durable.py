"""Owns the proof of what rows R8, R14 and R15 count."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from bench.chaos.durable import bare_ms, quantile
from bench.chaos.provider import Charge
from bench.chaos.rows import r14, r15
from bench.chaos.rows_api import Plan, within
from proxy.stores import sqlite
from proxy.terms import Exchange
from tests.stores.samples import exchange

SENT = "d" * 32
SALT = b"s" * 32


def charged(digest: str) -> Charge:
    """Make a line of the bill."""
    return Charge(
        call=1, digest=digest, user="u", status=200, input_tokens=1, output_tokens=1, nanousd=1, at_ms=0
    )  # fmt: skip


async def recorded(path: Path, sent: Exchange) -> None:
    async with sqlite.open(sqlite.Settings(path=str(path))) as store:
        store.finish(sent)


def logged(disk: Path, sealed: str) -> list[Charge]:
    """Leave a record and an entry of the audit log of one call, bound to these bytes; return its bill."""
    folder = disk / ".handrail" / "audit"
    folder.mkdir(parents=True)
    sent = replace(exchange("ex_1"), sent_digest=SENT)
    asyncio.run(recorded(disk / ".handrail" / "handrail.sqlite", sent))
    bound = hmac.digest(SALT, b"sent\0" + sealed.encode(), hashlib.sha256).hex()
    entry = {"kind": "dispatched", "id": "ex_1", "sealed": {"sent": bound}}
    (folder / "entries-000000000000.jsonl").write_bytes(msgspec.json.encode(entry) + b"\n")
    (folder / "salts-000000000000.bin").write_bytes(SALT)
    return [charged(sent.sent_digest)]


def test_a_call_that_is_logged_counts_as_logged(tmp_path: Path) -> None:
    """With its record, and an entry that is bound to what the provider got."""
    bill = logged(tmp_path, SENT)

    counted = r14.unlogged(tmp_path, bill)

    assert (0, 0, 1) == tuple(
        counted[name] for name in ("unlogged allowed calls", "without a record", "without a logged end")
    )


@pytest.mark.parametrize("missing", ["entry", "bytes", "record"])
def test_a_call_that_is_not_logged_is_found(tmp_path: Path, missing: str) -> None:
    """Whether the log has no entry of it, one of other bytes, or the records do not know it."""
    bill = logged(tmp_path, "other bytes" if missing == "bytes" else SENT)
    if missing == "entry":
        (tmp_path / ".handrail" / "audit" / "entries-000000000000.jsonl").write_bytes(b"")
    if missing == "record":
        bill = [charged("of another call")]

    counted = r14.unlogged(tmp_path, bill)

    assert (1, int(missing == "record")) == (counted["unlogged allowed calls"], counted["without a record"])


def test_without_root_the_disk_is_not_filled(tmp_path: Path) -> None:
    """The row says that it was not run, and is not met."""
    outcome = r14.run(Plan(seed=1, full=False, folder=tmp_path), user=1000)

    assert (False, ("not run: mounting a small file system needs root",)) == (outcome.met, outcome.notes)


def test_a_full_disk_is_full_to_the_last_byte(tmp_path: Path) -> None:
    """Ever smaller pieces are written until none fits."""
    room = 100_000
    written: list[int] = []

    def write(_: int, data: bytes) -> int:
        if sum(written) + len(data) > room:
            raise OSError(28, "No space left on device")
        written.append(len(data))
        return len(data)

    r14.fill(tmp_path / "filler", write)

    assert room == sum(written)


def test_the_disk_is_measured(tmp_path: Path) -> None:
    """Each sync counts, and nothing is left."""
    took = [bare_ms(tmp_path, grow=grow, syncs=3) for grow in (True, False)]

    assert ([3, 3], []) == ([len(ms) for ms in took], list(tmp_path.iterdir()))


@pytest.mark.parametrize(("share", "value"), [(0.5, 51), (0.99, 100)])
def test_quantiles(share: float, value: float) -> None:
    """Of no values, none is within any bound."""
    assert (value, float("inf")) == (quantile(range(1, 101), share), quantile([], share))


def test_an_overhead_is_the_difference_of_two_distributions() -> None:
    """At the middle and at the end of each; where nothing was measured it is within no bounds."""
    found = r15.differences("x", [3.0] * 98 + [9.0] * 2, [1.0] * 98 + [4.0] * 2)

    assert {"x, p50, ms": 2.0, "x, p99, ms": 5.0} == found
    assert not within(r15.differences("x", [], [1.0]), most={"x, p50, ms": 2})
