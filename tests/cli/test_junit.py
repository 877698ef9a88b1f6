"""Owns the proof of proxy/cli/junit.py: what test servers read is well-formed and says why a case failed."""

from __future__ import annotations

from xml.etree import ElementTree

from proxy.cli import junit
from proxy.policy import CaseResult, Explained, Report, Rule
from proxy.terms import Decision, Phase, Verdict

DECISION = Decision(id="test", phase=Phase.REQUEST, verdict=Verdict.DENY)
RULE = Rule(id="p/r@1.0.0", section="rules", phase=Phase.REQUEST, action=Verdict.DENY, when="a < b")


def result(file: str, name: str, *wrong: str) -> CaseResult:
    """Make the result of a case; one that failed is explained."""
    explained = (Explained(rule=RULE, outcome="matched", values=(("a < b", "True"), ("a", "'\x00<'"))),)
    return CaseResult(
        name=name,
        position=f"{file}:7:3",
        phase=Phase.REQUEST,
        decision=DECISION,
        wrong=wrong,
        explained=explained if wrong else (),
    )


def test_each_file_is_a_suite() -> None:
    """Cases stand in the suite of their file, which counts those that failed."""
    report = Report(results=(result("a.yaml", "one"), result("a.yaml", "two", "no"), result("b.yaml", "three")))

    suites = ElementTree.fromstring(junit.xml(report))  # noqa: S314 - our own text

    assert [("a.yaml", "2", "1"), ("b.yaml", "1", "0")] == [
        (suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites
    ]
    assert ["one", "two", "three"] == [case.get("name") for case in suites.iter("testcase")]


def test_a_failure_says_what_differed_and_why() -> None:
    """It names the place, what was expected and got, and each value; what XML cannot carry is written out."""
    report = Report(results=(result("a.yaml", '<&"\x1b\ud800', "verdict: expected allow, got deny"),))

    case = ElementTree.fromstring(junit.xml(report).encode()).find(".//testcase")  # noqa: S314 - our own text

    assert case is not None
    failure = case.find("failure")
    assert failure is not None
    assert ('<&"\\u001b\\ud800', "verdict: expected allow, got deny") == (case.get("name"), failure.get("message"))
    assert [
        "a.yaml:7:3: verdict: expected allow, got deny",
        "p/r@1.0.0: matched",
        "  a < b  =  True",
        "  a  =  '\\u0000<'",
    ] == (failure.text or "").splitlines()
