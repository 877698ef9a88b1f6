"""Owns the proof of proxy/cli/dossiers.py: an erasure is told as it is, with what is left of it first."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy import app, dossier
from proxy.cli import dossiers
from proxy.terms import Cost, Decision, Level, Phase, Selection, Session, Table, Verdict
from tests.stores.samples import exchange

ERASED = app.Erased(
    rows={"local": {Table.EXCHANGES: 2}, "warm": {Table.EXCHANGES: 1, Table.FACTS: 3}},
    salts=4,
    left={"local": {"se_1": 0, "ex_1": 0}, "warm": {"se_1": 0, "ex_1": 0}},
    away={},
)


def test_a_proof_is_a_table_of_zeros() -> None:
    """What went, then a line for each name and a column for each tier."""
    lines = [line.split() for line in dossiers.proof(ERASED).splitlines()]

    assert ["erased", "local", "warm"] == lines[0]
    assert [["exchanges", "2", "1"], ["facts", "0", "3"]] == lines[1:3]
    assert [["still", "there", "local", "warm"], ["se_1", "0", "0"], ["ex_1", "0", "0"]] == lines[8:11]
    assert "nothing is left of it" == " ".join(lines[-1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            {"left": {"local": {"ex_1": 0}, "warm": {"ex_1": 2}}},
            "the tier warm still has something of it, in 2 places",
            id="left",
        ),
        pytest.param({"away": {"cold": "No."}}, "the tier cold could not be reached: No.", id="away"),
        pytest.param({"in_flight": ("ex_9",)}, "on record once they end: ex_9", id="under way"),
    ],
)
def test_what_is_not_proven_is_said(change: dict[str, object], says: str) -> None:
    """With what to do: it may be done again."""
    done = replace(ERASED, **change)

    said = dossiers.proof(done)
    assert (False, True) == (done.proven, says in said)
    assert "not all of it is gone: run this again" == said.splitlines()[-1]


def test_what_is_left_stands_first() -> None:
    """Of many names those are shown that are still somewhere; the rest is added up."""
    many = {f"ex_{n}": int(n == 99) for n in range(100)}

    lines = dossiers.proof(replace(ERASED, left={"local": many})).splitlines()
    assert ["ex_99", "1"] == lines[9].split()
    assert f"and {100 - dossiers.MOST_NEEDLES} more names, each of them nowhere" in lines


def test_a_plan_names_the_tiers_that_are_away() -> None:
    """And everything that would go where they can be reached."""
    found = app.Found(which=Selection(sessions=frozenset({"s"})), rows={"local": ()}, away={"cold": "No."})

    said = dossiers.plan(found, 3)
    assert [True] * 3 == [
        part in said for part in ("conversations: s", "the salts of 3 entries", "the tier cold cannot be reached: No.")
    ]


def test_a_call_tells_what_mattered() -> None:
    """Costs that nobody knows are not taken for nothing, and of decisions those count that did something."""
    decisions = tuple(
        Decision(id=verdict, phase=Phase.REQUEST, verdict=verdict, rule=f"p/{verdict}")
        for verdict in (Verdict.ALLOW, Verdict.DENY)
    )
    calls = (replace(exchange("ex_1"), decisions=decisions), replace(exchange("ex_2"), cost=Cost(nanousd=5)))

    said = dossiers.conversation(dossier.Conversation(id="s", calls=calls, session=Session(id="s", level=Level.ASSIST)))
    assert [True, False, True, True] == [
        part in said for part in ("deny by p/deny", "p/allow", "and of 1 calls unknown", "lowered to assist")
    ]
