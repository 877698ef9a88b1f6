"""Owns the proof of proxy/recording.py: the one record of a call."""

import pytest
from msgspec.structs import replace

from proxy.recording import NOBODY, Draft, changes, digest, settlements, total, worded
from proxy.terms import (
    Attempt,
    Charge,
    Cost,
    Decision,
    GuardResult,
    Limit,
    Mode,
    Phase,
    RuleHit,
    Settlement,
    State,
    Target,
    Usage,
    Verdict,
)

TARGET = Target(alias="a", provider="p", model="m")


def attempt(cost: int | None, held: int = 0) -> Attempt:
    """Make a finished attempt."""
    return Attempt(
        number=1,
        reservation_id="ex_1:1",
        target=TARGET,
        started_ms=0,
        held_nanousd=held,
        usage=Usage(input_tokens=3, output_tokens=4),
        cost=Cost(nanousd=cost),
        counters=(("agent:a", "day"),),
    )


def test_a_draft_that_says_nothing_was_left_by_its_client() -> None:
    """A walk that is interrupted leaves a record that says so."""
    exchange = Draft("ex_1", "/v1/chat/completions", 5, 100.0).exchange(130.0)

    assert (State.CLIENT_GONE, NOBODY, 30.0, 5) == (
        exchange.state, exchange.caller, exchange.total_ms, exchange.started_ms,
    )  # fmt: skip


def test_no_computed_words_are_on_record() -> None:
    """Of a rule whose words are made of what was said none are kept, of others all; of rewrites the names."""
    hits = tuple(
        RuleHit(id=name, action=Verdict.DENY, mode=Mode.ENFORCE, message=f"words of {name}")
        for name in ("made", "fixed")
    )
    limit = Limit(rule="made", scope="s", window="w", cap_nanousd=1, message="words of made")
    charge = Charge(total="p/usd", amount_nano=1, limit=limit, told=("s", "w"))
    decision = Decision(
        id="d",
        phase=Phase.TOOL_CALL,
        verdict=Verdict.DENY,
        rules=hits,
        message="words of made",
        rewrites={"to": "ann"},
        charges=(charge,),
    )

    kept = worded(decision, {"made"})

    assert ("", ["", "words of fixed"], {"to": None}) == (
        kept.message,
        [hit.message for hit in kept.rules],
        kept.rewrites,
    )
    assert [""] == [charge.limit.message for charge in kept.charges]
    assert "words of fixed" == worded(replace(decision, message="words of fixed"), {"made"}).message


def test_a_guard_that_did_not_run_is_named() -> None:
    """What should have run and did not is on record as not run, never as fine."""
    draft = Draft("ex_1", "/", 0, 0.0)
    draft.guards["topics"] = GuardResult(name="topics", version="1")

    guards = draft.exchange(0.0, ["topics", "pii"]).guards

    assert [("topics", True), ("pii", False)] == [(guard.name, guard.ran) for guard in guards]


def test_what_a_provider_calls_things_is_kept_short() -> None:
    """Names that come from a provider cannot make a record grow."""
    draft, long = Draft("ex_1", "/", 0, 0.0), "n" * 1000
    draft.tool_calls, draft.finish_reason, draft.model_served = [long], long, long

    record = draft.exchange(0.0)

    assert ["n" * 256] * 3 == [*record.tool_calls, record.finish_reason, record.model_served]


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        pytest.param([], Cost(nanousd=0), id="nothing was sent"),
        pytest.param([Cost(nanousd=2), Cost(nanousd=3)], Cost(nanousd=5), id="sum"),
        pytest.param([Cost(nanousd=2), Cost(nanousd=None), Cost(nanousd=3)], Cost(nanousd=None), id="unknown"),
        pytest.param([Cost(nanousd=2, estimated=True), Cost(nanousd=3)], Cost(nanousd=5, estimated=True), id="guess"),
    ],
)
def test_costs_add_up_and_doubt_spreads(costs: list[Cost], expected: Cost) -> None:
    """One unknown makes the sum unknown, one estimate makes it an estimate."""
    assert expected == total(costs)


@pytest.mark.parametrize(
    ("cost", "booked"), [pytest.param(7, 7, id="known"), pytest.param(None, 50, id="unknown settles at the hold")]
)
def test_an_attempt_settles_at_its_cost_or_at_its_hold(cost: int | None, booked: int) -> None:
    """An unknown cost is never settled at zero while money was held for it."""
    expected = Settlement(reservation_id="ex_1:1", nanousd=booked, tokens=7, counters=(("agent:a", "day"),))

    assert [expected] == settlements([attempt(cost, held=50)])


def test_bodies_are_named_by_digest() -> None:
    """The same bytes have the same name, others another."""
    assert digest(b"a") == digest(b"a") != digest(b"b")


def test_what_a_candidate_would_change_is_held_against_what_was_decided() -> None:
    """Before is the decision of that id, as the rules made it, or `allow` where no rule was asked."""
    made, waited = (decided(name, Verdict.REDACT) for name in ("a", "b"))
    after = [decided(name, Verdict.DENY) for name in ("a", "b", "c")]
    record = Draft("ex_1", "/", 0, 0.0).exchange(0.0)
    record = replace(record, decisions=(made, replace(waited, held="ap_1")), candidate=tuple(after))

    assert [Verdict.REDACT, Verdict.REQUIRE_APPROVAL, Verdict.ALLOW] == [
        before.verdict for before, _ in changes(record)
    ]
    assert after == [after for _, after in changes(record)]


def decided(name: str, verdict: Verdict) -> Decision:
    """Make a decision."""
    return Decision(id=name, phase=Phase.REQUEST, verdict=verdict)


def test_a_record_cuts_the_name_of_a_call() -> None:
    """What a provider calls its calls cannot make records grow; a name of a usual length is kept whole."""
    decisions = [Decision(id="d", phase=Phase.TOOL_CALL, verdict=Verdict.ALLOW, subject="c" * n) for n in (256, 300)]

    assert [256, 256] == [len(worded(decision, ()).subject) for decision in decisions]
