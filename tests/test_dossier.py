"""Owns the proof of proxy/dossier.py: what tiers keep of conversations folds into what is known of them."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest
from msgspec.structs import replace

from proxy import dossier
from proxy.conversation import user
from proxy.kept import packed
from proxy.sealing import PLAIN
from proxy.terms import Caller, Kept, Level, Link, Request, Row, Selection, Session, Table
from tests.stores.samples import AT_MS, exchange, handoff, held


def row(table: Table, name: str, noun: object, *, session: str = "s", version: int = 1, customer: str = "") -> Row:
    """Make a row as tiers keep it."""
    body = packed(noun) if isinstance(noun, Kept) else msgspec.json.encode(noun)
    return Row(table=table, id=name, version=version, at_ms=AT_MS, session_id=session, customer=customer, body=body)


LINK = Link(customer="cu_1", session_id="s", channel="phone", first_ms=1, last_ms=2)
KEPT = Kept(exchange_id="ex_1", at_ms=AT_MS, policy_digest="")
CALL = row(Table.EXCHANGES, "ex_1", exchange("ex_1"))
ROWS = (
    row(Table.EXCHANGES, "ex_2", exchange("ex_2", turn=2)),
    CALL,
    row(Table.FACTS, "ex_1", KEPT),
    row(Table.SESSIONS, "s", Session(id="s", labels=("vip",))),
    row(Table.HELD, "ap_1", held("ap_1")),
    row(Table.HANDOFFS, "ho_1", handoff("ho_1")),
    row(Table.LINKS, "cu_1:s", LINK, customer="cu_1"),
)


def test_rows_fold_into_a_conversation() -> None:
    """Its calls in their order, and all that came of them, whatever order the rows came in."""
    [one] = dossier.conversations(ROWS, PLAIN.open)

    assert (["ex_1", "ex_2"], ("phone", "a")) == ([call.id for call in one.calls], dossier.channels(one))
    assert ((held("ap_1"),), (handoff("ho_1"),), (KEPT,), (LINK,)) == (one.held, one.handoffs, one.kept, one.links)
    assert ("s", ("vip",)) == (one.id, one.session and one.session.labels)
    assert [one] == dossier.conversations(reversed(ROWS), PLAIN.open)


def test_of_each_row_the_newest_counts() -> None:
    """Whichever tier has it, and in whatever order tiers are asked."""
    versions = [replace(CALL, version=n, body=msgspec.json.encode(exchange("ex_1", turn=n))) for n in (1, 2, 3)]

    assert {(3, 1)} == {
        (newest[0].version, len(newest)) for some in permutations(versions) if (newest := dossier.newest(some))
    }


def test_conversations_come_in_the_order_in_which_they_began() -> None:
    """Each by itself, though their calls alternate."""
    rows = [
        replace(row(Table.EXCHANGES, f"ex_{n}", exchange(f"ex_{n}", started_ms=n), session=name), at_ms=n)
        for n, name in enumerate(("b", "a", "b", "a"))
    ]

    found = dossier.conversations(reversed(rows), PLAIN.open)
    assert [("b", ["ex_0", "ex_2"]), ("a", ["ex_1", "ex_3"])] == [(f.id, [call.id for call in f.calls]) for f in found]


@pytest.mark.parametrize(
    ("customers", "sessions"),
    [
        pytest.param(("cu_1",), ["s", "x"], id="a customer's links lead to conversations"),
        pytest.param(("cu_2",), ["x"], id="another's lead elsewhere"),
        pytest.param((), ["x"], id="no customer was asked for"),
    ],
)
def test_a_customer_stands_for_conversations(customers: tuple[str, ...], sessions: list[str]) -> None:
    """Those that were asked for stay; one is never widened to a customer that nobody asked for."""
    which = Selection(sessions=frozenset({"x"}), customers=frozenset(customers))

    found = dossier.widened(which, ROWS)
    assert (sessions, frozenset(customers)) == (sorted(found.sessions), found.customers)


def test_everything_that_could_be_left_has_a_name() -> None:
    """Conversations, calls, actions, packets, the customer, and what callers call it unless that is in anything."""
    which = Selection(
        sessions=frozenset({"s"}), customers=frozenset({"cu_1"}), names=frozenset({"ann", "ann@example.org"})
    )

    assert ["ann@example.org", "ap_1", "cu_1", "ex_1", "ex_2", "ho_1", "s"] == sorted(dossier.needles(which, ROWS))
    assert ("ex_2", "ex_1", "ap_1", "ho_1") == dossier.ids(ROWS)


def test_budgets_know_a_customer_by_each_caller_that_served_it() -> None:
    """By the digests that calls were counted under; without a name there is none."""
    one = exchange("ex_1")
    other = replace(one, caller=Caller(agent="b", level=Level.ASSIST, principal="q"))
    rows = [*ROWS, row(Table.EXCHANGES, "ex_3", other)]
    asked = Request(dialect="chat", model="m", messages=(), user="ann", body={}, raw=b"")

    assert {user(asked, call.caller) for call in (one, other)} == dossier.users(rows, "ann")
    assert frozenset() == dossier.users(rows, "")
