"""Owns the proof that variables are made when they are read, once, and that `has()` tells what is there."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy import cel
from proxy.policy.activation import Activation, Shared
from proxy.policy.arguments import PARSE_UNITS
from proxy.terms import Facts, Message, Phase, Result, ToolCall, Verdict
from tests.policy.written import compiled, facts, policy, request


def test_a_variable_is_made_once() -> None:
    """What was read before is not made again."""
    numbers = iter((1, 2))
    activation = Activation(facts(), {"a.b": lambda _: next(numbers)})

    assert (1, 1) == (activation["a.b"], activation["a.b"])


def missing(kind: str) -> object:
    """Fail as a variable does that is not there, or that cannot be told."""
    raise cel.CelError(kind, "no")


def test_presence_is_asked_of_the_variable() -> None:
    """A field is there if its variable can be made; a failure to tell is no answer."""
    makers = {"a.b": lambda _: 1, "a.c": lambda _: missing("no_such_field"), "a.d": lambda _: missing("guard")}
    root = Activation(facts(), makers)["a"]

    assert isinstance(root, dict)
    assert ("b" in root, "c" in root) == (True, False)
    with pytest.raises(cel.CelError):
        assert "d" in root


def test_what_follows_from_the_request_alone_is_shared() -> None:
    """The decisions of a call make it once, and of another request anew; what may differ each makes for itself."""
    numbers = iter(range(9))
    makers = {name: lambda _: next(numbers) for name in ("request.messages", "result.json")}
    shared, known = Shared(), facts()
    other = replace(known, request=request("other"))

    read = [
        [Activation(about, makers, shared)[name] for name in makers]
        for about in (known, replace(known, labels=("a",)), other, replace(other, results=()))
    ]

    assert [[0, 1], [0, 2], [3, 4], [3, 5]] == read


def test_each_decision_may_read_as_much_json_as_any() -> None:
    """What is shared is paid by the first that reads it, and nothing is left over or owed."""
    shared = Shared()

    Activation(facts(), {}, shared).parsing.charge(PARSE_UNITS)

    assert PARSE_UNITS == Activation(facts(), {}, shared).parsing.left


def results(count: int) -> list[Facts]:
    """Return what is known of each of some results of one call."""
    calls = [ToolCall(id=f"c{n}", name="t", arguments='{"a": 1}') for n in range(count)]
    messages = [
        message
        for call in calls
        for message in (
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", text='{"b": [1, 2, 3]}', tool_call_id=call.id),
        )
    ]
    found = tuple(Result(tool="t", call_id=call.id, text='{"b": 2}', message=1) for call in calls)
    known = facts(request=request(messages=tuple(messages)), results=found)
    return [replace(known, result=result) for result in found]


READS = policy(
    {"phase": "tool_result", "when": "vars.total != 30 + 0 * size(result.text)"},
    variables=[
        {"name": "counted", "expression": "conversation.tool_results.map(r, size(r.json.b) * params.once)"},
        {"name": "total", "expression": "sum(vars.counted)"},
        {"name": "own", "expression": "result.json.b"},
    ],
    params={"once": 1},
)


def test_a_variable_that_reads_only_what_is_shared_is_computed_once() -> None:
    """Rules say the same of each result as if each was judged alone, and the later ones pay nothing for the history."""
    policies, shared = compiled(READS), Shared()

    questions = [policies.ask(Phase.TOOL_RESULT, known, "d", shared) for known in results(10)]
    alone = [policies.decide(Phase.TOOL_RESULT, known, "d") for known in results(10)]

    assert [()] * 10 == [question.sought for question in questions]
    left = [question.run.left for question in questions]
    assert left[0] < left[1] == left[9]
    assert {Verdict.ALLOW} == {decision.verdict for decision in alone}


def test_a_variable_that_reads_the_result_is_not_shared() -> None:
    """Neither by itself nor through another one."""
    spec = policy(
        {"phase": "tool_result", "when": "vars.twice != 4"},
        {"phase": "tool_result", "when": "vars.own != result.json.b"},
        variables=[
            {"name": "own", "expression": "result.json.b"},
            {"name": "twice", "expression": "vars.own * size(request.messages)"},
        ],
    )
    policies, shared = compiled(spec), Shared()
    one, *_ = results(1)

    decisions = [
        policies.decide(
            Phase.TOOL_RESULT, replace(one, result=Result(tool="t", call_id="c", text=text)), "d", shared=shared
        )
        for text in ('{"b": 2}', '{"b": 3}')
    ]

    assert [[], ["p/r0@1.0.0"]] == [[hit.id for hit in decision.rules] for decision in decisions]
