"""Owns the proof of proxy/audit/entries.py: entries say what was decided and done, and nothing of what was said."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from proxy.audit import canonical
from proxy.audit.entries import LONGEST, Fields, asked, closed, dispatched, event, finished, opens, ruled
from proxy.terms import Decision, GuardResult, Handoff, Held, HeldState, Mode, Phase, RuleHit, State, Verdict
from tests.stores.samples import AT_MS, attempt, exchange

SALT = bytes(32)
HIT = RuleHit(id="p/cap@1", action=Verdict.DENY, mode=Mode.ENFORCE, message="SECRET")
DENIED = Decision(
    id="ex_1-tool_call0.0",
    phase=Phase.TOOL_CALL,
    verdict=Verdict.DENY,
    reason="rule",
    rule="p/cap@1",
    rules=(HIT,),
    message="SECRET",
    subject="call_1",
)
CALL = replace(
    exchange("ex_1", State.COMPLETE, attempt("ex_1", 1, State.COMPLETE, 45), session="SECRET"),
    input_digest="SECRET",
    sent_digest="SECRET",
    decisions=(DENIED, Decision(id="ex_1-request", phase=Phase.REQUEST, verdict=Verdict.ALLOW)),
    guards=(GuardResult(name="pii", version="1"), GuardResult(name="voice", version="1", ran=False)),
    tool_calls=("look", "x" * 999),
)
HELD = Held(
    id="ap_1", key="k", session_id="SECRET", agent="a", tenant="t", tool="refund", arguments="SECRET",
    rule="p/ask@1", created_ms=1, expires_ms=2, state=HeldState.APPROVED, exchange_id="ex_1", decided_by="lead",
)  # fmt: skip
PACKET = Handoff(
    id="ho_1", session_id="SECRET", exchange_id="ex_1", at_ms=1, agent="a", tenant="t", queue="q", rule="p/esc@1",
    reason="asked", summary="SECRET", closed_by="lead",
)  # fmt: skip
WRITTEN: list[Fields] = [
    dispatched(CALL, SALT),
    finished(CALL, SALT),
    asked("approve", "ap_1", "lead", "SECRET", AT_MS)(SALT),
    ruled(HELD, "ap_1", AT_MS)(SALT),
    closed(PACKET, "ho_1", AT_MS)(SALT),
]


@pytest.mark.parametrize("fields", WRITTEN, ids=lambda fields: str(fields["kind"]))
def test_no_content_is_in_an_entry(fields: Fields) -> None:
    """What was said, what a conversation is called, and even digests of it are bound to and not told."""
    assert b"SECRET" not in canonical(fields)
    assert fields["sealed"]


def test_a_call_says_who_what_and_why() -> None:
    """Who called, where it went, what it cost, and which rules decided what."""
    fields = finished(CALL, SALT)

    assert ("a", "p", "complete", 45) == tuple(fields[name] for name in ("agent", "principal", "state", "nanousd"))
    assert [{"target": "p/m", "state": "complete", "error": "", "nanousd": 45}] == fields["attempts"]
    assert fields["decisions"] == [
        {
            "phase": "tool_call",
            "verdict": "deny",
            "rules": ["p/cap@1"],
            "subject": "call_1",
            "reason": "rule",
            "by": "p/cap@1",
        },
        {"phase": "request", "verdict": "allow", "rules": []},
    ]
    assert (["voice"], ["look", "x" * LONGEST]) == (fields["not_run"], fields["tools"])


def test_a_dispatched_call_says_where_it_goes() -> None:
    """The newest attempt, and what is held for it."""
    fields = dispatched(replace(CALL, attempts=(*CALL.attempts, attempt("ex_1", 2))), SALT)

    assert ("dispatched", "ex_1", 2, "p/m") == tuple(fields[name] for name in ("kind", "id", "attempt", "target"))


@pytest.mark.parametrize(
    ("salt", "name", "content", "fits"),
    [
        pytest.param(SALT, "session", b"SECRET", True, id="the conversation"),
        pytest.param(SALT, "record", msgspec.json.encode(CALL), True, id="the record, as it is stored"),
        pytest.param(SALT, "record", msgspec.json.encode(replace(CALL, status=201)), False, id="a changed record"),
        pytest.param(b"\1" * 32, "session", b"SECRET", False, id="another salt"),
        pytest.param(SALT, "arguments", b"SECRET", False, id="what it is not bound to"),
    ],
)
def test_an_entry_is_bound_to_content(salt: bytes, name: str, content: bytes, fits: bool) -> None:
    """With its salt, and only with it, an entry shows which content it was about."""
    sealed = finished(CALL, SALT)["sealed"]
    assert isinstance(sealed, dict)

    assert fits == opens(sealed, salt, name, content)


def test_equal_contents_do_not_show() -> None:
    """Two names of one entry, and two entries, are bound to the same content by different digests."""
    sealed = [finished(CALL, salt)["sealed"] for salt in (SALT, b"\1" * 32)]
    digests = [digest for one in sealed if isinstance(one, dict) for digest in one.values()]

    assert 8 == len(set(map(str, digests)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param(ruled(HELD, "ap_1", AT_MS)(SALT), {"state": "approved", "by": "lead", "call": "ex_1"}, id="ruled"),
        pytest.param(ruled(None, "ap_9", AT_MS)(SALT), {"id": "ap_9", "state": ""}, id="no such action"),
        pytest.param(closed(PACKET, "ho_1", AT_MS)(SALT), {"found": True, "by": "lead"}, id="closed"),
        pytest.param(closed(None, "ho_9", AT_MS)(SALT), {"id": "ho_9", "found": False}, id="no such hand-off"),
        pytest.param(
            asked("deny", "ap_1", "lead", "", 7)(SALT), {"action": "deny", "by": "lead", "at_ms": 7}, id="asked"
        ),
        pytest.param(event("started", 7, {"policies": "d"})(SALT), {"kind": "started", "policies": "d"}, id="event"),
    ],
)
def test_what_humans_and_handrail_do(fields: Fields, said: Fields) -> None:
    """Who ruled on what and what came of it; that Handrail started."""
    assert said == {name: fields[name] for name in said}
