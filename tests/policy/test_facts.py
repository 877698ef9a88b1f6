"""Owns the proof of every variable: what it holds, when it is there, and that nothing is made before it is read."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from proxy import cel
from proxy.policy import user_text
from proxy.policy.activation import Activation
from proxy.policy.facts import ROOTS, makers
from proxy.terms import (
    Candidate,
    Chunk,
    Facts,
    Finding,
    GuardResult,
    Level,
    Message,
    Outcome,
    Phase,
    Reply,
    Result,
    Session,
    Spend,
    Target,
    ToolCall,
    ToolSpec,
    Totals,
    Usage,
    Verdict,
)
from tests.policy.written import at_level, called, decided, facts, found, replied, request, rule, value, verdict

HISTORY = (
    Message(role="system", text="be kind"),
    Message(role="developer", text="be short"),
    Message(role="user", text="where is A1?"),
    Message(role="assistant", tool_calls=(ToolCall(id="c1", name="lookup", arguments='{"order_id": "A1"}'),)),
    Message(role="tool", text='{"order_id": "A1", "total": 5}', tool_call_id="c1"),
    Message(role="assistant", tool_calls=(ToolCall(id="c2", name="lookup", arguments="{"),)),
    Message(role="tool", text="not found", tool_call_id="c2"),
    Message(role="tool", text="{}", tool_call_id="nobody-asked"),
)
TALK = facts(request=request(messages=HISTORY, tools=(ToolSpec(name="lookup", schema={"type": "object"}),)))
FULL = facts(request=request(max_output_tokens=50, temperature=0.5, stream=True, metadata={"tier": "gold"}))
CLAIMED = facts(caller=replace(at_level(Level.EXECUTE), claims={"tier": "gold", "roles": "lead, eu,", "team": "a"}))
RESULT = facts(result=Result(tool="lookup", call_id="c1", text='{"é": 1}', verified=True, new=False))
SPENT = facts(
    spend=Spend(
        est_nanousd=1_000_000,
        max_nanousd=20_000_000,
        conversation=Totals(nanousd=400_000_000, reserved_nanousd=100_000_000, tokens=7, calls=2),
        agent=Totals(nanousd=3_000_000_000, tokens=70, calls=20),
    )
)
REPLY = facts(
    response=Reply(
        text="hi",
        model="gpt",
        finish_reason="stop",
        refusal="no",
        reasoning="hm",
        tool_calls=(ToolCall(id="c1", name="t", arguments='{"a": 1}'),),
    )
)


@pytest.mark.parametrize(
    ("expression", "known", "phase"),
    [
        pytest.param('now == timestamp("2026-01-05T09:40:00Z")', facts(), Phase.REQUEST, id="now"),
        pytest.param('agent.id == "support-web"', facts(), Phase.REQUEST, id="agent.id"),
        pytest.param('agent.level == "execute" && agent.rank == 2', facts(), Phase.REQUEST, id="agent.level"),
        pytest.param("agent.rank == 3", facts(caller=at_level(Level.OPERATE)), Phase.REQUEST, id="agent.rank"),
        pytest.param('caller.tenant == "acme"', facts(), Phase.REQUEST, id="caller"),
        pytest.param(
            'caller.tier == "gold" && caller.roles == ["lead", "eu"] && caller.claims.team == "a"',
            CLAIMED,
            Phase.REQUEST,
            id="claims",
        ),
        pytest.param(
            'caller.tier == "" && caller.roles == [] && !has(caller.claims.team)',
            facts(),
            Phase.REQUEST,
            id="no claims",
        ),
        pytest.param('conversation.labels == ["pii"]', facts(labels=("pii",)), Phase.REQUEST, id="labels"),
        pytest.param("!conversation.escalated", facts(), Phase.REQUEST, id="not escalated"),
        pytest.param(
            "conversation.escalated", facts(session=Session(id="s", escalation="ho_1")), Phase.REQUEST, id="escalated"
        ),
        pytest.param(
            "request.messages.map(m, m.new) == [false, false, false, false, false, false, true, true]",
            TALK,
            Phase.REQUEST,
            id="new messages",
        ),
        pytest.param("request.messages[0].new", facts(), Phase.REQUEST, id="all is new before the first answer"),
        pytest.param(
            'result.tool == "lookup" && result.call_id == "c1" && result.text == "{\\"é\\": 1}" && result.bytes == 9'
            ' && result.json == {"é": 1} && result.verified && !result.new',
            RESULT,
            Phase.TOOL_RESULT,
            id="result",
        ),
        pytest.param(
            "result.json == null && !result.verified && result.new",
            facts(result=Result(tool="", call_id="", text="not found")),
            Phase.TOOL_RESULT,
            id="a result that is no JSON",
        ),
        pytest.param('conversation.id == "se_1" && conversation.turn == 1', facts(), Phase.REQUEST, id="conversation"),
        pytest.param('conversation.tool_counts == {"lookup": 2}', TALK, Phase.REQUEST, id="tool_counts"),
        pytest.param("size(conversation.tool_results) == 3", TALK, Phase.REQUEST, id="tool_results"),
        pytest.param(
            'conversation.tool_results[0].tool == "lookup" && conversation.tool_results[0].call_id == "c1"'
            " && conversation.tool_results[0].json.total == 5",
            TALK,
            Phase.REQUEST,
            id="a result answers its call",
        ),
        pytest.param(
            'conversation.tool_results[1].json == null && conversation.tool_results[1].text == "not found"',
            TALK,
            Phase.REQUEST,
            id="a result that is not JSON",
        ),
        pytest.param('conversation.tool_results[2].tool == ""', TALK, Phase.REQUEST, id="a result nobody asked for"),
        pytest.param('request.model == "large" && !request.stream', facts(), Phase.REQUEST, id="model"),
        pytest.param("request.stream", FULL, Phase.REQUEST, id="stream"),
        pytest.param(
            "has(request.max_tokens) && request.max_tokens == 50 && request.temperature == 0.5",
            FULL,
            Phase.REQUEST,
            id="max_tokens, temperature",
        ),
        pytest.param(
            "!has(request.max_tokens) && !has(request.temperature)", facts(), Phase.REQUEST, id="not set, not there"
        ),
        pytest.param('request.metadata.tier == "gold"', FULL, Phase.REQUEST, id="metadata"),
        pytest.param('request.system == "be kind\\nbe short"', TALK, Phase.REQUEST, id="system"),
        pytest.param('request.user_text == "where is A1?"', TALK, Phase.REQUEST, id="user_text"),
        pytest.param('request.tool_names == ["lookup"]', TALK, Phase.REQUEST, id="tool_names"),
        pytest.param('request.tools[0].schema.type == "object"', TALK, Phase.REQUEST, id="tools"),
        pytest.param("request.tokens_est == 2", facts(), Phase.REQUEST, id="tokens_est rounds up"),
        pytest.param(
            'request.messages[3].index == 3 && request.messages[3].role == "assistant"'
            ' && request.messages[3].tool_calls[0].args.order_id == "A1"'
            ' && request.messages[3].tool_calls[0].name == "lookup" && request.messages[3].tool_calls[0].id == "c1"'
            ' && request.messages[4].tool_call_id == "c1" && request.messages[2].text == "where is A1?"',
            TALK,
            Phase.REQUEST,
            id="messages",
        ),
        pytest.param(
            'request.headers["x-tier"] == "gold"', facts(headers={"x-tier": "gold"}), Phase.REQUEST, id="headers"
        ),
        pytest.param("!has(request.headers.`x-tier`)", facts(), Phase.REQUEST, id="no such header"),
        pytest.param(
            'tool.name == "t" && tool.id == "c1" && tool.index == 0 && tool.args_raw == "{}"',
            called("t"),
            Phase.TOOL_CALL,
            id="tool",
        ),
        pytest.param("tool.args.amount == 5", called("t", '{"amount": 5}'), Phase.TOOL_CALL, id="tool.args"),
        pytest.param("tool.valid_json && tool.registered && tool.schema_ok", called("t"), Phase.TOOL_CALL, id="good"),
        pytest.param("!tool.valid_json", called("t", "{"), Phase.TOOL_CALL, id="broken arguments"),
        pytest.param("!tool.valid_json", called("t", '{"a": 1, "a": 2}'), Phase.TOOL_CALL, id="duplicate keys"),
        pytest.param(
            "!tool.registered && !tool.schema_ok",
            called("t", request=request()),
            Phase.TOOL_CALL,
            id="a tool nobody offered",
        ),
        pytest.param(
            "!tool.schema_ok",
            called("t", request=request(tools=(ToolSpec(name="t", schema={"required": ["a"]}),))),
            Phase.TOOL_CALL,
            id="arguments that do not fit",
        ),
        pytest.param(
            "!tool.schema_ok",
            called("t", request=request(tools=(ToolSpec(name="t", schema={}), ToolSpec(name="t", schema=False)))),
            Phase.TOOL_CALL,
            id="a tool offered twice must fit both",
        ),
        pytest.param(
            'response.text == "hi" && response.model == "gpt" && response.finish_reason == "stop"'
            ' && response.refusal == "no" && response.reasoning == "hm" && response.tool_calls[0].args.a == 1',
            REPLY,
            Phase.RESPONSE,
            id="response",
        ),
        pytest.param(
            "spend.request.est_usd == 0.001 && spend.request.max_usd == 0.02", SPENT, Phase.REQUEST, id="spend.request"
        ),
        pytest.param(
            "spend.conversation.usd == 0.5 && spend.conversation.tokens == 7 && spend.conversation.calls == 2",
            SPENT,
            Phase.REQUEST,
            id="spend.conversation counts what is held",
        ),
        pytest.param(
            "spend.agent.usd == 3.0 && spend.agent.tokens == 70 && spend.agent.calls == 20",
            SPENT,
            Phase.REQUEST,
            id="spend.agent",
        ),
        pytest.param(
            'spend.conversation == {"usd": 0.5, "tokens": 7, "calls": 2} && spend.agent["calls"] == 20',
            SPENT,
            Phase.REQUEST,
            id="totals as a whole",
        ),
        pytest.param('spend.request == {"est_usd": 0.001, "max_usd": 0.02}', SPENT, Phase.REQUEST, id="amounts"),
        pytest.param("!has(spend.request.est_usd)", facts(), Phase.REQUEST, id="no price, no amount"),
        pytest.param(
            'guards.topics.label == "orders" && guards.topics.score == 0.7 && guards.topics.flagged'
            ' && guards.topics.reason == "" && guards.topics.spans == [{"label": "orders", "start": 0, "end": 0}]',
            facts(guards=found("orders", 0.7)),
            Phase.REQUEST,
            id="guards",
        ),
        pytest.param(
            'guards.topics.label == "b"',
            facts(
                guards={
                    "topics": GuardResult(
                        name="topics",
                        version="1",
                        findings=(
                            Finding(guard="topics", label="a", score=0.2),
                            Finding(guard="topics", label="b", score=0.9),
                        ),
                    )
                }
            ),
            Phase.REQUEST,
            id="the surest finding",
        ),
        pytest.param(
            '!guards.pii.flagged && guards.pii.label == "" && guards.pii.score == 0.0 && guards.pii.spans == []',
            facts(guards={"pii": GuardResult(name="pii", version="1")}),
            Phase.REQUEST,
            id="a guard that found nothing",
        ),
        pytest.param(
            'chunk.text == "abc" && chunk.offset == 7 && !chunk.final',
            facts(chunk=Chunk(text="abc", offset=7, end=3, final=False)),
            Phase.CHUNK,
            id="a step of a text",
        ),
        pytest.param("has(guards.topics)", facts(guards=found("a")), Phase.REQUEST, id="has of a guard"),
        pytest.param("has(guards.topics.label)", facts(guards=found("a")), Phase.REQUEST, id="has of its field"),
        pytest.param("has(agent.id) && has(policy.name)", facts(), Phase.REQUEST, id="always there"),
    ],
)
def test_a_variable_holds_what_the_hallway_knows(expression: str, known: Facts, phase: Phase) -> None:
    """Each variable of the language reads as its page says."""
    said = value(expression, known, phase), value(f"!({expression})", known, phase)

    assert (Verdict.DENY, Verdict.ALLOW) == said


@pytest.mark.parametrize(
    ("variable", "known"),
    [
        pytest.param("request.max_tokens", facts(), id="max_tokens not set"),
        pytest.param("request.temperature", facts(), id="temperature not set"),
        pytest.param("spend.request.est_usd", facts(), id="no price known"),
        pytest.param("spend.request.max_usd", facts(), id="no ceiling known"),
        pytest.param("guards.topics.label", facts(), id="a guard that nobody ran"),
        pytest.param(
            "guards.topics.label",
            facts(guards={"topics": GuardResult(name="topics", version="1", ran=False)}),
            id="a guard that did not run",
        ),
        pytest.param(
            "guards.topics.flagged",
            facts(guards={"topics": GuardResult(name="topics", version="1", error="timeout")}),
            id="a guard that failed",
        ),
        pytest.param("tool.args", called("t", "{"), id="broken arguments"),
        pytest.param("tool.schema_ok", called("t", "{"), id="the schema of broken arguments"),
        pytest.param("tool.name", facts(), id="no tool call"),
        pytest.param("response.text", facts(), id="no reply"),
        pytest.param("result.text", facts(), id="no tool result"),
        pytest.param(
            "conversation.tool_results",
            facts(request=request(messages=(Message(role="tool", text="[" + "1," * 400_000 + "1]"),))),
            id="more results than may be read",
        ),
    ],
)
def test_what_is_not_known_is_an_error(variable: str, known: Facts) -> None:
    """A variable without a value raises; it never reads as empty, zero or false."""
    activation = Activation(known, makers(("topics",)))

    with pytest.raises(cel.CelError):
        activation[variable]


def test_has_does_not_hide_a_guard_that_failed() -> None:
    """`has(guards.topics)` of a failed guard is an error, not false: a rule cannot read past it by accident."""
    failed = facts(guards={"topics": GuardResult(name="topics", version="1", error="timeout")})

    assert Verdict.DENY == value("has(guards.topics) && guards.topics.label == 'x'", failed)


def test_nothing_is_made_that_is_not_read() -> None:
    """A variable is made when it is first read, and once."""
    made: list[str] = []

    def maker(activation: Activation) -> object:
        made.append("x")
        return 1

    activation = Activation(facts(), {"a.x": maker, "a.y": maker})
    values = [activation["a.x"], activation["a.x"]]

    assert ([1, 1], ["x"]) == (values, made)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param((), "", id="nothing"),
        pytest.param((("user", "a"), ("assistant", "b"), ("user", "c")), "c", id="the last turn"),
        pytest.param((("user", "a"), ("assistant", "b"), ("tool", "c")), "a", id="in a tool loop"),
        pytest.param((("user", "a"), ("user", "b")), "a\nb", id="a turn of two messages"),
    ],
)
def test_user_text_is_the_newest_run_of_user_messages(said: Any, expected: str) -> None:
    """Splitting a turn into two messages hides no part of it."""
    messages = tuple(Message(role=role, text=text) for role, text in said)

    assert expected == user_text(request(messages=messages))


def test_every_variable_has_a_root() -> None:
    """The table of roots and the table of variables name the same roots."""
    own_to_a_policy = {"policy", "params", "vars"}

    assert set(ROOTS) - own_to_a_policy == {name.partition(".")[0] for name in makers(("topics",))}


def test_a_reply_has_no_tool_and_a_call_no_reply() -> None:
    """Facts of a reply are those of a request with the reply added."""
    assert Verdict.DENY == value('response.text == "x" && request.model == "large"', replied("x"), Phase.RESPONSE)


CANDIDATES = (
    Candidate(
        target=Target(alias="large", provider="openai", model="gpt", tags=("tools",), context=8000), p50_ms=210.0
    ),
    Candidate(
        target=Target(alias="cheap", provider="local", model="small"),
        input_nanousd=250_000_000,
        output_nanousd=2_000_000_000,
        healthy=False,
    ),
)
OUTCOME = Outcome(
    usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4, reasoning_tokens=3),
    nanousd=2_500_000,
    status=200,
    ttft_ms=120.5,
    total_ms=900.0,
    guard_ms=1.5,
)


@pytest.mark.parametrize(
    "expression",
    [
        "candidates.map(c, c.model) == ['large', 'cheap']",
        "candidates[0].tags == ['tools'] && candidates[0].context == 8000 && candidates[0].p50_ms == 210.0",
        "candidates[0].healthy && !candidates[1].healthy && candidates[1].provider == 'local'",
        "candidates[1].in_usd_m == 0.25 && candidates[1].out_usd_m == 2.0",
        "!has(candidates[0].in_usd_m) && !has(candidates[1].context) && !has(candidates[1].p50_ms)",
    ],
)
def test_rules_see_where_a_call_can_go(expression: str) -> None:
    """Every target, with what is known of it; what is not known is not there."""
    spec = rule(phase="route", action="route", when=expression, to="small")

    assert Verdict.ROUTE == verdict(spec, facts(candidates=CANDIDATES), Phase.ROUTE)


@pytest.mark.parametrize(
    "expression",
    [
        "usage.input == 10 && usage.output == 5 && usage.cache_read == 4 && usage.reasoning == 3",
        "cost.usd == 0.0025",
        "latency.ttft_ms == 120.5 && latency.total_ms == 900.0 && latency.guard_ms == 1.5",
    ],
)
def test_rules_see_what_came_of_a_call(expression: str) -> None:
    """Tokens, money and time of all attempts."""
    spec = rule(phase="post", action="record", when=expression)

    assert Verdict.RECORD == verdict(spec, facts(outcome=OUTCOME), Phase.POST)


def test_a_cost_that_is_not_known_is_not_nothing() -> None:
    """Where no price is known the rule fails, and that is told."""
    spec = rule(phase="post", action="record", when="cost.usd < 1.0")

    assert Verdict.ALERT == verdict(spec, facts(outcome=replace(OUTCOME, nanousd=None)), Phase.POST)


@pytest.mark.parametrize(
    "expression",
    [
        "spend.user == {'usd': 0.003, 'tokens': 7, 'calls': 2} && spend.user.usd == 0.003",
        "spend.user.tokens == 7 && spend.user.calls == 2",
        "spend.tenant == {'usd': 1.0, 'tokens': 9, 'calls': 3} && spend.tenant.usd == 1.0",
        "spend.tenant.tokens == 9 && spend.tenant.calls == 3",
        "spend.remaining.usd == 0.25 && spend.remaining == {'usd': 0.25}",
        "size(caller.id_hash) == 32 && caller.id_hash != 'someone'",
        "caller.known_pii == ['ann@example.org', '555 1234']",
        "conversation.channel == 'mail'",
    ],
)
def test_rules_see_whose_money_it_is(expression: str) -> None:
    """Totals of users and tenants, what is left, and what is known of the caller."""
    known = facts(
        spend=Spend(
            user=Totals(nanousd=2_000_000, reserved_nanousd=1_000_000, tokens=7, calls=2),
            tenant=Totals(nanousd=10**9, tokens=9, calls=3),
            remaining_nanousd=250_000_000,
        ),
        caller=replace(at_level(Level.EXECUTE), claims={"known_pii": "ann@example.org, 555 1234"}),
        request=request(metadata={"channel": "mail"}),
    )

    assert Verdict.DENY == value(expression, known)


@pytest.mark.parametrize("path", ["spend.user.usd", "spend.user.calls", "spend.remaining.usd"])
def test_what_is_not_known_of_money_is_not_there(path: str) -> None:
    """No user, no user's total; no limit, nothing that could be left of it."""
    root = path.rpartition(".")[0]

    assert "policy_error" == decided(rule(when=f"{path} == 0"), facts()).reason
    assert Verdict.ALLOW == value(f"has({root})", facts())


@pytest.mark.parametrize(
    "expression",
    [
        "conversation.tool_results[0].verified && conversation.tool_results[0].age_s == 1.5",
        "!conversation.tool_results[1].verified && !has(conversation.tool_results[1].age_s)",
    ],
)
def test_a_result_says_whether_its_call_was_let_through(expression: str) -> None:
    """Only of such a call is known how long ago it was."""
    results = (
        Result(tool="lookup", call_id="c1", text="", message=4, verified=True, age_ms=1500),
        Result(tool="lookup", call_id="c2", text="", message=6),
    )

    assert Verdict.DENY == value(expression, replace(TALK, results=results))


@pytest.mark.parametrize(
    ("when", "known"),
    [
        pytest.param('caller.user == "ann"', facts(user="ann"), id="said"),
        pytest.param("!has(caller.user)", facts(), id="not said"),
    ],
)
def test_the_user_is_who_the_client_says(when: str, known: Facts) -> None:
    """`caller.user` is there only if the client names one."""
    assert Verdict.DENY is value(when, known)


def test_without_a_step_there_is_nothing_to_judge() -> None:
    """A rule of phase chunk that is asked without a step fails."""
    assert "policy_error" == decided(rule(phase="chunk", when="chunk.final"), facts(), Phase.CHUNK).reason
