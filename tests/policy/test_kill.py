"""Owns the proof of proxy/policy/kill.py: what a kill switch lists is denied, by a policy like any other."""

from __future__ import annotations

import pytest

from proxy.policy import PolicySet, Source
from proxy.terms import Phase, ToolSpec, Verdict
from tests.policy.written import DENY, called, compiled, decided, facts, found, policy, problems, request, verdict


def switched(text: str) -> PolicySet:
    """Load a policy that allows everything beside a kill switch."""
    return compiled(policy({"action": "allow", "when": "true"}), kill=[Source(path="kill.yaml", text=text)])


@pytest.mark.parametrize(
    ("tool", "expected"), [("issue_refund", Verdict.DENY), ("issue_credit", Verdict.DENY), ("look", Verdict.ALLOW)]
)
def test_calls_of_stopped_tools_are_denied(tool: str, expected: Verdict) -> None:
    """A call whose name fits one of the globs is denied whatever it says; any other is not."""
    assert expected is verdict(switched("tools: [issue_*]"), called(tool), Phase.TOOL_CALL)


def test_stopped_tools_are_hidden() -> None:
    """The model is not offered what is stopped."""
    tools = (ToolSpec(name="issue_refund"), ToolSpec(name="look"))

    assert ("issue_refund",) == decided(switched("tools: [issue_*]"), facts(request=request(tools=tools))).strip


@pytest.mark.parametrize(
    ("label", "score", "expected"),
    [("medical", 0.9, Verdict.DENY), ("medical", 0.01, Verdict.DENY), ("orders", 0.9, Verdict.ALLOW)],
)
def test_stopped_topics_are_denied(label: str, score: float, expected: Verdict) -> None:
    """A topic is stopped however unsure the guard is of it."""
    assert expected is verdict(switched("topics: [medical]"), facts(guards=found(label, score)))


def test_a_guard_that_did_not_run_stops_everything() -> None:
    """Where nobody can say what is talked about, it may be what has to stop."""
    assert ("policy_error", Verdict.DENY) == (
        (decision := decided(switched("topics: [medical]"), facts())).reason,
        decision.verdict,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("tools: ['*']", "that is not possible"), ("{tools: ['*'], message: Back at noon.}", "Back at noon.")],
)
def test_the_message_is_said(text: str, expected: str) -> None:
    """What is written is said; without it a neutral text."""
    assert expected in decided(switched(text), called("any"), Phase.TOOL_CALL).message


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "{tools: [], topics: []}", "message: hello"])
def test_a_file_that_lists_nothing_stops_nothing(text: str) -> None:
    """An empty kill switch is no policy."""
    assert ["p"] == [document.name for document in switched(text).documents]


def test_its_version_follows_its_content() -> None:
    """Records tell one state of the switch from another, though nobody raises a version."""
    versions = [switched(text).documents[0].version for text in ("tools: [a]", "tools: [b]", "{tools: [a]}")]

    assert versions[0] == versions[2] != versions[1]


def test_it_speaks_first() -> None:
    """Where another policy denies as well, the text is the switch's."""
    kill = Source(path="kill.yaml", text="{topics: [medical], message: Closed.}")

    assert "Closed." == decided(compiled(policy(DENY, priority=1), kill=[kill]), facts(guards=found("medical"))).message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("tool: [a]", "kill.yaml:1:1: unknown key `tool` (did you mean `tools`?)", id="unknown key"),
        pytest.param("tools: [1]", "kill.yaml:1:9: this must be a text: put it in quotes", id="not a text"),
        pytest.param("a: [", "kill.yaml:1:5: this is not YAML", id="not YAML"),
        pytest.param("topics:\n  - orders\n  - medial\n", "kill.yaml:3:5: the topics guard has no", id="topic"),
        pytest.param("tools: [a]\n---\ntools: [b]\n", "kill.yaml:3:1: `kill-switch` is already the name", id="two"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, expected: str) -> None:
    """A mistake in the switch has the place where it was written."""
    found = problems(kill=[Source(path="kill.yaml", text=text)])

    assert [expected] == [problem[: len(expected)] for problem in found]


def test_topics_without_their_guard_are_told() -> None:
    """Where no pack teaches the guard a topic cannot be stopped, and that is said at the list."""
    (problem,) = problems(kill=[Source(path="kill.yaml", text="tools: [a]\ntopics: [b]\n")], guards={})

    assert problem.startswith("kill.yaml:2:9: there is no `guards.topics`")
