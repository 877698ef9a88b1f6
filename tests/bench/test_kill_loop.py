"""Owns the proof that crashes lose nothing, on a few kills, and that the audit behind it would notice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.kill_loop import audit
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.file import connect
from proxy.terms import State
from tests.stores.samples import AT_MS, LEASE_MS, attempt, exchange, limit, reservation, sent, settlement

DRIFT = "1 counters that are not the sum of their records"
ROOT = Path(__file__).parents[2]


def test_killed_processes_lose_nothing() -> None:
    """Ten processes killed under load leave every dispatched call on record once, and the counters in balance."""
    loop = [sys.executable, str(ROOT / "bench" / "kill_loop.py"), "--kills", "10", "--seed", "7"]
    ran = subprocess.run(loop, capture_output=True, text=True, cwd=ROOT, check=False)

    assert (0, "nothing lost, nothing doubled", "") == (ran.returncode, ran.stdout.splitlines()[-1], ran.stderr)


def done(books: Books) -> None:
    """One call that went as it should: it cost 45."""
    books.dispatch(sent("ex_1"), LEASE_MS)
    books.finish(exchange("ex_1", State.COMPLETE, attempt("ex_1", 1, State.COMPLETE, 45)))
    books.settle(settlement("ex_1", 45), AT_MS)


def in_flight(books: Books) -> None:
    """A call that nobody closed."""
    done(books)
    books.dispatch(sent("ex_2"), LEASE_MS)


def doubled(books: Books) -> None:
    """A call that is finished, and in flight once more."""
    done(books)
    books.dispatch(sent("ex_1"), LEASE_MS)


def phantom(books: Books) -> None:
    """A hold of a process that is gone."""
    done(books)
    books.reserve(reservation("ex_2", 5, limit()), AT_MS)


def drift(books: Books) -> None:
    """A settlement without a record."""
    done(books)
    books.settle(settlement("ex_2", 1), AT_MS)


@pytest.mark.parametrize(
    ("history", "bill", "problems"),
    [
        pytest.param(done, "ex_1 45\n", [], id="all is well"),
        pytest.param(done, "ex_1 45\nex_2 1\n", ["1 billed calls without a record"], id="lost"),
        pytest.param(done, "ex_1 46\n", ["1 calls that cost less than was billed"], id="too cheap"),
        pytest.param(phantom, "", ["1 holds that outlived their lease"], id="phantom"),
        pytest.param(drift, "", [DRIFT], id="drift"),
        pytest.param(in_flight, "", ["1 calls left in flight", DRIFT], id="in flight"),
        pytest.param(doubled, "", ["1 calls with two records", "1 calls left in flight", DRIFT], id="doubled"),
    ],
)
def test_the_audit_notices(tmp_path: Path, history: Callable[[Books], None], bill: str, problems: list[str]) -> None:
    """Each kind of loss is named."""
    path, paper = tmp_path / "handrail.db", tmp_path / "bill"
    paper.write_text(bill, encoding="ascii")
    connection = connect(str(path))
    books = Books(connection)
    books.commit([lambda: history(books)])
    connection.close()

    _, found = audit(str(path), str(paper))

    assert problems == found
