"""Owns the proof that a case's `given` and `mocks` become the facts they name, and that what cannot be is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.documents import Problems, Source, read
from proxy.policy import definitions
from proxy.policy.cases import Case, cases, merged
from proxy.terms import Candidate, Chunk, Facts, Finding, Level, Outcome, Phase, Result, Target, ToolSpec, Usage

AT_MS = 1_767_607_200_000


def made(case: dict[str, Any], **spec: Any) -> tuple[list[Case], list[str]]:
    """Turn one case into facts; return the cases and the problems."""
    whole = {"name": "c", "phase": "request", "expect": {"verdict": "allow"}, **case}
    tree = {"kind": "AgentPolicyTest", "spec": {"policies": ["p"], **spec, "cases": [whole]}}
    problems = Problems()
    (text,) = read(Source(path="t.yaml", text=json.dumps(tree)), problems)
    return cases(text, problems), problems.found


def known(case: dict[str, Any], **spec: Any) -> Facts:
    """Return the facts of one case."""
    (found,), problems = made(case, **spec)

    assert [] == problems
    return found.facts


def test_a_case_gives_what_it_does_not_say_a_plain_value() -> None:
    """Without a word there is an agent at level execute, at a fixed time, in a first turn without messages."""
    facts = known({})

    assert (AT_MS, "agent", Level.EXECUTE, "", "conversation", 1, "model", (), {}) == (
        facts.at_ms,
        facts.caller.agent,
        facts.caller.level,
        facts.caller.tenant,
        facts.session.id,
        facts.session.turn,
        facts.request.model,
        facts.request.messages,
        facts.guards,
    )


def test_a_case_lies_over_the_defaults() -> None:
    """Maps are merged key by key, lists and scalars are replaced."""
    defaults = {
        "agent": {"id": "a", "level": "assist"},
        "request": {"model": "m", "tools": ["x"]},
        "now": "2026-01-05T10:00:00Z",
    }

    facts = known({"given": {"agent": {"level": "operate"}, "request": {"tools": ["y"]}}}, defaults=defaults)

    assert ("a", Level.OPERATE, "m", (ToolSpec(name="y"),), AT_MS) == (
        facts.caller.agent,
        facts.caller.level,
        facts.request.model,
        facts.request.tools,
        facts.at_ms,
    )


def test_merging_leaves_both_as_they_were() -> None:
    """What two cases share is not changed by either."""
    below: dict[str, Any] = {"a": {"b": 1}}

    assert ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}) == (merged(below, {"a": {"c": 2}}), below)


def test_a_request_is_given_in_the_words_of_the_language() -> None:
    """Every field of `given.request` has its place in the facts."""
    given = {
        "model": "m",
        "stream": True,
        "max_tokens": 5,
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "headers": {"x-tier": "gold"},
        "tools": ["plain", {"name": "t", "schema": {"type": "object"}}],
        "messages": [
            {"role": "system", "text": "s"},
            {
                "role": "assistant",
                "tool_calls": [{"name": "t", "args": {"a": 1}}, {"name": "t", "args_raw": "{", "id": "x"}],
            },
            {"role": "tool", "text": "r", "tool_call_id": "call-0"},
        ],
        "user_text": "u",
    }
    facts = known({"given": {"request": given, "caller": {"tenant": "acme"}}})
    request = facts.request

    assert ("m", True, 5, 0.5, {"a": "b"}, {"x-tier": "gold"}, "acme") == (
        request.model,
        request.stream,
        request.max_output_tokens,
        request.temperature,
        request.metadata,
        facts.headers,
        facts.caller.tenant,
    )
    assert [("system", "s"), ("assistant", ""), ("tool", "r"), ("user", "u")] == [
        (m.role, m.text) for m in request.messages
    ]
    assert [("call-0", '{"a": 1}', 0), ("x", "{", 1)] == [
        (c.id, c.arguments, c.index) for c in request.messages[1].tool_calls
    ]
    assert (ToolSpec(name="plain"), ToolSpec(name="t", schema={"type": "object"})) == request.tools


def test_tool_results_become_the_history_behind_them() -> None:
    """A result is given with its call, before what the user says."""
    results = [
        {"tool": "a", "args": {"x": 1}, "json": {"ok": True}},
        {"tool": "b", "text": "plain"},
        {"tool": "c"},
    ]
    facts = known(
        {"given": {"conversation": {"id": "s", "turn": 3, "tool_results": results}, "request": {"user_text": "u"}}}
    )
    messages = facts.request.messages

    assert ("s", 3) == (facts.session.id, facts.session.turn)
    assert ["", '{"ok": true}', "", "plain", "", "", "u"] == [message.text for message in messages]
    assert [("a", '{"x": 1}'), ("b", "{}"), ("c", "{}")] == [
        (call.name, call.arguments) for message in messages for call in message.tool_calls
    ]
    assert [message.tool_call_id for message in messages if message.role == "tool"] == [
        call.id for message in messages for call in message.tool_calls
    ]


def test_a_tool_call_and_a_reply_are_given() -> None:
    """The subject of the two later phases is what `given.tool` and `given.response` say."""
    tool = known({"phase": "tool_call", "given": {"tool": {"name": "t", "args": {"a": 1}, "index": 2}}}).tool
    response = {"text": "x", "refusal": "r", "reasoning": "q", "model": "m", "tool_calls": [{"name": "t"}]}
    reply = known({"phase": "response", "given": {"response": response}}).response

    assert tool is not None
    assert ("t", '{"a": 1}', 2) == (tool.name, tool.arguments, tool.index)
    assert reply is not None
    assert ("x", "r", "q", "m", "stop", "t") == (
        reply.text,
        reply.refusal,
        reply.reasoning,
        reply.model,
        reply.finish_reason,
        reply.tool_calls[0].name,
    )


def test_mocks_stand_for_guards_and_money() -> None:
    """A mocked guard found something, nothing, or failed; mocked money is exact."""
    guards = {
        "topics": {"label": "orders", "score": 0.9, "reason": "because"},
        "pii": {"flagged": False},
        "voice": {"flagged": True},
    }
    spend = {"request": {"est_usd": 0.01}, "conversation": {"usd": 0.1, "tokens": 5, "calls": 1}, "agent": {"usd": 2}}
    facts = known(
        {"mocks": {"guards": {"topics": {"score": 0.8}, "down": {"error": "timeout"}}}},
        mocks={"guards": guards, "spend": spend},
    )

    assert (Finding(guard="topics", label="orders", score=0.8, reason="because"),) == facts.guards["topics"].findings
    assert [(), "timeout"] == [facts.guards["pii"].findings, facts.guards["down"].error]
    assert [1.0] == [finding.score for finding in facts.guards["voice"].findings]
    assert (10_000_000, None, 100_000_000, 5, 1, 2_000_000_000) == (
        facts.spend.est_nanousd,
        facts.spend.max_nanousd,
        facts.spend.conversation.nanousd,
        facts.spend.conversation.tokens,
        facts.spend.conversation.calls,
        facts.spend.agent.nanousd,
    )


def test_a_matrix_is_every_combination() -> None:
    """Each choice of each row is a case with a name of its own, and one row may go deep."""
    matrix = {"agent.level": ["assist", "operate"], "request.metadata.tier": ["gold", "free"]}
    found, _ = made({"matrix": matrix, "given": {"agent": {"id": "a"}}})

    assert [
        ("c [agent.level=assist, request.metadata.tier=gold]", "a", Level.ASSIST, "gold"),
        ("c [agent.level=assist, request.metadata.tier=free]", "a", Level.ASSIST, "free"),
        ("c [agent.level=operate, request.metadata.tier=gold]", "a", Level.OPERATE, "gold"),
        ("c [agent.level=operate, request.metadata.tier=free]", "a", Level.OPERATE, "free"),
    ] == [(c.name, c.facts.caller.agent, c.facts.caller.level, c.facts.request.metadata["tier"]) for c in found]


def test_a_case_knows_its_place_and_what_it_lets_fail() -> None:
    """A result can be found in the file, and a mocked failure is known as one."""
    (case,), _ = made({"mocks": {"guards": {"down": {"error": "x"}, "up": {"label": "y"}}}})

    assert ("t.yaml:1:67", Phase.REQUEST, frozenset(("down",))) == (case.position, case.phase, case.mocked)


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        pytest.param({"phase": "tool_call"}, "a case of phase tool_call needs `given.tool`", id="no tool"),
        pytest.param({"phase": "response"}, "a case of phase response needs `given.response`", id="no reply"),
        pytest.param({"given": {"now": "yesterday"}}, "Invalid isoformat string: 'yesterday'", id="no time"),
        pytest.param(
            {"given": {"now": "2026-01-05T10:00:00"}},
            "`now` is 2026-01-05T10:00:00, which lacks a time zone: end it with Z",
            id="no time zone",
        ),
        pytest.param(
            {"expect": {"verdict": "deny", "messageMatches": "("}},
            "'(' is no regular expression for RE2",
            id="no pattern",
        ),
        pytest.param(
            {"mocks": {"spend": {"agent": {"usd": 1e-10}}}}, "1e-10 has more than nine decimals", id="no such money"
        ),
        pytest.param({"matrix": {"agent.level": ["boss"]}}, "'boss' is not a valid Level", id="no such level"),
    ],
)
def test_what_cannot_be_a_case_is_told(case: dict[str, Any], problem: str) -> None:
    """A case that makes no facts is a problem at its place, not a test that passes."""
    found, problems = made(case)

    assert ([], [f"t.yaml:1:67: {problem}"]) == (found, problems)


@pytest.mark.parametrize(
    ("given", "result"),
    [
        pytest.param({"tool": "t"}, Result(tool="t", call_id="call-0", text=""), id="a plain one"),
        pytest.param({"tool": "t", "json": {"a": 1}}, Result(tool="t", call_id="call-0", text='{"a": 1}'), id="json"),
        pytest.param(
            {"tool": "t", "text": "x", "call_id": "c9", "verified": True, "new": False},
            Result(tool="t", call_id="c9", text="x", verified=True, new=False),
            id="all of it",
        ),
    ],
)
def test_a_tool_result_is_given(given: dict[str, Any], result: Result) -> None:
    """A case of phase tool_result says what came back."""
    facts = known({"phase": "tool_result", "given": {"result": given}})

    assert (result, (result,)) == (facts.result, facts.results)


@pytest.mark.parametrize(
    ("given", "chunk"),
    [
        pytest.param({"text": "ab"}, Chunk(text="ab", end=2), id="all of a text"),
        pytest.param(
            {"text": "ab", "offset": 3, "final": False}, Chunk(text="ab", offset=3, end=2, final=False), id="a step"
        ),
    ],
)
def test_a_step_of_a_text_is_given(given: dict[str, Any], chunk: Chunk) -> None:
    """A case of phase chunk says what is said; what begins anywhere in it counts."""
    assert chunk == known({"phase": "chunk", "given": {"chunk": given}}).chunk


def test_a_case_about_a_step_needs_one() -> None:
    """A case of phase chunk without a step is none."""
    assert ["t.yaml:1:67: a case of phase chunk needs `given.chunk`"] == made({"phase": "chunk"})[1]


def test_a_case_about_a_tool_result_needs_one() -> None:
    """A case of phase tool_result without a result is none."""
    assert ["t.yaml:1:67: a case of phase tool_result needs `given.result`"] == made({"phase": "tool_result"})[1]


def test_what_is_known_of_a_conversation_and_its_caller_is_given() -> None:
    """Labels, an open escalation, and what config says of the caller's key."""
    caller = {"tier": "gold", "roles": ["lead", "eu"], "claims": {"team": "a", "tier": "no"}}

    facts = known({"given": {"conversation": {"labels": ["pii"], "escalated": True}, "caller": caller}})

    assert (("pii",), True) == (facts.labels, facts.session.escalation != "")
    assert {"tier": "gold", "roles": "lead,eu", "team": "a"} == facts.caller.claims
    assert "" == known({"given": {"conversation": {"escalated": False}}}).session.escalation


def test_a_case_gives_candidates() -> None:
    """What is not said of one is not known; it is healthy."""
    facts = known({"given": {"candidates": [{"model": "m"}, {"model": "n", "healthy": False, "in_usd_m": 0.25}]}})

    first = Candidate(target=Target(alias="m", provider="provider", model="m"))
    second = Candidate(
        target=Target(alias="n", provider="provider", model="n"), input_nanousd=250_000_000, healthy=False
    )
    assert (first, second) == facts.candidates


def test_a_case_says_all_of_a_candidate() -> None:
    """Provider, tags, context and its usual time to the first byte."""
    given = {"model": "m", "provider": "p", "tags": ["fast"], "context": 9, "out_usd_m": 2, "p50_ms": 7.5}

    (candidate,) = known({"given": {"candidates": [given]}}).candidates

    target = Target(alias="m", provider="p", model="m", tags=("fast",), context=9)
    assert Candidate(target=target, output_nanousd=2 * 10**9, p50_ms=7.5) == candidate


def test_a_case_gives_what_came_of_a_call() -> None:
    """Tokens, money and times; money that is not said is not known."""
    given = {"usage": {"input": 1, "output": 2, "cache_read": 3, "reasoning": 4}, "latency": {"ttft_ms": 5}}

    facts = known({"phase": "post", "given": given})
    paid = known({"phase": "post", "given": {"cost": {"usd": 0.5}, "latency": {"total_ms": 6, "guard_ms": 7}}})

    usage = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, reasoning_tokens=4)
    assert Outcome(usage=usage, nanousd=None, status=200, ttft_ms=5, total_ms=0, guard_ms=0) == facts.outcome
    assert Outcome(usage=Usage(), nanousd=5 * 10**8, status=200, ttft_ms=0, total_ms=6, guard_ms=7) == paid.outcome


def test_a_case_gives_results_and_first_definitions() -> None:
    """Results say whether they are verified and how old they are; tools may have been offered otherwise before."""
    first = {"name": "look", "description": "Looks.", "schema": {}}
    results = [{"tool": "look", "text": "A1005", "verified": True, "age_s": 1.5}, {"tool": "look", "text": "B2001"}]
    facts = known({"given": {"conversation": {"tools": [first, "other"], "tool_results": results}}})

    assert [("look", True, 1500), ("look", False, 0)] == [(r.tool, r.verified, r.age_ms) for r in facts.results]
    assert definitions([ToolSpec(name="look", description="Looks.", schema={}), ToolSpec(name="other")]) == (
        facts.session.tools
    )
