"""Owns the proof that crashes of the whole proxy lose nothing, on a few kills, and that the audit would notice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.kill_proxy import CAP_NANOUSD, audit
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.file import connect
from proxy.terms import Attempt, Caller, Cost, Exchange, Level, Limit, Reservation, Session, Settlement, State, Target

ROOT = Path(__file__).parents[2]
AT_MS = 1_767_225_600_000
PAIR = ("conversation:s", "all")


def test_a_killed_proxy_loses_nothing() -> None:
    """Eight processes killed under load leave every billed call on record once, at its price, and no hold behind."""
    loop = [sys.executable, str(ROOT / "bench" / "kill_proxy.py"), "--kills", "8", "--seed", "7"]
    ran = subprocess.run(loop, capture_output=True, text=True, cwd=ROOT, check=False)

    assert (0, "nothing lost, nothing doubled") == (ran.returncode, ran.stdout.rpartition(": ")[2].strip()), ran.stdout


def exchange(name: str, state: State, *, nanousd: int | None = None, held: int = 0, sent: str = "") -> Exchange:
    """Make the record of a call with one attempt."""
    attempt = Attempt(
        number=1,
        reservation_id=f"{name}:1",
        target=Target(alias="limited", provider="bench", model="limited"),
        started_ms=AT_MS,
        state=state,
        held_nanousd=held,
        cost=Cost(nanousd=nanousd),
        counters=(PAIR,),
    )
    return Exchange(
        id=name,
        started_ms=AT_MS,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="a", level=Level.EXECUTE, principal="p"),
        session=Session(id="s"),
        stream=False,
        model_asked="limited",
        state=state,
        attempts=(attempt,),
        sent_digest=sent or name,
    )


def settle(books: Books, name: str, nanousd: int) -> None:
    """Add a call's cost to the counter."""
    books.settle(Settlement(reservation_id=f"{name}:1", nanousd=nanousd, tokens=0, counters=(PAIR,)), AT_MS)


def done(books: Books, state: State = State.COMPLETE, cost: int = 45) -> None:
    """One call that went as it should."""
    books.finish(exchange("one", state, nanousd=cost, held=100))
    settle(books, "one", cost)


def in_flight(books: Books) -> None:
    """A call that nobody closed, though its cost was booked."""
    done(books)
    books.dispatch(exchange("two", State.DISPATCHED, nanousd=5), 1)
    settle(books, "two", 5)


def doubled(books: Books) -> None:
    """Two records of what was sent once."""
    done(books)
    books.finish(exchange("two", State.COMPLETE, nanousd=5, sent="one"))
    settle(books, "two", 5)


def phantom(books: Books) -> None:
    """A hold of a process that is gone."""
    done(books)
    limit = Limit(rule="r", scope=PAIR[0], window=PAIR[1], cap_nanousd=1_000)
    books.reserve(Reservation(id="two:1", amount_nanousd=5, limits=(limit,), expires_ms=AT_MS), AT_MS)


def drift(books: Books) -> None:
    """A settlement without a record."""
    done(books)
    settle(books, "two", 1)


def cheap(books: Books) -> None:
    """A call closed by recovery for less than the provider billed."""
    done(books, State.RECOVERED, 44)


def spent(books: Books) -> None:
    """A call that cost more than its conversation may."""
    done(books, cost=CAP_NANOUSD + 1)


@pytest.mark.parametrize(
    ("history", "bill", "problems"),
    [
        pytest.param(done, [("one", 45)], [], id="all is well"),
        pytest.param(done, [("one", 45), ("two", 1)], ["1 billed calls without a record"], id="lost"),
        pytest.param(doubled, [("one", 5)], ["1 calls with two records"], id="doubled"),
        pytest.param(done, [("one", 45), ("one", 45)], ["1 calls sent twice"], id="sent twice"),
        pytest.param(in_flight, [("one", 45)], ["1 calls left in flight"], id="in flight"),
        pytest.param(phantom, [("one", 45)], ["1 counters that still hold money"], id="phantom"),
        pytest.param(drift, [("one", 45)], ["1 counters that are not the sum of their attempts"], id="drift"),
        pytest.param(done, [("one", 44)], ["1 calls booked at other than their bill"], id="too dear"),
        pytest.param(cheap, [("one", 45)], ["1 calls booked at other than their bill"], id="too cheap"),
        pytest.param(spent, [("one", CAP_NANOUSD + 1)], ["1 caps exceeded"], id="over the cap"),
    ],
)
def test_the_audit_notices(
    tmp_path: Path, history: Callable[[Books], None], bill: list[tuple[str, int]], problems: list[str]
) -> None:
    """Each kind of loss is named, and nothing else with it."""
    path = tmp_path / "state.sqlite"
    connection = connect(str(path))
    books = Books(connection)
    books.commit([lambda: history(books)])
    connection.close()

    _, found = audit(path, bill)

    assert problems == found
