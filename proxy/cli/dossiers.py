"""Owns how what is kept of conversations looks on a terminal, what an erasure would take, and the proof of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from proxy import app, dossier
from proxy.accounting import format_usd
from proxy.cli.desk import action_line, handoff_line
from proxy.cli.paint import clean, paint, rows
from proxy.terms import Cost, Exchange, Table, Verdict

MOST_NEEDLES = 30
"""Lines of a proof that are printed; the rest is added up."""


def conversation(one: dossier.Conversation) -> str:
    """Return a conversation in words: whose it is, then its calls, then what came of them."""
    customers = dict.fromkeys([*(link.customer for link in one.links), *(call.customer for call in one.calls)])
    state = one.session
    pairs = [
        ("channel", ", ".join(dossier.channels(one))),
        ("customer", ", ".join(filter(None, customers))),
        ("cost", _total(one.calls)),
        ("labels", ", ".join(state.labels) if state else ""),
        ("level", f"lowered to {state.level}" if state and state.level else ""),
        ("calls", "\n".join(map(_call, one.calls))),
        ("hand-offs", "\n".join(map(handoff_line, one.handoffs))),
        ("actions", "\n".join(map(action_line, one.held))),
        ("kept", " ".join(kept.exchange_id for kept in one.kept)),
    ]
    return f"{paint(one.id or 'of no conversation', 'bold')}\n{rows(pairs)}"


def _call(call: Exchange) -> str:
    decided = (f"{decision.verdict} by {decision.rule}" for decision in call.decisions if _mattered(decision.verdict))
    parts = (
        f"{call.session.turn}.",
        _when(call.started_ms),
        f"{call.state} {call.status}",
        clean(call.model_served or call.model_asked),
        _usd(call.cost),
        clean(", ".join(call.tool_calls)),
        " ".join(dict.fromkeys(decided)),
        call.id,
    )
    return "  ".join(filter(None, parts))


def _mattered(verdict: Verdict) -> bool:
    return verdict is not Verdict.ALLOW


def _total(calls: Sequence[Exchange]) -> str:
    known = [call.cost.nanousd for call in calls if call.cost.nanousd is not None]
    unknown = len(calls) - len(known)
    return f"{format_usd(sum(known))}{f', and of {unknown} calls unknown' if unknown else ''}" if calls else ""


def _usd(cost: Cost) -> str:
    return "cost unknown" if cost.nanousd is None else format_usd(cost.nanousd)


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- erasing ----------------------------------------------------------------------------------------------------------


def counted(found: app.Found) -> dict[str, dict[Table, int]]:
    """Return how many rows of each table every tier has."""
    return {name: Counter(row.table for row in some) for name, some in found.rows.items()}


def plan(found: app.Found, entries: int) -> str:
    """Return what an erasure would take."""
    lines = [f"conversations: {' '.join(sorted(found.which.sessions)) or 'none'}"]
    lines += [f"{name} is also with another customer: all of it goes" for name in _shared(found)]
    lines += [
        *_table("would be erased", _by_table(counted(found))),
        f"and the salts of {entries} entries of the audit log",
    ]
    lines += [f"the tier {name} cannot be reached: {why}" for name, why in found.away.items()]
    return "\n".join([*lines, "nothing was erased: --yes does it"])


def _shared(found: app.Found) -> list[str]:
    """Return the conversations in which calls have named another customer as well."""
    others = (row for row in found.newest if row.table is Table.LINKS and row.customer not in found.which.customers)
    return sorted({row.session_id for row in others}) if found.which.customers else []


def proof(done: app.Erased) -> str:
    """Return what went, then how often each name of it still occurs in each tier."""
    needles = list(dict.fromkeys(needle for found in done.left.values() for needle in found))
    needles.sort(key=lambda needle: not any(found[needle] for found in done.left.values()))
    shown = {
        clean(needle): {name: found[needle] for name, found in done.left.items()} for needle in needles[:MOST_NEEDLES]
    }
    lines = [*_table("erased", _by_table(done.rows)), f"{done.salts} salts of the audit log deleted"]
    lines += _table("still there", shown)
    lines += [f"not looked for, since it would be found in anything: {clean(name)}" for name in done.too_short]
    if more := len(needles) - len(shown):
        lines.append(f"and {more} more names, each of them nowhere")
    return "\n".join([*lines, *_verdict(done)])


def _verdict(done: app.Erased) -> Iterator[str]:
    yield from (paint(f"the tier {name} could not be reached: {why}", "red") for name, why in done.away.items())
    for name, found in done.left.items():
        if count := sum(found.values()):
            yield paint(f"the tier {name} still has something of it, in {count} places", "red")
    if done.in_flight:
        yield paint(f"under way meanwhile, and on record once they end: {' '.join(done.in_flight)}", "red")
    yield (
        paint("nothing is left of it", "green")
        if done.proven
        else paint("not all of it is gone: run this again", "red")
    )


def _by_table(counts: Mapping[str, Mapping[Table, int]]) -> dict[str, dict[str, int]]:
    return {str(table): {name: rows.get(table, 0) for name, rows in counts.items()} for table in Table}


def _table(title: str, lines: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a table of numbers: a line for each name, a column for each tier."""
    heads = list(dict.fromkeys(head for numbers in lines.values() for head in numbers))
    width = max(map(len, (title, *lines)))
    cells = [(paint(title.ljust(width), "bold"), heads)]
    cells += [(name.ljust(width), [str(numbers[head]) for head in heads]) for name, numbers in lines.items()]
    return ["  ".join([name, *(cell.rjust(6) for cell in row)]) for name, row in cells]
