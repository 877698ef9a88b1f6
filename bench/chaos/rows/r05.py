"""Owns R5: every cell of the fault matrix against a whole Handrail, with what came of it beside what had to come.

The cells are data, in `bench/chaos/matrix`; a second sweep cuts one recorded stream at every byte offset. After all of
them the books must be the sum of the records, nothing held, nothing open, and the provider's key nowhere.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from bench.chaos.calling import Answer, call
from bench.chaos.matrix import asking, connecting, garbling, leaving, lying, refusing, starting, streaming
from bench.chaos.matrix.cell import CONNECT_S, DONE, DRAIN_S, FIRST_BYTE_S, IDLE_S, KEY, NANOUSD, Cell
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.chaos.scripted import Places, Provider
from bench.chaos.serving import Served, serving, until
from proxy.terms import Attempt, Exchange, State, UsageSource

TITLE = "fault matrix: cells with their specified outcome, none beyond its deadline + 1 s"
GATE = ">= 200 cells, 100 %"
STRETCH = "500"
AT_ONCE = 16
TABLES = (connecting, streaming, refusing, garbling, asking, leaving, lying)
SHORT_EVERY = 24
"""Of the table the short slice takes one cell in so many."""

CONFIG = """\
unlisted_models: deny
policies: [policy.yaml]
state: {path: state.sqlite}
telemetry: {log_level: warning}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: budget, version: 1.0.0}
spec:
  spend: [{id: cap, scope: agent, window: day, limitUSD: 1000000}]
---
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: judges, version: 1.0.0}
spec:
  selector: {models: ["j*"]}
  rules:
    - {id: secret, phase: response, when: 'response.text.contains("secret")', action: deny, message: No.}
"""


def table() -> list[Cell]:
    """Return all cells that are calls."""
    return list(chain.from_iterable(module.cells() for module in TABLES))


def run(plan: Plan) -> Outcome:
    """Play the cells."""
    cells, swept = table(), list(streaming.offsets(1))
    starts = list(starting.cells())
    if not plan.full:
        cells = [cell for cell in cells if not cell.expected.within_s][::SHORT_EVERY]
        swept, starts = swept[:: 4 * SHORT_EVERY], starts[::SHORT_EVERY]
    problems, again = played(plan.folder, cells, swept)
    problems += [f"22: {start.fault}: {wrong}" for start in starts if (wrong := starting.judged(start, plan.folder))]
    late = [problem for problem in problems if TOO_LATE in problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    by_row = Counter(problem.partition(": ")[0] for problem in problems)
    figures: dict[str, Figure] = {
        "cells": len(cells) + len(starts),
        "not as specified": len(problems) - len(late),
        "beyond their deadline + 1 s": len(late),
        "late at first and played again alone": again,
        "byte offsets x ends besides": len(swept),
        **{f"cells of row {row}": count for row, count in sorted(Counter(cell.row for cell in cells).items())},
        "cells of row 22": len(starts),
        **{f"wrong in {part}": count for part, count in sorted(by_row.items())},
    }
    most = {"not as specified": 0, "beyond their deadline + 1 s": 0}
    least = {"cells": 200} if plan.full else {}
    return Outcome(
        figures=figures,
        met=within(figures, most=most, least=least),
        stretch=plan.full and within(figures, most=most, least={"cells": 500}),
        notes=NOTES + tuple(problems[:20]),
    )


TOO_LATE = "beyond its deadline"
NOTES = (
    f"{AT_ONCE} cells are played at once on a machine that others use as well. One that comes too late there is played "
    "again alone, and that answer counts.",
    "SYNs are dropped by a full listen backlog, not by nftables; rows 5, 9, 11-21 and 24 are not cells of this row.",
    "A provider's answer with another status than 2xx is booked as free, also 502 and 504, which a gateway in front of "
    "it may have billed.",
)


# --- playing --------------------------------------------------------------------------------------------------------


def played(folder: Path, cells: Sequence[Cell], swept: Sequence[Cell]) -> tuple[list[str], int]:
    """Play cells and the sweep; return what was not as specified, and how many were played again."""
    every = [*cells, *swept]
    places = Places(folder)
    (folder / "policy.yaml").write_text(POLICY)
    environment = {"CANARY_KEY": KEY, "SSL_CERT_FILE": str(places.authority.file)}
    with serving(folder, config(places, every), environment=environment) as here:
        provider = Provider(every)
        answers, again = asyncio.run(_play(here, places, provider, every))
        until(lambda: not here.open_calls() and not _held(here), 20)
        problems = list(_compare(here, provider, every, answers, len(cells)))
        problems += _left(here)
        if here.stop():
            problems.append("all: it did not end in order")
    places.close()
    shown = [path.name for path in folder.glob("s*.*") if KEY.encode() in path.read_bytes()]
    return [*problems, *(f"all: the key stands in {name}" for name in shown)], again


def config(places: Places, cells: Sequence[Cell]) -> str:
    """Write the configuration: for each cell a model of its own, so that no breaker minds the others."""
    urls = places.urls()
    names = {place: f"p{number}" for number, place in enumerate(urls)}
    price = "price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
    lines = [
        CONFIG,
        f"limits: {{connect_s: {CONNECT_S}, first_byte_s: {FIRST_BYTE_S}, idle_s: {IDLE_S}, drain_s: {DRAIN_S}}}",
    ]
    lines += [
        "providers:",
        *(f"  {names[p]}: {{dialect: openai, base_url: '{url}', api_key_env: CANARY_KEY}}" for p, url in urls.items()),
    ]
    lines += [
        "models:",
        *(f"  {alias(n, cell)}: {{provider: {names[cell.place]}, {price}}}" for n, cell in enumerate(cells)),
    ]
    backed = [(n, cell) for n, cell in enumerate(cells) if cell.falls_back]
    lines += [f"  g{n}: {{provider: {names['good']}, {price}}}" for n, _ in backed]
    lines += ["pools:", *(f"  pool{n}: [{alias(n, cell)}, g{n}]" for n, cell in backed)] if backed else []
    return "\n".join(lines) + "\n"


def alias(number: int, cell: Cell) -> str:
    """Return the name of a cell's own model."""
    return f"{'j' if cell.judged else 'c'}{number}"


async def _play(here: Served, places: Places, provider: Provider, cells: Sequence[Cell]) -> tuple[list[Answer], int]:
    turns = asyncio.Semaphore(AT_ONCE)
    answers: dict[int, Answer] = {}

    async def one(number: int, cell: Cell) -> None:
        async with turns:
            model = f"pool{number}" if cell.falls_back else alias(number, cell)
            answers[number] = await call(here.port, cell, model)

    async with places.serving(provider):
        async with asyncio.TaskGroup() as group:
            for number, cell in enumerate(cells):
                if not cell.heavy:
                    group.create_task(one(number, cell))
        for number, cell in enumerate(cells):
            if cell.heavy:
                await one(number, cell)
        again = [number for number, cell in enumerate(cells) if cell.late(answers[number].took_s)]
        for number in again:
            provider.asked[number] = 0
            await one(number, cells[number])
        await asyncio.to_thread(until, lambda: not here.open_calls(), 20)
    return [answers[number] for number in range(len(cells))], len(again)


def _held(here: Served) -> int:
    return sum(total.reserved_nanousd for total in here.totals().values())


def _left(here: Served) -> Iterator[str]:
    """Yield what does not add up once all is over."""
    if here.process.poll() is not None:
        yield "all: the process has ended"
    if here.open_calls() or _held(here):
        yield f"all: {here.open_calls()} calls are still open, {_held(here)} nano-dollars held"
    costs = [attempt.cost.nanousd or 0 for record in here.records() for attempt in record.attempts]
    booked = {(total.nanousd, total.calls) for (scope, _), total in here.totals().items() if scope.startswith("agent:")}
    if booked != {(sum(costs), len(costs))}:
        yield f"all: the books say {booked}, the records {sum(costs)} for {len(costs)} attempts"
    if b'"bug"' in here.errors.read_bytes():
        yield "all: a bug was logged"


# --- judging --------------------------------------------------------------------------------------------------------


def _compare(
    here: Served, provider: Provider, cells: Sequence[Cell], answers: Sequence[Answer], plain: int
) -> Iterator[str]:
    records: dict[str, list[Exchange]] = {}
    for record in here.records():
        for name in filter(None, (record.id, record.input_digest)):
            records.setdefault(name, []).append(record)
    for number, (cell, answer) in enumerate(zip(cells, answers, strict=True)):
        decision = answer.header("x-handrail-decision").partition("-")[0]
        found = records.get(decision) or records.get(answer.digest) or []
        judge = judged if number < plain else judged_cut
        for wrong in judge(cell, answer, found):
            yield f"{cell.name}: {wrong}"
        if cell.late(answer.took_s):
            yield f"{cell.name}: took {answer.took_s:.1f} s, {TOO_LATE} of {cell.expected.within_s:.0f} s"
        reached = provider.asked[number]
        attempts = sum(attempt.error not in UNREACHED for record in found for attempt in record.attempts)
        if reached != attempts:
            yield f"{cell.name}: the provider was asked {reached} times, {attempts} are on record"


UNREACHED = ("connect_failed", "connect_timeout", "dns_failed", "tls_failed")


def judged(cell: Cell, answer: Answer, records: Sequence[Exchange]) -> Iterator[str]:
    """Yield what of a cell's outcome is not as specified."""
    yield from _heard(cell, answer)
    expected = cell.expected
    if len(records) != bool(expected.state):
        yield f"{len(records)} records"
    for record in records:
        if (record.state, len(record.attempts)) != (expected.state, expected.calls):
            yield f"{record.state} in {len(record.attempts)} attempts, not {expected.state} in {expected.calls}"
        yield from _billed(cell, record.attempts)


def _heard(cell: Cell, answer: Answer) -> Iterator[str]:
    """Yield what the client did not get as specified."""
    expected = cell.expected
    if KEY.encode() in answer.head + answer.body:
        yield "the client got the provider's key"
    if expected.status == 0:
        return
    if (answer.status, answer.error) != (expected.status, expected.code):
        yield f"{answer.status} {answer.error or 'no error'}, not {expected.status} {expected.code or 'no error'}"
    if not answer.framed:
        yield "the reply has no end of its own"
    if answer.status == 200:
        yield from _said(cell, answer)
    for name, value in expected.headers:
        if answer.header(name) != value:
            yield f"{name} is {answer.header(name)!r}, not {value!r}"
    if answer.header("set-cookie") or answer.header("location"):
        yield "a header was passed on that is the provider's own"


def _said(cell: Cell, answer: Answer) -> Iterator[str]:
    expected, good = cell.expected, answer.good
    if expected.body is not None:
        if good != expected.body:
            yield f"other bytes than specified: {good[:60]!r} ... {good[-60:]!r}"
    elif not (expected.begins.startswith(good) and (not good or good.endswith(b"\n\n"))):
        yield f"the client got what was not sent: {good[-60:]!r}"
    if DONE.strip() in good and DONE.strip() not in (expected.body or expected.begins):
        yield "an end marker was made up"


def _billed(cell: Cell, attempts: Sequence[Attempt]) -> Iterator[str]:
    if not attempts:
        return
    for attempt, billed in (
        (attempts[0], cell.expected.billed),
        *(((attempts[-1], "exact"),) if len(attempts) > 1 else ()),
    ):
        cost, source = attempt.cost, attempt.usage.source if attempt.usage else None
        told = {
            "exact": cost.nanousd == NANOUSD and source is UsageSource.PROVIDER,
            "free": cost.nanousd == 0,
            "estimate": (cost.nanousd or 0) > 0 and cost.estimated,
        }
        if not told[billed]:
            yield f"billed {cost.nanousd} ({source}{', estimated' if cost.estimated else ''}), which is not {billed}"


def judged_cut(cell: Cell, answer: Answer, records: Sequence[Exchange]) -> Iterator[str]:
    """Yield what is wrong with the outcome of a stream that was cut somewhere."""
    sent = b"".join(cell.play.pieces)
    if not answer.framed:
        yield "the reply has no end of its own"
    if answer.status == 200:
        yield from _said(cell, answer)
    if DONE.strip() in answer.body and DONE.strip() not in sent:
        yield "an end marker was made up"
    if [bool(answer.error)] != [record.state is State.FAULT for record in records]:
        states = [str(record.state) for record in records]
        yield f"the client was told {answer.error or 'of no error'}, on record are {states}"
    if not all(record.cost.nanousd for record in records):
        yield "it was taken to be free"
