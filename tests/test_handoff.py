"""Owns the proof of proxy/handoff.py: a packet says what the conversation says, in a bounded number of words."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.handoff import FIELDS, LONG, LONGEST_FAILURE, LOOKED_AT, MOST_TRIED, MOST_VALUES, packet
from proxy.terms import (
    Caller,
    Decision,
    Escalation,
    Facts,
    Finding,
    GuardResult,
    Handoff,
    Level,
    Message,
    Mode,
    Phase,
    Request,
    RuleHit,
    Session,
    ToolCall,
    Tried,
    Verdict,
)

DECISION = Decision(
    id="ex_1-request",
    phase=Phase.REQUEST,
    verdict=Verdict.ESCALATE,
    reason="rule",
    rule="p/angry@1",
    message="A colleague will be with you.",
    escalation=Escalation(queue="gold"),
    rules=(
        RuleHit(id="p/other@1", action=Verdict.ANNOTATE, mode=Mode.ENFORCE, message="not this"),
        RuleHit(id="p/angry@1", action=Verdict.ESCALATE, mode=Mode.ENFORCE, message="the customer is angry"),
    ),
)


def nothing(text: str) -> Sequence[Finding]:
    """Find nothing."""
    return ()


def facts_of(*messages: Message, **fields: object) -> Facts:
    """Build facts of a conversation; `tool`, `guards`, `user` and `metadata` as given."""
    of_request = {name: fields.pop(name) for name in ("user", "metadata") if name in fields}
    request = Request(dialect="chat", model="m", messages=messages, body={}, raw=b"", **of_request)  # type: ignore[arg-type]  # by name
    caller = Caller(agent="web", level=Level.EXECUTE, principal="local", tenant="acme")
    session = Session(id="se_1", turn=3)
    return Facts(at_ms=7, caller=caller, request=request, session=session, **fields)  # type: ignore[arg-type]  # by name


def handed(facts: Facts, decision: Decision = DECISION) -> Handoff:
    """Make a packet, with nothing found."""
    return packet(id="ho_1", facts=facts, decision=decision, exchange_id="ex_1", find=nothing)


def user(text: str) -> Message:
    """Return what a customer says."""
    return Message(role="user", text=text)


def called(name: str, call_id: str = "", arguments: str = "{}") -> Message:
    """Return an assistant's message that calls one tool."""
    return Message(role="assistant", tool_calls=(ToolCall(id=call_id, name=name, arguments=arguments),))


def answered(text: str, call_id: str = "", name: str = "", role: str = "tool") -> Message:
    """Return a tool's result."""
    return Message(role=role, text=text, tool_call_id=call_id, name=name)


def test_a_whole_conversation_becomes_a_packet() -> None:
    """Each field of the packet is taken from where the conversation has it."""
    facts = facts_of(
        user("Where is\n order A-1042?"),
        called("get_order", "c1", '{"id":"A-1042"}'),
        answered('{"state":"lost"}', "c1"),
        called("refund", "c2"),
        answered("Error: not allowed", "c2"),
        user("I want a human! Write to a.b@example.com, see https://shop.example/o/1."),
        metadata={"customer_tier": "gold", "trace": "x"},
        user="u-1",
        guards={"sentiment": GuardResult(name="sentiment", version="1", findings=(found("negative", 0, 1),))},
    )

    made = handed(facts)

    assert made == Handoff(
        id="ho_1",
        session_id="se_1",
        exchange_id="ex_1",
        at_ms=7,
        agent="web",
        tenant="acme",
        queue="gold",
        rule="p/angry@1",
        reason="the customer is angry",
        turn=3,
        summary="The customer asked first: “Where is order A-1042?” Last: “I want a human! Write to a.b@example.com, "
        'see https://shop.example/o/1.” Found out: get_order answered “{"state":"lost"}” Done: get_order ok, refund '
        "failed.",
        customer={"user": "u-1", "customer_tier": "gold"},
        tried=(
            Tried(tool="get_order", arguments='{"id":"A-1042"}', result='{"state":"lost"}', outcome="ok"),
            Tried(tool="refund", arguments="{}", result="Error: not allowed", outcome="failed"),
        ),
        sentiment="negative 1.00",
        open_question="I want a human! Write to a.b@example.com, see https://shop.example/o/1.",
        identifiers={"email": ("a.b@example.com",), "link": ("https://shop.example/o/1",), "order": ("A-1042",)},
        completeness=1.0,
    )


def found(label: str, start: int, end: int) -> Finding:
    """Return a finding of a stretch of text."""
    return Finding(guard="g", label=label, start=start, end=end)


def test_what_is_missing_is_said() -> None:
    """A conversation without anything gives an empty packet that names every field it lacks."""
    made = handed(facts_of())

    assert (0.0, FIELDS) == (made.completeness, made.missing)


def test_completeness_is_the_share_of_filled_fields() -> None:
    """A question alone fills summary and open question."""
    made = handed(facts_of(user("Hello?")))

    assert (2 / 6, ("customer", "tried", "sentiment", "identifiers")) == (made.completeness, made.missing)
    assert "The customer asked first: “Hello?”" == made.summary


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        pytest.param('{"ok":true}', "ok", id="object"),
        pytest.param('{"error":"no"}', "failed", id="error"),
        pytest.param('{"error":null}', "ok", id="null error"),
        pytest.param('{"error":""}', "ok", id="empty error"),
        pytest.param('["error"]', "ok", id="list"),
        pytest.param("  ERROR 5", "failed", id="text"),
        pytest.param(f"Error: {'x' * LONGEST_FAILURE}", "failed", id="a long text"),
        pytest.param(f'{{"error":"{"x" * LONGEST_FAILURE}"}}', "ok", id="too long to be read for an error"),
        pytest.param("no error", "ok", id="error later"),
        pytest.param("", "ok", id="empty"),
        pytest.param("[" * 100_000, "ok", id="nested without end"),
    ],
)
def test_a_result_says_whether_it_failed(result: str, outcome: str) -> None:
    """A result failed when its object has an error, or its text begins with one."""
    made = handed(facts_of(called("t", "c"), answered(result, "c")))

    assert [outcome] == [item.outcome for item in made.tried]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([called("t", "c")], [("t", "", "unanswered")], id="no result"),
        pytest.param([called("t", "c"), answered("x", "d")], [("t", "", "unanswered")], id="another's result"),
        pytest.param([answered("x", "c"), called("t", "c")], [("t", "", "unanswered")], id="result before the call"),
        pytest.param(
            [called("t", "c"), answered("1", "c"), called("t", "c"), answered("2", "c")],
            [("t", "1", "ok"), ("t", "2", "ok")],
            id="one id twice",
        ),
        pytest.param([called("t"), answered("x", name="t", role="function")], [("t", "x", "ok")], id="legacy function"),
        pytest.param([called("t", "c"), answered("x", "c"), answered("y", "c")], [("t", "x", "ok")], id="two results"),
    ],
)
def test_calls_are_paired_with_their_results(messages: list[Message], expected: list[tuple[str, str, str]]) -> None:
    """A result belongs to the newest open call of its id."""
    made = handed(facts_of(*messages))

    assert expected == [(item.tool, item.result, item.outcome) for item in made.tried]


def test_the_judged_call_was_refused() -> None:
    """A call that led to the hand-off stands last, as refused."""
    judged = ToolCall(id="c9", name="refund", arguments='{"usd":900}')

    made = handed(facts_of(called("get_order", "c1"), tool=judged))

    assert ["unanswered", "refused"] == [item.outcome for item in made.tried]
    assert Tried(tool="refund", arguments='{"usd":900}', outcome="refused") == made.tried[-1]


def test_repeated_calls_are_counted() -> None:
    """The summary names a tool once, with how often it was tried."""
    made = handed(facts_of(called("t"), called("t"), called("u")))

    assert "Done: t unanswered 2 times, u unanswered." == made.summary


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(GuardResult(name="sentiment", version="1"), "nothing found", id="calm"),
        pytest.param(GuardResult(name="sentiment", version="1", ran=False), "", id="not run"),
        pytest.param(GuardResult(name="sentiment", version="1", error="boom"), "", id="failed"),
    ],
)
def test_sentiment_is_what_the_guard_said(result: GuardResult, expected: str) -> None:
    """A guard that did not run, or failed, said nothing."""
    assert expected == handed(facts_of(guards={"sentiment": result})).sentiment


def test_identifiers_come_from_findings_too() -> None:
    """An address that only a guard knows is named; a finding that leads nowhere is not, nor is what the agent said."""

    def find(text: str) -> Sequence[Finding]:
        return (found("email", 0, 4), found("password", 5, 8)) if text.startswith("a@b ") else ()

    facts = facts_of(user("a@b  xyz #12345 #12345"), Message(role="assistant", text="#99999"))

    made = packet(id="ho_1", facts=facts, decision=DECISION, exchange_id="ex_1", find=find)

    assert {"email": ("a@b",), "order": ("#12345",)} == made.identifiers


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        pytest.param(Decision(id="d", phase=Phase.REQUEST, verdict=Verdict.ESCALATE, reason="policy_error"),
                     ("default", "policy_error"), id="no rule"),
        pytest.param(
            Decision(
                id="d", phase=Phase.REQUEST, verdict=Verdict.ESCALATE, reason="policy_error", rule="p/r@1",
                rules=(RuleHit(id="p/r@1", action=Verdict.ESCALATE, mode=Mode.ENFORCE, error="no_such_field"),),
            ),
            ("default", "no_such_field"), id="failed rule",
        ),
    ],
)  # fmt: skip
def test_there_is_always_a_queue_and_a_reason(decision: Decision, expected: tuple[str, str]) -> None:
    """Without the rule's own words the packet says what policy said, and goes to the default queue."""
    made = handed(facts_of(), decision)

    assert expected == (made.queue, made.reason)


def test_a_long_conversation_gives_a_short_packet() -> None:
    """Texts are shortened, the newest calls kept, and values limited."""
    calls = [called(f"t{n}", f"c{n}") for n in range(MOST_TRIED + 9)]
    facts = facts_of(
        user("x " * 9 * LONG),
        user(" ".join(f"#{n}" for n in range(1000, 1000 + 2 * MOST_VALUES))),
        *calls,
        answered("y" * 9 * LONG, "c58"),
        metadata={f"user_{n}": "z" * 9 * LONG for n in range(2 * MOST_VALUES)},
    )

    made = handed(facts)

    assert (MOST_TRIED, MOST_VALUES) == (len(made.tried), len(made.customer))
    assert "t58" == made.tried[-1].tool
    assert (LONG, "…") == (len(made.tried[-1].result), made.tried[-1].result[-1])
    assert MOST_VALUES == len(made.identifiers["order"])
    assert made.summary.endswith("and 39 more.")
    assert 120_000 > len(msgspec.json.encode(made))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([user("#111"), user("#222")], ("#222", "#111"), id="newest first"),
        pytest.param([user("#111"), user("x " * LOOKED_AT)], None, id="too long ago"),
        pytest.param([user("#111"), user("x" * (LOOKED_AT - 5)), user("#2222")], ("#2222",), id="just too long ago"),
        pytest.param([user(f"#111 {'x' * (LOOKED_AT - 10)} #222222")], ("#111",), id="cut in the middle"),
    ],
)
def test_identifiers_are_looked_for_in_the_newest_texts(
    messages: list[Message], expected: tuple[str, ...] | None
) -> None:
    """A bounded stretch is read, and a number on its edge is left out rather than halved."""
    assert expected == handed(facts_of(*messages)).identifiers.get("order")


TEXTS = st.text(max_size=40)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant", "tool", "system"]),
    text=TEXTS,
    tool_call_id=st.sampled_from(["", "a", "b"]),
    tool_calls=st.lists(
        st.builds(ToolCall, id=st.sampled_from(["a", "b"]), name=TEXTS, arguments=TEXTS), max_size=2
    ).map(tuple),
)


@settings(max_examples=60)
@given(st.lists(MESSAGES, max_size=8))
def test_every_conversation_gives_one_packet(messages: list[Message]) -> None:
    """Any history gives a packet, the same each time; every call of it is tried once, and every result used once."""
    made, again = handed(facts_of(*messages)), handed(facts_of(*messages))

    assert made == again
    assert sum(len(message.tool_calls) for message in messages) == len(made.tried)
    results = sum(message.role == "tool" for message in messages)
    assert results >= sum(item.outcome in ("ok", "failed") for item in made.tried)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("a  b", "a b", id="short"),
        pytest.param("a" * (LONG + 1), "a" * (LONG - 1) + "…", id="long"),
        pytest.param(f"a{' ' * 4 * LONG}b", "a…", id="long by its spaces"),
    ],
)
def test_of_a_long_result_the_beginning_is_kept(text: str, kept: str) -> None:
    """And a sign that there was more."""
    assert kept == handed(facts_of(called("t", "c"), answered(text, "c"))).tried[0].result
