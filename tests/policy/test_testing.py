"""Owns the proof that policy tests can fail, say why, and know what they leave unproven; and that our packs pass."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy import config
from proxy.pipeline.rehearsal import rehearse
from proxy.policy import PolicyProblems, PolicySet, Report, Source, hold_gates, run_tests
from tests.policy.written import compiled, rule

RULES = Path(__file__).parents[2] / "rules"
PACKS = sorted(path.parent for path in RULES.glob("*/policy.yaml"))
DENY = rule(when="request.user_text == 'bad'", message="No, sorry.")


def written(*cases: dict[str, Any], **spec: Any) -> Source:
    """Write a file of cases: phase request, unless said otherwise."""
    entries = [{"name": f"c{n}", "phase": "request", **case} for n, case in enumerate(cases)]
    tree = {"kind": "AgentPolicyTest", "spec": {"policies": ["p.yaml"], **spec, "cases": entries}}
    return Source(path="t.yaml", text=json.dumps(tree))


def ran(policy: str, *cases: dict[str, Any], **spec: Any) -> Report:
    """Run cases against a policy."""
    return run_tests([written(*cases, **spec)], lambda path, names: compiled(policy), rehearse)


def saying(text: str, **expect: Any) -> dict[str, Any]:
    """Write a case in which the user says something."""
    return {"given": {"request": {"user_text": text, "tools": ["drop"]}}, "expect": expect}


def test_a_case_passes_when_all_it_expects_comes_true() -> None:
    """Every kind of expectation can be met."""
    report = ran(
        DENY,
        saying("bad", verdict="deny", rule="p/r", reason="rule", messageMatches="^No", shadowVerdict="allow"),
        saying("bad", verdict="deny", rule="p/r@1.0.0"),
        saying("fine", verdict="allow", reason="", to="", strip=[], annotations={}),
    )

    assert (True, [True] * 3, ()) == (report.passed, [result.passed for result in report.results], report.uncovered)


@pytest.mark.parametrize(
    ("policy", "expect", "wrong"),
    [
        pytest.param(DENY, {"verdict": "allow"}, "verdict: expected allow, got deny", id="verdict"),
        pytest.param(DENY, {"verdict": "deny", "rule": "p/x"}, "rule: expected p/x, got p/r@1.0.0", id="rule"),
        pytest.param(
            DENY, {"verdict": "deny", "reason": "policy_error"}, "reason: expected policy_error, got rule", id="reason"
        ),
        pytest.param(
            DENY,
            {"verdict": "deny", "messageMatches": "^Yes"},
            "messageMatches: '^Yes' is not found in 'No, sorry.'",
            id="message",
        ),
        pytest.param(
            DENY, {"verdict": "deny", "shadowVerdict": "deny"}, "shadowVerdict: expected deny, got allow", id="shadow"
        ),
        pytest.param(
            rule(when="true", action="route", to="small"),
            {"verdict": "route", "to": "large"},
            "to: expected large, got small",
            id="route",
        ),
        pytest.param(
            '  routing: [{id: r, when: "true", to: {cheapest: {tags: [b, a]}}}]',
            {"verdict": "route", "to": ""},
            "to: expected nothing, got cheapest:a,b",
            id="the cheapest",
        ),
        pytest.param(
            rule(when="true", action="strip_tools", tools=["*"]),
            {"verdict": "strip_tools", "strip": ["b", "a"]},
            "strip: expected ['b', 'a'], got ['drop']",
            id="strip",
        ),
        pytest.param(
            rule(when="true", action="annotate", annotations={"a": "b"}),
            {"verdict": "annotate", "annotations": {}},
            "annotations: expected {}, got {'a': 'b'}",
            id="annotations",
        ),
        pytest.param(
            rule(when="false"), {"verdict": "allow", "rule": "p/r"}, "rule: expected p/r, got nothing", id="no rule"
        ),
    ],
)
def test_a_case_fails_and_says_what_it_got(policy: str, expect: dict[str, Any], wrong: str) -> None:
    """Each expectation that is not met is named, and every rule is explained with its values."""
    report = ran(policy, saying("bad", **expect))
    (result,) = report.results

    assert (False, (wrong,), "t.yaml:1:72") == (report.passed, result.wrong, result.position)
    assert ["p/r@1.0.0"] == [explained.rule.id for explained in result.explained]


def test_a_failure_shows_the_value_of_each_part() -> None:
    """Whoever reads a failure sees what each sub-expression was."""
    (result,) = ran(DENY, saying("bad", verdict="allow")).results

    assert ("request.user_text", "'bad'") in result.explained[0].values


def test_a_case_that_passes_is_not_explained() -> None:
    """Only what failed needs reading."""
    (result,) = ran(DENY, saying("bad", verdict="deny")).results

    assert () == result.explained


def test_no_case_at_all_is_a_failure() -> None:
    """Nothing run proves nothing."""
    assert not run_tests([], lambda path, names: compiled(DENY), rehearse).passed


@pytest.mark.parametrize(
    ("cases", "uncovered"),
    [
        pytest.param([("bad", "deny")], ("p/r@1.0.0: no case in which it does not match",), id="only matching"),
        pytest.param([("fine", "allow")], ("p/r@1.0.0: no case in which it matches",), id="only not matching"),
        pytest.param([("bad", "deny"), ("fine", "allow")], (), id="both"),
    ],
)
def test_what_the_cases_leave_unproven_is_named(cases: list[tuple[str, str]], uncovered: tuple[str, ...]) -> None:
    """A rule is proven by a case in which it matches and one in which it does not."""
    report = ran(DENY, *(saying(text, verdict=verdict) for text, verdict in cases))

    assert uncovered == report.uncovered


def test_a_guard_is_proven_by_a_case_in_which_it_fails() -> None:
    """A detector that is down is part of what a policy decides."""
    policy = rule(when="guards.topics.label == 'x'")
    given = [
        {"mocks": {"guards": {"topics": {"label": label}}}, "expect": {"verdict": verdict}}
        for label, verdict in (("x", "deny"), ("y", "allow"))
    ]
    down = {
        "mocks": {"guards": {"topics": {"error": "timeout"}}},
        "expect": {"verdict": "deny", "reason": "policy_error"},
    }

    assert ("guard topics: no case in which it fails",) == ran(policy, *given).uncovered
    assert ((), True) == (ran(policy, *given, down).uncovered, ran(policy, *given, down).passed)


def test_limits_and_rules_that_are_off_need_no_proof() -> None:
    """What decides nothing in a case is not asked for."""
    limits = "[{id: e, scope: request, limitUSD: 1}, {id: f, key: agent.id, window: day, limitUSD: 1}]"
    policy = f"{rule(when='true', mode='off')}\n  spend: {limits}"

    assert () == ran(policy, saying("x", verdict="allow")).uncovered


def test_cases_of_several_files_prove_together() -> None:
    """Two files about the same policy are one proof, and policies are loaded as each file names them."""
    asked: list[tuple[str, Sequence[str]]] = []

    def policies(path: str, names: Sequence[str]) -> PolicySet:
        asked.append((path, names))
        return compiled(DENY)

    report = run_tests(
        [written(saying("bad", verdict="deny")), written(saying("fine", verdict="allow"))], policies, rehearse
    )

    assert ((), [("t.yaml", ["p.yaml"])] * 2) == (report.uncovered, asked)


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        pytest.param(
            Source(path="t.yaml", text="kind: AgentPolicy"), "t.yaml:1:1: this lacks `spec`", id="another kind"
        ),
        pytest.param(written(), "t.yaml:1:71: `cases` must not be empty", id="zero cases"),
        pytest.param(
            written({"expect": {"verdict": "dney"}}),
            "t.yaml:1:129: `verdict` is `dney`, not one of allow, record, label, annotate, alert, level",
            id="an unknown verdict",
        ),
        pytest.param(
            written({"phase": "tool_call", "expect": {"verdict": "deny"}}),
            "t.yaml:1:72: a case of phase tool_call needs `given.tool`",
            id="a case that is none",
        ),
    ],
)
def test_a_test_file_that_is_wrong_is_no_test(test: Source, problem: str) -> None:
    """A mistake in a test file is told like one in a policy."""
    with pytest.raises(PolicyProblems) as raised:
        run_tests([test], lambda path, names: compiled(DENY), rehearse)

    assert problem == raised.value.problems[0][: len(problem)]


def test_policies_that_do_not_load_are_told() -> None:
    """The problems of the policies come through."""
    with pytest.raises(PolicyProblems) as raised:
        ran(rule(when="request.modle == 'x'"), saying("x", verdict="allow"))

    assert 1 == len(raised.value.problems)


def loading(pack: Path) -> Callable[[str, Sequence[str]], PolicySet]:
    """Return what loads a pack's policies as `handrail test` does: with the guards that serve."""
    return lambda path, names: config.policies_of([pack / name for name in names])


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: str(pack.name))
def test_a_pack_passes_its_own_tests_and_proves_every_rule(pack: Path) -> None:
    """Each shipped pack has a matching and a non-matching case per rule, a failing one per guard, and all pass."""
    test = Source(path="tests.yaml", text=(pack / "tests.yaml").read_text(encoding="utf-8"))

    report = run_tests([test], loading(pack), rehearse)

    assert ([], ()) == ([(result.name, result.wrong) for result in report.results if result.wrong], report.uncovered)
    assert report.passed


def test_the_cases_that_the_page_shows_pass() -> None:
    """The example of rules/README.md is a test of the support pack, and passes."""
    page = (RULES / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(kind: AgentPolicyTest\n.*?)^```", page, re.MULTILINE | re.DOTALL)

    report = run_tests([Source(path="README.md", text=example)], loading(RULES / "support"), rehearse)

    assert [True, True] == [result.passed for result in report.results]


# --- streams --------------------------------------------------------------------------------------------------------

WINDOW = rule(phase="chunk", when="chunk.text.contains('forbidden')", message="No more.")
WORDS = "word " * 100


def streaming(*chunks: str, gate: bool = False, **expect: Any) -> dict[str, Any]:
    """Write a case in which a reply comes in pieces."""
    return {"phase": "chunk", "gate": gate, "given": {"chunks": chunks}, "expect": expect}


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        pytest.param(streaming("fine", verdict="allow", text="fine"), [], id="let through"),
        pytest.param(streaming("forb", "idden", verdict="deny", released="", text="No more."), [], id="cut"),
        pytest.param(
            streaming("forbidden", verdict="deny", released="f", text="x"),
            ["released: expected f, got nothing", "text: expected x, got No more."],
            id="something else left",
        ),
    ],
)
def test_a_streamed_reply_is_judged_as_it_leaves(case: dict[str, Any], wrong: list[str]) -> None:
    """What left before the cut, and all that was read, are held against what was expected."""
    (result,) = ran(WINDOW, case).results

    assert wrong == list(result.wrong)


def test_a_streamed_case_proves_its_rule() -> None:
    """The reply as a whole shows whether a rule matches."""
    assert () == ran(WINDOW, streaming("forbidden", verdict="deny"), streaming("x", verdict="allow")).uncovered


def test_a_streamed_case_can_be_a_gate() -> None:
    """A set that would let something leave does not serve."""
    (problem,) = shut(WINDOW, streaming(WORDS, "forbidden", gate=True, verdict="allow"))

    assert "verdict: expected allow, got deny (p/r@1.0.0)" in problem


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        pytest.param(
            {"phase": "chunk", "given": {"chunk": {"text": "x"}}, "expect": {"verdict": "allow", "text": "x"}},
            "`expect.text` needs `given.chunks`, in phase chunk",
            id="one step",
        ),
        pytest.param(
            {"phase": "request", "given": {"chunks": ["x"]}, "expect": {"verdict": "allow", "released": "x"}},
            "`expect.released` needs `given.chunks`, in phase chunk",
            id="another phase",
        ),
        pytest.param(
            {"phase": "chunk", "given": {}, "expect": {"verdict": "allow"}},
            "a case of phase chunk needs `given.chunk`",
            id="nothing",
        ),
    ],
)
def test_what_only_a_stream_has_needs_a_stream(case: dict[str, Any], problem: str) -> None:
    """An expectation that nothing can meet is refused."""
    with pytest.raises(PolicyProblems) as caught:
        ran(WINDOW, case)

    assert [f"t.yaml:1:72: {problem}"] == caught.value.problems


# --- gates ----------------------------------------------------------------------------------------------------------


def shut(policy: str, *cases: dict[str, Any]) -> list[str]:
    """Return why a policy may not serve."""
    try:
        hold_gates([written(*cases)], compiled(policy), rehearse)
    except PolicyProblems as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param({**saying("bad", verdict="deny"), "gate": True}, [], id="holds"),
        pytest.param(saying("bad", verdict="allow"), [], id="no gate"),
        pytest.param({**saying("bad", verdict="allow"), "gate": False}, [], id="said to be none"),
        pytest.param(
            {**saying("bad", verdict="allow"), "gate": True},
            ["t.yaml:1:72: the gate `c0` fails: verdict: expected allow, got deny (p/r@1.0.0)"],
            id="fails",
        ),
        pytest.param(
            {**saying("fine", verdict="deny", rule="p/r"), "gate": True},
            [
                "t.yaml:1:72: the gate `c0` fails: verdict: expected deny, got allow",
                "t.yaml:1:72: the gate `c0` fails: rule: expected p/r, got nothing",
            ],
            id="fails twice",
        ),
    ],
)
def test_only_a_gate_can_shut(case: dict[str, Any], expected: list[str]) -> None:
    """A case that is marked and does not come true says where it stands, what was expected and which rule decided."""
    assert expected == shut(DENY, case)


def test_a_gate_tells_what_failed() -> None:
    """Where a rule failed its error is told: a guard that the case does not mock did not run."""
    gate = {**saying("x", verdict="allow"), "gate": True}

    (problem,) = shut(rule(when="guards.topics.label == 'a'"), gate)

    assert "(p/r@1.0.0: " in problem
    assert "topics" in problem


def test_each_choice_of_a_matrix_is_a_gate() -> None:
    """A gate with a matrix holds for every combination."""
    case = {**saying("bad", verdict="deny"), "gate": True, "matrix": {"request.user_text": ["bad", "good"]}}

    (problem,) = shut(DENY, case)

    assert "`c0 [request.user_text=good]`" in problem


def test_a_broken_test_file_shuts() -> None:
    """Whether a file that is wrong has gates nobody can say."""
    assert shut(DENY, {"expect": {"verdict": "no"}})


def test_there_is_a_pack_to_prove() -> None:
    """The tests above ran."""
    assert "support" in [pack.name for pack in PACKS]


REDACTING = "\n".join(
    (
        "  data: [{id: mail, direction: in, kinds: [email, api_key], action: mask}]",
        "  escalation: [{id: angry, when: 'request.user_text.contains(\"!\")', to: gold}]",
        "  rules: [{id: l, phase: request, action: label, when: 'true', labels: [b, a]}]",
    )
)


@pytest.mark.parametrize(
    ("expect", "wrong"),
    [
        pytest.param({"redactions": ["email", "api_key"], "labels": ["a", "b"], "queue": "gold"}, (), id="right"),
        pytest.param(
            {"redactions": []}, ("redactions: expected [], got ['api_key', 'email']",), id="another redaction"
        ),
        pytest.param({"labels": ["a"]}, ("labels: expected ['a'], got ['a', 'b']",), id="another label"),
        pytest.param({"queue": ""}, ("queue: expected nothing, got gold",), id="another queue"),
    ],
)
def test_redactions_labels_and_queues_are_expected(expect: dict[str, Any], wrong: tuple[str, ...]) -> None:
    """A case says which kinds are taken out, what the conversation is labelled with, and where it goes."""
    report = ran(REDACTING, saying("I am a@b.c sk-1 a@b.c!", verdict="escalate", **expect))

    assert [wrong] == [result.wrong for result in report.results]


def test_nothing_to_redact_is_expected_as_well() -> None:
    """Without findings there are none, and nobody is called."""
    report = ran(REDACTING, saying("hello", verdict="label", redactions=[], queue=""))

    assert report.passed


ACTING = "\n".join(
    (
        "  rules:",
        "    - {id: r, phase: request, action: rewrite, when: 'true', rewrite: {max_tokens: '7'}, "
        "obligations: [alert]}",
        "    - {id: l, phase: post, action: level, when: cost.usd > 1.0, level: assist}",
        "    - {id: c, phase: route, action: route, when: 'candidates.exists(c, c.healthy)', to: cheap}",
    )
)


@pytest.mark.parametrize(
    ("phase", "given", "expect", "wrong"),
    [
        pytest.param("request", {}, {"verdict": "rewrite", "rewrites": {"max_tokens": 7}}, (), id="rewritten"),
        pytest.param(
            "request",
            {},
            {"verdict": "rewrite", "rewrites": {"max_tokens": 8}},
            ("rewrites: expected {'max_tokens': 8}, got {'max_tokens': 7}",),
            id="not rewritten so",
        ),
        pytest.param("request", {}, {"verdict": "rewrite", "obligations": ["alert"]}, (), id="obliged"),
        pytest.param(
            "request",
            {},
            {"verdict": "rewrite", "obligations": ["record"]},
            ("obligations: expected ['record'], got ['alert']",),
            id="not obliged so",
        ),
        pytest.param("post", {"cost": {"usd": 2}}, {"verdict": "level", "level": "assist"}, (), id="lowered"),
        pytest.param(
            "post",
            {"cost": {"usd": 1}},
            {"verdict": "allow", "level": "assist"},
            ("level: expected assist, got nothing",),
            id="not lowered",
        ),
        pytest.param("route", {"candidates": [{"model": "m"}]}, {"verdict": "route", "to": "cheap"}, (), id="routed"),
    ],
)
def test_a_case_says_what_else_a_rule_does(
    phase: str, given: dict[str, Any], expect: dict[str, Any], wrong: tuple[str, ...]
) -> None:
    """What is rewritten, what it obliges to, what the agent is lowered to, and where the candidates lead."""
    (result,) = ran(ACTING, {"phase": phase, "given": given, "expect": expect}).results

    assert wrong == result.wrong


def refunding(used: float, **expect: Any) -> dict[str, Any]:
    """Write a case of a refund of 3 where so much was refunded before."""
    given = {"tool": {"name": "refund", "args": {"n": 3}}, "request": {"tools": [{"name": "refund", "schema": {}}]}}
    return {"phase": "tool_call", "given": given, "mocks": {"totals": {"p/usd": used}}, "expect": expect}


@pytest.mark.parametrize(
    ("cases", "unproven"),
    [
        pytest.param(
            [
                refunding(2.0, verdict="allow", reason=""),
                refunding(2.5, verdict="deny", reason="quota", rule="p/e.usd"),
            ],
            (),
            id="both",
        ),
        pytest.param(
            [refunding(2.5, verdict="deny")], ("p/e.usd@1.0.0: no case in which it does not match",), id="no room"
        ),
        pytest.param([refunding(0, verdict="allow")], ("p/e.usd@1.0.0: no case in which it matches",), id="room"),
    ],
)
def test_what_was_added_before_is_given(cases: list[dict[str, Any]], unproven: tuple[str, ...]) -> None:
    """`mocks.totals` says what totals have come to; a total is proven by a call with room and one without."""
    spec = "  actions: [{id: e, tools: [refund], totals: {usd: {value: tool.args.n, limit: 5}}}]"
    report = ran(spec, *cases)

    assert (True, unproven) == (report.passed, tuple(line for line in report.uncovered if "e.usd" in line))
