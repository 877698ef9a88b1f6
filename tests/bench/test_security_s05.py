"""Owns the proof of row S5: tenants who use the same names get only their own, and whatever crosses over is found."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.chaos.rows_api import Plan
from bench.security import crossing, s05
from bench.security.asking import Reply
from bench.security.crossing import Content, Heard
from bench.security.echoing import cost_nanousd
from bench.security.outcomes import passed
from bench.security.tenants import Call, spoken
from proxy.terms import Caller, Exchange, Level, Session, State, Totals

OWN, OTHER = "cn00x0123456789abcdef", "cn01x0123456789abcdef"


def test_tenants_get_only_their_own(tmp_path: Path) -> None:
    """A whole Handrail, tenants all at once, and everything looked at that any of them could get or leave."""
    lines = s05.run(Plan(seed=1, full=False, folder=tmp_path))

    assert passed(lines), lines


def test_without_their_keys_they_are_one(tmp_path: Path) -> None:
    """Where nothing proves who calls, all share conversations, answers, approvals and budgets: each check says so."""
    lines = s05.crowded(tmp_path, 120, 6, random.Random(1), 1, auth="")  # noqa: S311 - a schedule, not a secret

    assert [True] + [False] * len(crossing.CHECKS) == [
        line.met for line in lines if "never tried" not in line.what and "rows of another" not in line.what
    ]


def call(text: str = OWN, reply_id: str = "echo-1", tenant: int = 0, **more: Any) -> Call:
    """Return a call that went as it should."""
    body = f'{{"id":"{reply_id}","choices":[{{"message":{{"content":"{text}"}}}}]}}'
    return Call(tenant=tenant, what="talk", reply=Reply(200, "", body.encode(), f"ex_{tenant}"), **more)


def record(tenant: int = 0, session_id: str = "", labels: tuple[str, ...] = (), replay_of: str = "") -> Exchange:
    """Return the record of a tenant's call."""
    caller = Caller(agent="a00", level=Level.EXECUTE, principal=crossing.principal(tenant))
    return Exchange(
        id=f"ex_{tenant}",
        started_ms=1,
        endpoint="/v1/chat/completions",
        caller=caller,
        session=Session(id=session_id or f"se_{tenant}", labels=labels),
        stream=False,
        model_asked="m",
        state=State.COMPLETE,
        replay_of=replay_of,
    )


KEPT = Content(what="kept", record="ex_0", session_id="se_0", data=OWN.encode())
BOOKS = {
    (scope, "day"): Totals(nanousd=cost_nanousd("echo-1") + cost_nanousd("echo-2") * shared)
    for scope in crossing.scopes(0, "se_0")
    for shared in [scope in crossing.scopes(1, "se_1")]
} | {
    (scope, "day"): Totals(nanousd=cost_nanousd("echo-2"))
    for scope in crossing.scopes(1, "se_1")
    if scope not in crossing.scopes(0, "se_0")
}
CLEAN = Heard(
    calls=[call(), call(OTHER, "echo-2", tenant=1)],
    sent=[b"[EMAIL_0000000A] " + OWN.encode(), b"<<[EMAIL_0000000A]>> " + OTHER.encode()],
    exchanges=[record(), record(1)],
    contents=[KEPT],
    totals=BOOKS,
)


def test_what_is_ones_own_is_no_leak() -> None:
    """The run that the others are made of has nothing to find."""
    assert [] == [found for check in crossing.CHECKS.values() for found in check(CLEAN)]


@pytest.mark.parametrize(
    ("check", "heard"),
    [
        pytest.param(crossing.in_replies, replace(CLEAN, calls=[call(OTHER)]), id="another's canary"),
        pytest.param(
            crossing.in_replies, replace(CLEAN, calls=[call(), call(OTHER, tenant=1)]), id="one answer for two"
        ),
        pytest.param(crossing.otherwise, replace(CLEAN, calls=[call(owned=True)]), id="a hand-off lost"),
        pytest.param(crossing.otherwise, replace(CLEAN, calls=[call('"call_1"')]), id="another's approval"),
        pytest.param(crossing.otherwise, replace(CLEAN, calls=[call(repeated=True)]), id="no answer of its own"),
        pytest.param(crossing.upstream, replace(CLEAN, sent=[f"{OWN} {OTHER}".encode()]), id="two in one request"),
        pytest.param(
            crossing.upstream,
            replace(CLEAN, sent=[f"[EMAIL_0000000A] {one}".encode() for one in (OWN, OTHER)]),
            id="one placeholder for two",
        ),
        pytest.param(crossing.in_records, replace(CLEAN, exchanges=[record(1)]), id="no record"),
        pytest.param(
            crossing.in_records, replace(CLEAN, exchanges=[replace(record(1), id="ex_0"), record(1)]), id="of another"
        ),
        pytest.param(
            crossing.in_records, replace(CLEAN, exchanges=[record(), record(1, "se_0")]), id="one conversation for two"
        ),
        pytest.param(
            crossing.in_records, replace(CLEAN, exchanges=[record(labels=("marked",)), record(1)]), id="another's label"
        ),
        pytest.param(
            crossing.in_records, replace(CLEAN, exchanges=[record(replay_of="ex_1"), record(1)]), id="another's answer"
        ),
        pytest.param(
            crossing.in_contents, replace(CLEAN, contents=[replace(KEPT, data=OTHER.encode())]), id="kept with a canary"
        ),
        pytest.param(
            crossing.in_contents, replace(CLEAN, contents=[replace(KEPT, session_id="se_1")]), id="kept elsewhere"
        ),
        pytest.param(
            crossing.in_books,
            replace(CLEAN, totals={**BOOKS, ("conversation:se_0", "day"): Totals(nanousd=1)}),
            id="another bill",
        ),
        pytest.param(crossing.in_books, replace(CLEAN, totals={}), id="no bill"),
    ],
)
def test_what_crosses_over_is_found(check: crossing.Check, heard: Heard) -> None:
    """Each check tells what is not its tenant's own; the row can fail."""
    assert [*check(heard)]


def test_a_canary_in_pieces_is_found() -> None:
    """A stream is put together before it is looked through."""
    events = [f'data: {{"choices":[{{"delta":{{"content":"{part}"}}}}]}}\n\n' for part in (OTHER[:9], OTHER[9:])]
    body = "".join([*events, "data: [DONE]\n\n"]).encode()

    assert OTHER == spoken(body)
    assert [*crossing.in_replies(replace(CLEAN, calls=[replace(call(), reply=Reply(200, "", body, "ex_0"))]))]
