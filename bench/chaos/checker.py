"""Owns the independent checker: which of the accounting invariants the evidence of a run contradicts, row by row.

The invariants are I1 to I9 of the reliability contract (`INVARIANTS`). The evidence is judged as of a moment at which
nothing is under way and every lease has ended. What a run has no evidence for is not checked, and told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from bench.chaos.evidence import Books, Evidence, Pair, Record, Try, in_redis
from bench.chaos.provider import Charge

INVARIANTS = {
    "I1": "never exceed: settled and reserved are within the cap, at every moment",
    "I2": "all or nothing: a hold counts under every limit it names, and nothing else does",
    "I3": "settled exactly once: each attempt is on record once, and counted once",
    "I4": "states: nothing ends open, and what was sent is never released for free",
    "I5": "conservation: bill, records, counters and ledger are the same money",
    "I6": "no phantom: no hold, and no call in flight, outlives its lease",
    "I7": "attempts: each call that the provider got is on record, with a reservation of its own",
    "I8": "usage: what the provider reported is what was booked, and all else is flagged",
    "I9": "idempotency: what was sent several times under one key is charged once",
}
Finding: TypeAlias = tuple[str, str]
"""Which invariant, and the row that contradicts it."""
ENTRIES = {"reserved", "dispatched", "released", "expired"}
STATES = {"complete", "denied", "fault", "client_gone", "recovered"}
FROM_PROVIDER = "provider"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker says."""

    looked: Mapping[str, int]
    """By invariant, how many rows could have contradicted it."""
    findings: tuple[Finding, ...]

    @property
    def unchecked(self) -> list[str]:
        """Return the invariants that the run had no evidence for."""
        return [name for name in INVARIANTS if not self.looked.get(name)]

    def count(self, invariant: str) -> int:
        """Return how many rows contradict an invariant."""
        return sum(name == invariant for name, _ in self.findings)


def check(evidence: Evidence) -> Verdict:
    """Judge the evidence by every invariant."""
    looked: dict[str, int] = {}
    findings: list[Finding] = []
    for name, judge in _JUDGES.items():
        rows = list(judge(evidence))
        looked[name] = len(rows)
        findings += [(name, problem) for problem in rows if problem]
    return Verdict(looked=looked, findings=tuple(findings))


def over(counters: Mapping[Pair, int], caps: Mapping[Pair, int]) -> list[str]:
    """Return the counters that have more than their cap, for a look while a run goes on."""
    return [f"{pair}: {counters[pair]} of {cap}" for pair, cap in caps.items() if counters.get(pair, 0) > cap]


# Each judge yields one text per row that it looked at: what is wrong with it, or nothing.


def _never_exceed(evidence: Evidence) -> Iterator[str]:
    yield from evidence.seen_over
    for books in evidence.books:
        totals = {counter.pair: counter.settled + counter.reserved for counter in books.counters}
        yield from _within(books.name, {pair: totals.get(pair, 0) for pair in evidence.caps}, evidence.caps)
    if ledger := evidence.ledger:
        shares = {pair: ledger.counters.get(in_redis(pair)) for pair in evidence.caps}
        sums = {pair: one.spent + one.held + one.aside for pair, one in shares.items() if one}
        yield from _within("ledger", sums, evidence.caps)
    yield from _within("bill", _billed(evidence), evidence.caps)


def _within(where: str, sums: Mapping[Pair, int], caps: Mapping[Pair, int]) -> Iterator[str]:
    for pair, total in sums.items():
        yield f"{where}: {pair} has {total} of {caps[pair]}" if total > caps[pair] else ""


def _billed(evidence: Evidence) -> dict[Pair, int]:
    """Return what the provider charged for the calls under each limited counter."""
    charged = {name: sum(charge.nanousd for charge in charges) for name, charges in _by_digest(evidence.bill).items()}
    sums = dict.fromkeys(evidence.caps, 0)
    for record in _records(evidence):
        for pair in {pair for attempt in record.attempts for pair in attempt.counters if pair in sums}:
            sums[pair] += charged.get(record.sent_digest, 0)
    return sums


def _all_or_nothing(evidence: Evidence) -> Iterator[str]:
    for books in evidence.books:
        held: Counter[Pair] = Counter()
        for row in books.open:
            if row.entry in ("reserved", "dispatched"):
                held.update(dict.fromkeys(row.under, row.held or 0))
        for counter in books.counters:
            right = held[counter.pair] == counter.reserved
            yield (
                ""
                if right
                else f"{books.name}: {counter.pair} reserves {counter.reserved}, its holds {held[counter.pair]}"
            )
        known = {counter.pair for counter in books.counters}
        yield from (f"{books.name}: {pair} is held under and has no counter" for pair in held if pair not in known)
    if ledger := evidence.ledger:
        for name, share in ledger.counters.items():
            aside = ledger.aside.get(name, 0)
            yield "" if share.aside == aside else f"ledger: {name} sets {share.aside} aside, its slices {aside}"


def _exactly_once(evidence: Evidence) -> Iterator[str]:
    attempts = Counter(attempt.reservation_id for record in _records(evidence) for attempt in record.attempts)
    yield from (f"{name} is on record {count} times" if count > 1 else "" for name, count in attempts.items())
    sent = Counter(record.sent_digest for record in _records(evidence) if record.sent_digest)
    yield from (f"what was sent once as {name} has {count} records" for name, count in sent.items() if count > 1)
    for books in evidence.books:
        calls = Counter(pair for attempt in _tries(books) for pair in dict.fromkeys(attempt.counters))
        for counter in books.counters:
            right = calls[counter.pair] == counter.calls
            yield (
                ""
                if right
                else f"{books.name}: {counter.pair} has {counter.calls} calls, records {calls[counter.pair]}"
            )


def _states(evidence: Evidence) -> Iterator[str]:
    for record in _records(evidence):
        yield "" if record.state in STATES else f"{record.id} ended as {record.state}"
        yield from (_ended(attempt) for attempt in record.attempts)
    for books in evidence.books:
        for row in books.open:
            yield "" if row.entry in ENTRIES else f"{row.reservation_id} is {row.entry}"


def _ended(attempt: Try) -> str:
    """Say what is wrong with how an attempt ended."""
    if attempt.state not in STATES:
        return f"{attempt.reservation_id} ended as {attempt.state}"
    free = attempt.state == "recovered" and attempt.booked < attempt.held_nanousd
    unflagged = attempt.state == "recovered" and not attempt.cost.estimated
    if free:
        return f"{attempt.reservation_id} was recovered at {attempt.booked}, less than the {attempt.held_nanousd} held"
    return f"{attempt.reservation_id} was recovered and is not flagged" if unflagged else ""


def _conservation(evidence: Evidence) -> Iterator[str]:
    for record in _records(evidence):
        costs = [attempt.cost.nanousd for attempt in record.attempts]
        total = None if None in costs else sum(cost or 0 for cost in costs)
        right = not costs or record.cost.nanousd == total
        yield "" if right else f"{record.id} cost {record.cost.nanousd}, its attempts {total}"
    for books in evidence.books:
        yield from _counters_are_sums(books)
    charged = {name: sum(charge.nanousd for charge in charges) for name, charges in _by_digest(evidence.bill).items()}
    for record in _records(evidence):
        if record.sent_digest in charged:
            yield _mispriced(record, charged[record.sent_digest])
    yield from _ledger_is_the_sum(evidence)


def _counters_are_sums(books: Books) -> Iterator[str]:
    spent: Counter[Pair] = Counter()
    tries = {attempt.reservation_id: attempt for attempt in _tries(books)}
    for attempt in tries.values():
        spent.update(dict.fromkeys(attempt.counters, attempt.booked))
    for row in books.open:
        if row.entry == "expired" and row.reservation_id not in tries:
            spent.update(dict.fromkeys(row.under, row.cost or 0))
    known = {counter.pair: counter.settled for counter in books.counters}
    for pair in known.keys() | spent.keys():
        right = known.get(pair, 0) == spent[pair]
        yield "" if right else f"{books.name}: {pair} is {known.get(pair, 0)}, its records are {spent[pair]}"


def _mispriced(record: Record, charged: int) -> str:
    """Say what is wrong with what a call was booked at: exactly its bill if it was seen to its end; no less where it
    was recovered and money was held for it; less only with a flag where it was given up, from what was seen of it."""
    booked = sum(attempt.booked for attempt in record.attempts)
    if record.attempts and all(attempt.state == "complete" for attempt in record.attempts):
        return "" if booked == charged else f"{record.id} was booked at {booked}, billed {charged}"
    held = [attempt for attempt in record.attempts if attempt.held_nanousd]
    sure = any(attempt.state == "recovered" or not attempt.cost.estimated for attempt in held)
    return f"{record.id} was booked at {booked}, less than its bill of {charged}" if sure and booked < charged else ""


def _ledger_is_the_sum(evidence: Evidence) -> Iterator[str]:
    if not evidence.ledger:
        return
    books: Counter[str] = Counter()
    for counter in (counter for one in evidence.books for counter in one.counters):
        books[in_redis(counter.pair)] += counter.settled
    for name, share in evidence.ledger.counters.items():
        said = sum(share.by_replica.values())
        yield "" if share.spent == said else f"ledger: {name} is {share.spent}, its replicas said {said}"
        yield "" if share.spent == books[name] else f"ledger: {name} is {share.spent}, the books {books[name]}"


def _no_phantom(evidence: Evidence) -> Iterator[str]:
    for books in evidence.books:
        for row in books.open:
            late = row.entry in ("reserved", "dispatched") and row.expires_ms < evidence.at_ms
            yield f"{books.name}: {row.reservation_id} is still {row.entry}" if late else ""
        for name, (expires_ms, _) in books.flying.items():
            yield f"{books.name}: {name} is still in flight" if expires_ms < evidence.at_ms else ""
        for counter in books.counters:
            yield f"{books.name}: {counter.pair} still reserves {counter.reserved}" if counter.reserved else ""
    if ledger := evidence.ledger:
        yield from (f"ledger: {replica} has {count} holds" if count else "" for replica, count in ledger.holds.items())
        for name, share in ledger.counters.items():
            yield f"ledger: {name} still holds {share.held}" if share.held else ""


def _attempts(evidence: Evidence) -> Iterator[str]:
    by_digest: dict[str, list[Record]] = defaultdict(list)
    for record in _records(evidence):
        by_digest[record.sent_digest].append(record)
        numbers = [attempt.number for attempt in record.attempts]
        right = numbers == list(range(1, len(numbers) + 1))
        yield "" if right else f"{record.id} has the attempts {numbers}"
    for name, charges in _by_digest(evidence.bill).items():
        tries = sum(len(record.attempts) for record in by_digest[name])
        lost = f"{name} reached the provider {len(charges)} times and has {tries} attempts on record"
        yield "" if tries >= len(charges) else lost


def _usage(evidence: Evidence) -> Iterator[str]:
    bill = _by_digest(evidence.bill)
    for record in _records(evidence):
        for attempt in record.attempts:
            sure = attempt.usage.source == FROM_PROVIDER or attempt.cost.estimated or attempt.cost.nanousd in (None, 0)
            yield "" if sure else f"{attempt.reservation_id} counts by {attempt.usage.source} and is not flagged"
        charges = bill.get(record.sent_digest, [])
        if len(charges) == len(record.attempts) == 1:
            yield _misread(record.attempts[0], charges[0])


def _misread(attempt: Try, charge: Charge) -> str:
    """Say what is wrong with the tokens of an attempt that was seen to its end."""
    if attempt.state != "complete" or not charge.reported:
        return ""
    if attempt.usage.source != FROM_PROVIDER:
        return f"{attempt.reservation_id} counts by {attempt.usage.source}, though the provider told its usage"
    told, billed = (
        (attempt.usage.input_tokens, attempt.usage.output_tokens),
        (charge.input_tokens, charge.output_tokens),
    )
    return "" if told == billed else f"{attempt.reservation_id} counts {told}, billed are {billed}"


def _idempotency(evidence: Evidence) -> Iterator[str]:
    charged = Counter(charge.user for charge in evidence.bill if charge.nanousd)
    for name in evidence.once:
        yield f"{name} was charged {charged[name]} times" if charged[name] > 1 else ""


_JUDGES: Mapping[str, Callable[[Evidence], Iterator[str]]] = {
    "I1": _never_exceed,
    "I2": _all_or_nothing,
    "I3": _exactly_once,
    "I4": _states,
    "I5": _conservation,
    "I6": _no_phantom,
    "I7": _attempts,
    "I8": _usage,
    "I9": _idempotency,
}


def _records(evidence: Evidence) -> Iterator[Record]:
    """Return the record of each call, finished or in flight; a call with both counts as two."""
    for books in evidence.books:
        yield from books.records
        yield from (record for _, record in books.flying.values())


def _tries(books: Books) -> Iterator[Try]:
    """Return the attempts that the counters must have."""
    return (attempt for record in books.records for attempt in record.attempts)


def _by_digest(bill: Sequence[Charge]) -> Mapping[str, list[Charge]]:
    charges: dict[str, list[Charge]] = defaultdict(list)
    for charge in bill:
        charges[charge.digest].append(charge)
    return charges
