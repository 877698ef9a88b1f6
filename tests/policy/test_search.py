"""Owns the proof of what rules look for: every kind, pattern and exception, put together without overlap."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.policy.search import apart
from proxy.policy.tally import ESCALATE_TEXT, SAFE_TEXT
from proxy.terms import Chunk, Decision, Facts, Finding, How, Message, Mode, Phase, Reply, Result, Span, Verdict
from tests.policy.written import FUNCTIONS, called, compiled, decided, entry, facts, policy, replied, request, rule

EMAIL: dict[str, Any] = {"action": "redact", "kinds": ["email"]}
SAID = facts(request=request("I am a@b.c", "Noted.", "not x@y.z, 🙂 a@b.c"))


def resulted(text: str, **fields: Any) -> Facts:
    """Make the facts of a tool result."""
    return facts(result=Result(tool="lookup", call_id="c1", text=text, **fields))


def places(decision: Decision) -> list[tuple[str, str, int, int]]:
    """Return where a decision takes what out."""
    return [(span.place, span.kind, span.start, span.end) for span in decision.spans]


def test_a_request_is_searched_message_by_message() -> None:
    """Spans are places in the original texts, the message's index with them, in order."""
    decision = decided(rule(**EMAIL), SAID)

    assert (Verdict.REDACT, "rule", "p/r@1.0.0", "") == (
        decision.verdict,
        decision.reason,
        decision.rule,
        decision.message,
    )
    assert [("0", "email", 5, 10), ("2", "email", 4, 10), ("2", "email", 13, 18)] == places(decision)


def test_spans_are_in_the_order_of_the_messages() -> None:
    """The tenth message comes after the second."""
    many = facts(request=request(*["a@b.c"] * 12))

    assert list(map(str, range(12))) == [span.place for span in decided(rule(**EMAIL), many).spans]


@pytest.mark.parametrize(
    ("phase", "known"),
    [
        pytest.param(Phase.TOOL_RESULT, resulted("to a@b.c"), id="a tool result"),
        pytest.param(Phase.RESPONSE, replied("to a@b.c"), id="a reply"),
        pytest.param(Phase.CHUNK, facts(chunk=Chunk(text="to a@b.c", end=8)), id="a step of a text"),
    ],
)
def test_each_phase_is_about_its_own_text(phase: Phase, known: Facts) -> None:
    """In a later phase the messages of the request are not searched again."""
    known = replace(known, request=SAID.request)

    decision = decided(rule(phase=phase, **EMAIL), known, phase)

    assert [("", "email", 3, 8)] == places(decision)


@pytest.mark.parametrize(
    ("action", "how"),
    [
        pytest.param("redact", How.MASK, id="redact"),
        pytest.param("mask", How.MASK, id="mask"),
        pytest.param("hash", How.HASH, id="hash"),
        pytest.param("tokenize", How.TOKENIZE, id="tokenize"),
    ],
)
def test_the_action_says_how(action: str, how: How) -> None:
    """Redact means mask; all are one verdict."""
    decision = decided(rule(action=action, kinds=["email"]), SAID)

    assert (Verdict.REDACT, {how}) == (decision.verdict, {span.how for span in decision.spans})


@pytest.mark.parametrize(
    ("keys", "spans"),
    [
        pytest.param({"kinds": ["api_key"]}, [], id="another kind"),
        pytest.param({"kinds": ["api_key", "email"]}, [(4, 10), (13, 18)], id="kinds"),
        pytest.param({"pattern": "[abc]@"}, [(13, 15)], id="a pattern counts characters"),
        pytest.param({"pattern": "q*"}, [], id="a pattern that finds nothing everywhere"),
        pytest.param({"pattern": "q"}, [], id="a pattern that finds nothing"),
        pytest.param({"kinds": ["email"], "allow": "finding.text == 'a@b.c'"}, [(4, 10)], id="an allowed text"),
        pytest.param({"kinds": ["email"], "allow": "finding.kind == 'email'"}, [], id="an allowed kind"),
        pytest.param({"kinds": ["email"], "allow": "finding.score < 1.0"}, [(4, 10), (13, 18)], id="a score"),
        pytest.param({"kinds": ["email"], "allow": "vars.mine == finding.text"}, [(4, 10)], id="a variable"),
        pytest.param({"kinds": ["email"], "when": "request.stream"}, [], id="a condition that does not hold"),
        pytest.param({"kinds": ["email"], "require": "request.stream"}, [(4, 10), (13, 18)], id="one that does"),
    ],
)
def test_a_rule_takes_out_what_it_is_about(keys: dict[str, Any], spans: list[tuple[int, int]]) -> None:
    """It matches where its condition holds and something is found that it does not allow."""
    known = facts(request=request("not x@y.z, 🙂 a@b.c"))
    spec = policy({"action": "mask", **keys}, variables=[{"name": "mine", "expression": "'a@' + 'b.c'"}])

    decision = decided(spec, known)

    assert spans == [(span.start, span.end) for span in decision.spans]
    assert (Verdict.REDACT if spans else Verdict.ALLOW) == decision.verdict


def test_a_broken_character_moves_nothing() -> None:
    """A lone surrogate, which RE2 cannot read, does not shift what stands behind it."""
    decision = decided(rule(action="mask", pattern="x+"), facts(request=request("\ud800\ud800 xx")))

    assert [("0", "pattern", 3, 5)] == places(decision)


def test_the_earlier_rule_wins_an_overlap() -> None:
    """What a later rule finds beside an earlier one is still taken out."""
    spec = policy(
        {"action": "hash", "pattern": "cd"}, {"action": "mask", "pattern": "b.*e"}, {"action": "mask", "pattern": "c"}
    )

    decision = decided(spec, facts(request=request("abcdef")))

    found = [(span.rule, span.how, span.start, span.end) for span in decision.spans]
    mask, hashed = ("p/r1@1.0.0", How.MASK), ("p/r0@1.0.0", How.HASH)
    assert [(*mask, 1, 2), (*hashed, 2, 4), (*mask, 4, 5)] == found
    assert 3 == len(decision.rules)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.sampled_from("01")), max_size=8))
def test_spans_never_overlap_and_lose_no_character(found: list[tuple[int, int, str]]) -> None:
    """However findings overlap, every character of them is in exactly one span, that of the first that has it."""
    spans = [
        Span(rule=str(number), kind="k", how=How.MASK, start=start, end=start + length, place=place)
        for number, (start, length, place) in enumerate(found)
    ]

    result = [(span.place, at, span.rule) for span in apart(spans) for at in range(span.start, span.end)]

    first = {(span.place, at): span.rule for span in reversed(spans) for at in range(span.start, span.end)}
    assert [(*key, rule_id) for key, rule_id in sorted(first.items())] == result


def test_shadow_takes_nothing_out() -> None:
    """A rule in shadow is on record and changes no text."""
    decision = decided(rule(mode="shadow", **EMAIL), SAID)

    assert (Verdict.ALLOW, Verdict.REDACT, ()) == (decision.verdict, decision.shadow_verdict, decision.spans)
    assert [Mode.SHADOW] == [hit.mode for hit in decision.rules]


@pytest.mark.parametrize(
    ("on_error", "verdict"),
    [
        pytest.param("deny", Verdict.DENY, id="deny"),
        pytest.param("escalate", Verdict.ESCALATE, id="escalate"),
        pytest.param("allow", Verdict.ALLOW, id="allow"),
    ],
)
@pytest.mark.parametrize(
    "allow",
    [pytest.param("finding.text == string(1 / 0)", id="an error"), pytest.param("finding.text", id="no yes or no")],
)
def test_an_allow_that_fails_follows_on_error(allow: str, on_error: str, verdict: Verdict) -> None:
    """An exception that cannot be told is no exception, and no redaction by halves."""
    decision = decided(rule(allow=allow, onError=on_error, **EMAIL), SAID)

    assert (verdict, ()) == (decision.verdict, decision.spans)


def test_a_detector_that_fails_follows_on_error() -> None:
    """A text that could not be searched is not taken for clean."""

    def broken(text: str) -> list[Finding]:
        raise ValueError(text)

    policies = compiled(rule(**EMAIL), functions=replace(FUNCTIONS, find=broken))

    decision = decided(policies, SAID)

    assert (Verdict.DENY, "policy_error") == (decision.verdict, decision.reason)
    assert ["the text cannot be searched: ValueError"] == [hit.error for hit in decision.rules]


def test_a_text_is_searched_once_for_all_rules() -> None:
    """Two rules about one text share what is found in it."""
    searched: list[str] = []

    def find(text: str) -> list[Finding]:
        searched.append(text)
        return []

    decided(compiled(policy(EMAIL, EMAIL), functions=replace(FUNCTIONS, find=find)), facts())

    assert ["hello"] == searched


def test_the_longest_of_what_begins_together_is_taken_out_whole() -> None:
    """A card number in a longer number does not cut that in two."""
    found = [Finding(guard="pii", label="email", start=0, end=end) for end in (2, 4)]

    decision = decided(compiled(rule(**EMAIL), functions=replace(FUNCTIONS, find=lambda text: found)), facts())

    assert [("0", "email", 0, 4)] == places(decision)


def data(**keys: Any) -> str:
    """Write a policy with one entry under `data`."""
    return f"  data: [{ {'id': 'd', 'direction': 'in', 'kinds': ['email'], 'action': 'mask', **keys}!r}]"


@pytest.mark.parametrize(
    ("keys", "phase", "verdict"),
    [
        pytest.param({}, Phase.REQUEST, Verdict.REDACT, id="in"),
        pytest.param({"direction": "out"}, Phase.RESPONSE, Verdict.REDACT, id="out"),
        pytest.param({"direction": "tool_result"}, Phase.TOOL_RESULT, Verdict.REDACT, id="tool_result"),
        pytest.param({"action": "deny"}, Phase.REQUEST, Verdict.DENY, id="deny"),
        pytest.param({"kinds": ["api_key"]}, Phase.REQUEST, Verdict.ALLOW, id="kinds"),
        pytest.param({"allow": "finding.kind == 'email'"}, Phase.REQUEST, Verdict.ALLOW, id="allow"),
        pytest.param({"mode": "shadow"}, Phase.REQUEST, Verdict.ALLOW, id="mode"),
        pytest.param({"allow": "1 / 0 == 1"}, Phase.REQUEST, Verdict.DENY, id="an error"),
        pytest.param({"allow": "1 / 0 == 1", "onError": "allow"}, Phase.REQUEST, Verdict.ALLOW, id="onError"),
    ],
)
def test_the_data_section_says_the_same_in_short(keys: dict[str, Any], phase: Phase, verdict: Verdict) -> None:
    """A direction is a phase; an action is how, or a denial of whatever has such data in it."""
    known = facts(
        request=request("a@b.c"), response=Reply(text="a@b.c"), result=Result(tool="t", call_id="c1", text="a@b.c")
    )

    decision = decided(data(**keys), known, phase)

    assert verdict == decision.verdict
    assert (verdict is Verdict.REDACT) == bool(decision.spans)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param({}, SAFE_TEXT, id="default"),
        pytest.param({"message": "No addresses, please."}, "No addresses, please.", id="its own"),
    ],
)
def test_denied_data_is_told(keys: dict[str, Any], message: str) -> None:
    """A denial by `data` says its message."""
    assert message == decided(data(action="deny", **keys), SAID).message


@pytest.mark.parametrize(
    ("spec", "holds"),
    [
        pytest.param(rule(phase="response", **EMAIL), True, id="redact"),
        pytest.param(rule(phase="response", stream="after", **EMAIL), False, id="redact afterwards"),
        pytest.param(rule(phase="response", mode="shadow", **EMAIL), False, id="in shadow"),
        pytest.param(data(direction="out"), True, id="data"),
        pytest.param(data(direction="in"), False, id="data of a request"),
        pytest.param(rule(phase="response", action="escalate", when="true"), True, id="escalate"),
        pytest.param(rule(phase="response", action="label", labels=["x"], when="true"), False, id="label"),
    ],
)
def test_a_reply_waits_for_what_may_change_it(spec: str, holds: bool) -> None:
    """What has left cannot be taken back."""
    assert holds == compiled(spec).holds_response


def test_a_reply_that_did_not_wait_is_not_redacted() -> None:
    """With `stream: after` a redaction is only on record."""
    decision = decided(rule(phase="response", stream="after", **EMAIL), replied("a@b.c"), Phase.RESPONSE)

    assert (Verdict.ALLOW, Verdict.REDACT, ()) == (decision.verdict, decision.shadow_verdict, decision.spans)


def test_a_heavier_verdict_keeps_the_spans() -> None:
    """What an escalation hands on is redacted as well."""
    spec = policy(EMAIL, {"action": "escalate", "when": "true"})

    decision = decided(spec, facts(request=request("a@b.c")))

    assert (Verdict.ESCALATE, ESCALATE_TEXT, 1) == (decision.verdict, decision.message, len(decision.spans))


def test_only_texts_are_searched() -> None:
    """A message without text is no trouble."""
    known = facts(request=request(messages=(Message(role="assistant"), Message(role="user", text="a@b.c"))))

    assert [("1", "email", 0, 5)] == places(decided(rule(**EMAIL), known))


def test_a_reply_is_searched_in_all_it_says() -> None:
    """What a choice thinks and how it refuses are texts like its answer; the place says which one."""
    reply = Reply(text="to a@b.c", reasoning="a@b.c", refusal="not a@b.c")

    found = places(decided(rule(phase="response", **EMAIL), facts(response=reply), Phase.RESPONSE))

    assert [("", "email", 3, 8), ("reasoning", "email", 0, 5), ("refusal", "email", 4, 9)] == sorted(found)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(0, 3, [], id="after the step"),
        pytest.param(3, 4, [("", "email", 3, 8)], id="it begins in the step"),
        pytest.param(4, 8, [], id="before the step"),
    ],
)
def test_a_find_counts_in_the_step_in_which_it_begins(start: int, end: int, expected: list[Any]) -> None:
    """What begins before or after a step is of another step, also for a rule that denies what it finds."""
    known = facts(chunk=Chunk(text="to a@b.c", start=start, end=end))
    deny = entry("data", direction="out", kinds=["email"], action="deny", stream="window")

    assert expected == places(decided(rule(phase="chunk", **EMAIL), known, Phase.CHUNK))
    assert (Verdict.DENY if expected else Verdict.ALLOW) == decided(deny, known, Phase.CHUNK).verdict


def test_a_find_that_may_go_on_beyond_what_is_seen_is_an_error() -> None:
    """Its end cannot be told, so it cannot be covered: the rule fails, and so denies."""
    known = facts(chunk=Chunk(text="to a@b.c", start=0, end=4, final=False))

    found = decided(rule(phase="chunk", **EMAIL), known, Phase.CHUNK)

    assert (Verdict.DENY, "policy_error") == (found.verdict, found.reason)


ARGUMENTS = {"phase": "tool_call", **EMAIL}


def test_a_call_is_searched_string_by_string() -> None:
    """Every string value of the arguments is a text of its own, by its pointer; keys are not searched."""
    known = called("mail", '{"to": ["a@b.c", 1], "a@b.c": {"cc": "to x@y.z"}}')

    assert [("/to/0", "email", 0, 5), ("/a@b.c/cc", "email", 3, 8)] == places(
        decided(rule(**ARGUMENTS), known, Phase.TOOL_CALL)
    )


def test_what_is_taken_out_of_a_call_is_looked_for_in_what_rules_made_of_it() -> None:
    """A rule that rewrites an argument does not bring in what another one takes out, wherever it stands."""
    rewrite = {"phase": "tool_call", "action": "rewrite", "when": "true", "rewrite": {"cc": "'x@y.z'"}}
    spec = policy({"id": "r", **ARGUMENTS}, {"id": "s", **rewrite})

    found = decided(spec, called("mail", '{"cc": "nobody"}'), Phase.TOOL_CALL)

    assert [("/cc", "email", 0, 5)] == places(found)
    assert {"cc": "x@y.z"} == found.rewrites


def test_a_call_that_cannot_be_read_is_denied() -> None:
    """Arguments that are no strict JSON object cannot be searched: that is an error, never nothing found."""
    found = decided(rule(**ARGUMENTS), called("mail", "{"), Phase.TOOL_CALL)

    assert (Verdict.DENY, "policy_error") == (found.verdict, found.reason)


def test_data_may_be_denied_to_tools() -> None:
    """`direction: tool_args` with `action: deny` denies the call that has it in a string."""
    spec = entry("data", direction="tool_args", kinds=["email"], action="deny")

    assert Verdict.DENY is decided(spec, called("mail", '{"to": "a@b.c"}'), Phase.TOOL_CALL).verdict
    assert Verdict.ALLOW is decided(spec, called("mail", '{"to": "a"}'), Phase.TOOL_CALL).verdict
