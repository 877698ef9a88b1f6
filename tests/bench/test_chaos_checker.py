"""Owns the proof that the checker finds what is wrong: books that are right, then each damaged in one way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from msgspec.structs import replace

from bench.chaos.checker import INVARIANTS, check, over
from bench.chaos.evidence import Evidence, Ledger, Share, in_redis, read_bill, read_books, read_ledger
from bench.chaos.provider import Charge
from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.file import connect
from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Exchange,
    Level,
    Limit,
    Reservation,
    Session,
    Settlement,
    State,
    Target,
    Usage,
    UsageSource,
)
from tests.redis_servers import shared_server
from tests.stores.redis.replicas import replica
from tests.stores.samples import AT_MS, DAY, limit, reservation, settlement

CAPPED, FREE = ("agent:a", "all"), ("agent:b", "all")
LATER_MS = AT_MS + 1_000_000


def exchange(name: str, state: State, cost: Cost, usage: Usage) -> Exchange:
    """Make the record of a call with one attempt."""
    attempt = Attempt(
        number=1,
        reservation_id=f"{name}:1",
        target=Target(alias="m", provider="p", model="m"),
        started_ms=AT_MS,
        state=state,
        held_nanousd=20_000,
        usage=usage,
        cost=cost,
        counters=(CAPPED, FREE),
    )
    return Exchange(
        id=name,
        started_ms=AT_MS,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="a", level=Level.EXECUTE, principal="p"),
        session=Session(id="s"),
        stream=False,
        model_asked="m",
        state=state,
        attempts=(attempt,),
        cost=cost,
        sent_digest=f"d{name}",
    )


def charge(name: str, call: int = 1) -> Charge:
    """Make the line of the bill for a call of 3 and 4 tokens."""
    told: dict[str, Any] = {"digest": f"d{name}", "user": name, "status": 200, "at_ms": AT_MS}
    return Charge(call=call, input_tokens=3, output_tokens=4, nanousd=11_000, **told)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write books with a call that went as it should and one whose process died."""
    file = tmp_path / "state.sqlite"
    usage = Usage(input_tokens=3, output_tokens=4)
    with closing(connect(str(file))) as connection:
        books = Books(connection)

        def calls() -> None:
            for name in ("one", "two"):
                held = tuple(Limit(rule="r", scope=s, window=w, cap_nanousd=50_000) for s, w in (CAPPED, FREE))
                books.reserve(Reservation(id=f"{name}:1", amount_nanousd=20_000, limits=held, expires_ms=AT_MS), AT_MS)
                books.dispatch(exchange(name, State.DISPATCHED, Cost(nanousd=None), Usage(source=UsageSource.NONE)), 1)
            books.finish(exchange("one", State.COMPLETE, Cost(nanousd=11_000), usage))
            done = Settlement(reservation_id="one:1", nanousd=11_000, tokens=7, counters=(CAPPED, FREE))
            books.settle(done, AT_MS)
            books.expire(LATER_MS)
            books.recover(LATER_MS)

        books.commit([calls])
    return file


def evidence(path: Path) -> Evidence:
    """Read the books beside a bill that has both calls, and a ledger that was told of them."""
    share = Share(spent=31_000, held=0, aside=5, by_replica={"a": 31_000})
    return Evidence(
        books=(read_books(path),),
        bill=(charge("one"), charge("two", 2)),
        at_ms=LATER_MS,
        caps={CAPPED: 31_005},
        ledger=Ledger(
            counters={in_redis(CAPPED): share, in_redis(FREE): share},
            holds={"a": 0},
            aside={in_redis(CAPPED): 5, in_redis(FREE): 5},
        ),
        once=frozenset({"one"}),
    )


def test_right_books_have_no_findings(path: Path) -> None:
    """Every invariant is looked at, none is contradicted."""
    verdict = check(evidence(path))

    assert ((), []) == (verdict.findings, verdict.unchecked)
    assert set(INVARIANTS) == set(verdict.looked)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        pytest.param("UPDATE counters SET settled_nanousd = 31006 WHERE scope = 'agent:a'", "I1 I5", id="over the cap"),
        pytest.param(
            "UPDATE counters SET reserved_nanousd = 5 WHERE scope = 'agent:b'", "I2 I6", id="a hold of nobody"
        ),
        pytest.param(
            "INSERT INTO attempts VALUES ('x:1', 'reserved', 9999999999999, 5, '[[\"agent:c\",\"all\"]]', NULL)",
            "I2",
            id="a hold under no counter",
        ),
        pytest.param(
            "INSERT INTO exchanges (id, started_ms, session_id, turn, agent, state, status, model, body)"
            " SELECT 'x', 1, '', 1, '', '', 0, '', body FROM exchanges WHERE id = 'one'",
            "I1 I3",
            id="a record twice",
        ),
        pytest.param("UPDATE counters SET calls = calls + 1 WHERE scope = 'agent:a'", "I3", id="a call counted twice"),
        pytest.param("UPDATE counters SET calls = calls - 1 WHERE scope = 'agent:a'", "I3", id="a call not counted"),
        pytest.param('body:one:$.state:"dispatched"', "I4", id="a call that never ended"),
        pytest.param('body:one:$.attempts[0].state:"dispatched"', "I4", id="an attempt that never ended"),
        pytest.param("body:two:$.attempts[0].cost.estimated:false", "I4 I8", id="a recovery that is not flagged"),
        pytest.param("body:two:$.attempts[0].cost.nanousd:0", "I4 I5", id="a recovery for free"),
        pytest.param("INSERT INTO attempts VALUES ('x:1', 'lost', 9, NULL, '[]', NULL)", "I4", id="no such entry"),
        pytest.param("UPDATE counters SET settled_nanousd = settled_nanousd - 1", "I5", id="less than the records"),
        pytest.param("body:one:$.cost.nanousd:10999", "I5", id="a record that is not its attempts"),
        pytest.param(
            "INSERT INTO attempts VALUES ('x:1', 'dispatched', 9, NULL, '[]', NULL)", "I6", id="open after its lease"
        ),
        pytest.param(
            "INSERT INTO dispatched SELECT 'x', 9, json_set(body, '$.attempts', json('[]'), '$.state', 'complete',"
            " '$.sent_digest', '') FROM exchanges WHERE id = 'one'",
            "I6",
            id="in flight after its lease",
        ),
        pytest.param("DELETE FROM exchanges WHERE id = 'one'", "I3 I5 I7", id="a record that is lost"),
        pytest.param("body:one:$.attempts[0].number:2", "I7", id="an attempt that is lost"),
        pytest.param('body:one:$.attempts[0].usage.source:"tokenizer"', "I8", id="counted by itself, not flagged"),
        pytest.param("body:one:$.attempts[0].usage.input_tokens:2", "I8", id="other tokens than the bill"),
    ],
)
def test_damaged_books_are_found(path: Path, statement: str, found: str) -> None:
    """Each damage contradicts just the invariants that are named."""
    with closing(sqlite3.connect(path)) as connection, connection:
        if statement.startswith("body:"):
            _, name, place, value = statement.split(":")
            change = "UPDATE exchanges SET body = json_set(body, ?, json(?)) WHERE id = ?"
            connection.execute(change, (place, value, name))
        else:
            connection.execute(statement)

    verdict = check(evidence(path))

    assert found == " ".join(sorted({name for name, _ in verdict.findings})), verdict.findings


def bill(evidence: Evidence, *charges: Charge) -> Evidence:
    """Put another bill beside the books."""
    return replace(evidence, bill=charges)


def given_up(evidence: Evidence, *, estimated: bool) -> Evidence:
    """Have the call that ended be one whose reply was not read to its end, and billed for more."""
    (books,) = evidence.books
    records = []
    for record in books.records:
        if record.id == "one":
            (attempt,) = record.attempts
            cost = replace(attempt.cost, estimated=estimated)
            records.append(replace(record, attempts=(replace(attempt, state="fault", cost=cost),)))
        else:
            records.append(record)
    dearer = (replace(charge("one"), nanousd=12_000), charge("two"))
    return replace(evidence, books=(replace(books, records=tuple(records)),), bill=dearer, caps={})


def share(evidence: Evidence, **changes: object) -> Evidence:
    """Damage a counter of the ledger."""
    assert evidence.ledger
    name = in_redis(FREE)
    counters = {**evidence.ledger.counters, name: replace(evidence.ledger.counters[name], **changes)}
    return replace(evidence, ledger=replace(evidence.ledger, counters=counters))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        pytest.param(
            lambda e: bill(e, replace(charge("one"), nanousd=31_006), charge("two")), "I1 I5", id="billed over the cap"
        ),
        pytest.param(lambda e: replace(e, seen_over=("at noon",)), "I1", id="over the cap for a moment"),
        pytest.param(lambda e: replace(e, caps={CAPPED: 31_004}), "I1", id="over the cap with slices"),
        pytest.param(lambda e: bill(e, charge("one"), charge("three")), "I7", id="a billed call without a record"),
        pytest.param(lambda e: bill(e, charge("one"), charge("one", 2)), "I5 I7 I9", id="sent twice, on record once"),
        pytest.param(
            lambda e: bill(e, charge("one"), replace(charge("two"), nanousd=20_001)), "I5", id="recovered too cheap"
        ),
        pytest.param(lambda e: given_up(e, estimated=False), "I5", id="given up too cheap, not flagged"),
        pytest.param(lambda e: given_up(e, estimated=True), "", id="given up, flagged"),
        pytest.param(lambda e: share(e, aside=4), "I2", id="a slice of nobody"),
        pytest.param(lambda e: share(e, spent=31_001), "I5", id="a ledger that is not the books"),
        pytest.param(lambda e: share(e, by_replica={"a": 30_999}), "I5", id="a ledger that is not its replicas"),
        pytest.param(lambda e: share(e, held=1), "I6", id="a hold in the ledger"),
        pytest.param(
            lambda e: replace(e, ledger=replace(e.ledger, holds={"a": 1})), "I6", id="a hold of a replica"
        ),
    ],
)  # fmt: skip
def test_damaged_evidence_is_found(path: Path, damage: Callable[[Evidence], Evidence], found: str) -> None:
    """What the bill or the ledger contradicts is found as well."""
    verdict = check(damage(evidence(path)))

    assert found == " ".join(sorted({name for name, _ in verdict.findings})), verdict.findings


def test_what_there_is_no_evidence_for_is_told(path: Path) -> None:
    """An invariant that nothing could have contradicted counts as unchecked."""
    bare = replace(evidence(path), caps={}, once=frozenset())

    assert ["I1", "I9"] == check(bare).unchecked


def test_a_cap_is_looked_at_while_a_run_goes_on() -> None:
    """Only what is over its cap is named."""
    assert ["('agent:a', 'all'): 6 of 5"] == over({CAPPED: 6, FREE: 9}, {CAPPED: 5, ("x", "y"): 1})


def test_a_bill_ends_with_its_last_whole_line(tmp_path: Path) -> None:
    """A line that was being written when its provider died belongs to a call without an answer."""
    file = tmp_path / "bill"
    file.write_bytes(msgspec.json.encode(charge("one")) + b'\n{"type":"cha')

    assert ((charge("one"),), ()) == (read_bill(file), read_bill(tmp_path / "none"))


async def test_a_ledger_is_read_as_it_stands(tmp_path: Path) -> None:
    """What a replica holds, has spent and has set aside."""
    server = shared_server()
    async with replica(server.url, tmp_path / "a", ledger=tmp_path.name) as budgets:
        await budgets.reserve(reservation("ex_1", 10, limit(DAY)), AT_MS)
        budgets.settle(settlement("ex_1", 4), AT_MS)
        await budgets.reserve(reservation("ex_2", 7, limit(DAY)), AT_MS)
        await budgets.recover(0)
        with redis.Redis(port=server.port, decode_responses=True, driver_info=None) as client:
            ledger = read_ledger(client, tmp_path.name)

    counter = ledger.counters[in_redis(DAY)]
    assert (4, 7, [4]) == (counter.spent, counter.held, [*counter.by_replica.values()])
    assert [1] == [*ledger.holds.values()]
    assert counter.aside == ledger.aside.get(in_redis(DAY), 0) > 0


def test_the_checker_shares_nothing_with_what_it_checks() -> None:
    """It loads no module of Handrail."""
    program = "import sys, bench.chaos.checker; print([name for name in sys.modules if name.split('.')[0] == 'proxy'])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]\n" == ran.stdout
