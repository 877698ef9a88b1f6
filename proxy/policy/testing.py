"""Owns policy tests: cases run against the very set that serves, and what they leave unproven.

In: AgentPolicyTest documents, and a way to load the policies they name. Out: a Report. Never: printing, files, a guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from proxy.documents import Problems, Source, Text, by_place, check, read
from proxy.policy.cases import Case, cases
from proxy.policy.charges import beside
from proxy.policy.compile import PolicyProblems, schema
from proxy.policy.decide import Explained, PolicySet
from proxy.policy.patterns import compiled
from proxy.policy.rule import Rule
from proxy.terms import Decision, Facts, Mode, Phase

Load = Callable[[str, Sequence[str]], PolicySet]
"""(path of the test file, the policies it names) -> the compiled set; raises PolicyProblems."""


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a reply that came in pieces."""

    decision: Decision
    """The heaviest that was said of it."""
    released: str
    """What had left before a rule cut it, or before it had ended."""
    text: str
    """All that the client got, the safe text of a cut included."""


Stream = Callable[[PolicySet, Facts, Sequence[str]], Streamed]
"""Sends pieces of a reply through the window that serves."""


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one case went; `wrong` is empty when it passed, `explained` is filled when it did not."""

    name: str
    position: str
    phase: Phase
    decision: Decision
    wrong: tuple[str, ...] = ()
    explained: tuple[Explained, ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether all that was expected came true."""
        return not self.wrong


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How all cases went; `uncovered` names each rule and guard that they do not prove, and what of it."""

    results: tuple[CaseResult, ...]
    uncovered: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether there were cases and all of them passed; no case at all proves nothing."""
        return bool(self.results) and all(result.passed for result in self.results)


def run_tests(tests: Sequence[Source], load: Load, stream: Stream) -> Report:
    """Run policy tests; raise PolicyProblems when a test file or a policy is wrong."""
    problems, files = Problems(), list[tuple[PolicySet, list[Case]]]()
    for text in _texts(tests, problems):
        tree: Any = text.value
        try:
            policies = load(text.path, tree["spec"]["policies"])
        except PolicyProblems as error:
            problems.found += error.problems
        else:
            files.append((policies, cases(text, problems)))
    _raise(problems)
    return _report(files, stream)


def hold_gates(tests: Sequence[Source], policies: PolicySet, stream: Stream) -> None:
    """Run the cases that are marked `gate` against the set that is about to serve, whatever policies their file names.

    Raises PolicyProblems with each that does not come true, or when a test file is wrong.
    """
    problems = Problems()
    for text in _texts(tests, problems):
        for case in cases(text, problems):
            if case.gate:
                decision, wrongs = _tried(policies, case, stream)
                for wrong in wrongs:
                    problems.add(case.position, f"the gate `{case.name}` fails: {wrong}{_because(decision)}")
    _raise(problems)


def _texts(tests: Sequence[Source], problems: Problems) -> Iterator[Text]:
    for source in tests:
        yield from (text for text in read(source, problems) if check(text, schema("tests.schema.json"), problems))


def _raise(problems: Problems) -> None:
    if problems.found:
        raise PolicyProblems(sorted(problems.found, key=by_place))


def _because(decision: Decision) -> str:
    """Name the rule that decided, and what went wrong with it if it failed."""
    failure = next((hit.error for hit in decision.rules if hit.id == decision.rule), "")
    return f" ({decision.rule}{': ' if failure else ''}{failure})" if decision.rule else ""


def _report(files: Iterable[tuple[PolicySet, list[Case]]], stream: Stream) -> Report:
    results: list[CaseResult] = []
    proven: dict[str, set[str]] = {}
    for policies, its_cases in files:
        proven |= {name: set() for name in _to_prove(policies) if name not in proven}
        for case in its_cases:
            explained = policies.explain(case.phase, case.facts)
            result = _judged(policies, case, explained, stream)
            for name, outcome in _proves(case, explained, result.decision):
                proven.setdefault(name, set()).add(outcome)
            results.append(result)
    missing = (
        f"{name}: no case in which it {outcome}"
        for name, outcomes in proven.items()
        for outcome in _outcomes(name)
        if outcome not in outcomes
    )
    return Report(results=tuple(results), uncovered=tuple(missing))


def _to_prove(policies: PolicySet) -> Iterator[str]:
    """Yield every rule that decides, and every guard."""
    yield from (rule.id for rule in policies.rules if _decides(rule))
    yield from (f"guard {name}" for name in sorted(policies.guards))


def _decides(rule: Rule) -> bool:
    return rule.mode is not Mode.OFF and rule.cap_nanousd is None


def _outcomes(name: str) -> tuple[str, ...]:
    return ("fails",) if name.startswith("guard ") else ("matches", "does not match")


def _proves(case: Case, explained: Sequence[Explained], decision: Decision) -> Iterator[tuple[str, str]]:
    words = {"matched": "matches", "unmatched": "does not match"}
    # A total matches no expression: whether it had room is told by the decision alone.
    hits = {hit.id for hit in decision.rules if not hit.error}
    for one in explained:
        if one.outcome in words and _decides(one.rule):
            yield one.rule.id, "matches" if one.rule.id in hits else words[one.outcome]
    if any(one.outcome == "error" for one in explained):
        yield from ((f"guard {name}", "fails") for name in case.mocked)


def _judged(policies: PolicySet, case: Case, explained: tuple[Explained, ...], stream: Stream) -> CaseResult:
    decision, wrong = _tried(policies, case, stream)
    return CaseResult(
        name=case.name,
        position=case.position,
        phase=case.phase,
        decision=decision,
        wrong=wrong,
        explained=explained if wrong else (),
    )


def _tried(policies: PolicySet, case: Case, stream: Stream) -> tuple[Decision, tuple[str, ...]]:
    """Return what is decided of a case, and each expectation that did not come true."""
    if not case.chunks:
        decision = beside(policies.decide(case.phase, case.facts, "test"), case.facts.totals)
        return decision, tuple(_wrong(case.expect, decision, {}))
    streamed = stream(policies, case.facts, case.chunks)
    said = {"released": streamed.released, "text": streamed.text}
    return streamed.decision, tuple(_wrong(case.expect, streamed.decision, said))


def _wrong(expect: Mapping[str, Any], decision: Decision, said: Mapping[str, str]) -> Iterator[str]:
    got = {
        **said,
        "verdict": str(decision.verdict),
        "reason": decision.reason,
        "to": _to(decision),
        "strip": sorted(decision.strip),
        "annotations": dict(decision.annotations),
        "redactions": sorted({span.kind for span in decision.spans}),
        "labels": sorted(decision.labels),
        "rewrites": dict(decision.rewrites),
        "level": str(decision.level or ""),
        "obligations": sorted(map(str, decision.obligations)),
        "queue": decision.escalation.queue if decision.escalation else "",
        "shadowVerdict": str(decision.shadow_verdict),
    }
    for key, wanted in expect.items():
        if key in got and got[key] != (sorted(wanted) if isinstance(wanted, list) else wanted):
            yield f"{key}: expected {_shown(wanted)}, got {_shown(got[key])}"
    rule = expect.get("rule")
    if rule is not None and rule not in (decision.rule, decision.rule.rpartition("@")[0]):
        yield f"rule: expected {rule}, got {_shown(decision.rule)}"
    pattern = expect.get("messageMatches")
    if pattern is not None and not compiled(pattern).search(decision.message):
        yield f"messageMatches: {pattern!r} is not found in {decision.message!r}"


def _to(decision: Decision) -> str:
    """Name where a call is routed: an alias or pool, or `cheapest` with its tags."""
    if decision.way is None:
        return ""
    return decision.way.to or f"cheapest:{','.join(decision.way.tags)}"


def _shown(value: object) -> str:
    return str(value) if value != "" else "nothing"
