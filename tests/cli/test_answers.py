"""Owns the proof of proxy/cli/answers.py: plain words first, then every rule with the values that decided it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.cli import answers, main
from proxy.kept import MOST_BYTES
from proxy.stores import sqlite
from proxy.terms import Decision, Exchange, Kept, Mode, Phase, RuleHit, State, Verdict
from tests.cli.keeping import ASKED, POLICY, keep
from tests.policy.written import replied
from tests.stores.samples import exchange


def ended(state: State = State.COMPLETE, *decisions: Decision, error: str = "") -> Exchange:
    """Make a record with these decisions."""
    return replace(exchange("ex_1", state), decisions=decisions, error=error)


def decision(verdict: Verdict, phase: Phase = Phase.REQUEST, *, reason: str = "rule", message: str = "") -> Decision:
    """Make a decision of one rule."""
    return Decision(id="d", phase=phase, verdict=verdict, rule="p/r@1.0.0", reason=reason, message=message)


FAILED = replace(
    decision(Verdict.DENY, reason="policy_error", message="Something went wrong."),
    rules=(RuleHit(id="p/r@1.0.0", action=Verdict.DENY, mode=Mode.ENFORCE, error="no such key: tier"),),
)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        pytest.param(
            ended(State.COMPLETE, decision(Verdict.ALLOW), decision(Verdict.ANNOTATE, Phase.RESPONSE)),
            "The model's reply went out as it was: no rule had anything against it.",
            id="nothing",
        ),
        pytest.param(
            ended(State.DENIED, decision(Verdict.DENY, message="Not here.")),
            "The question was not put to the model, because the rule p/r@1.0.0 says so. "
            "The customer was told: “Not here.”",
            id="denied",
        ),
        pytest.param(
            ended(State.DENIED, FAILED),
            "The question was not put to the model, because the rule p/r@1.0.0 could not be answered "
            "(no such key: tier), and then it is better not done. The customer was told: “Something went wrong.”",
            id="failed",
        ),
        pytest.param(
            ended(State.COMPLETE, decision(Verdict.REDACT), decision(Verdict.DENY, Phase.TOOL_CALL, reason="declined")),
            "Something that the model wanted to do was not let through, because a person decided against it. "
            "Something was taken out of the question before the model got it, because the rule p/r@1.0.0 says so.",
            id="heaviest first",
        ),
        pytest.param(
            ended(State.COMPLETE, decision(Verdict.DENY, Phase.TOOL_CALL, reason="quota")),
            "Something that the model wanted to do was not let through, because it would have come to more, with what "
            "was done before, than it may.",
            id="too much together",
        ),
        pytest.param(
            ended(State.COMPLETE, decision(Verdict.ALLOW, Phase.TOOL_CALL, reason="approved")),
            "Something that the model wanted to do was let through, because a person approved it.",
            id="approved",
        ),
        pytest.param(
            ended(State.COMPLETE, decision(Verdict.REDACT, Phase.CHUNK)),
            "Something was taken out of what the model said, because the rule p/r@1.0.0 says so.",
            id="any other phase",
        ),
        pytest.param(
            ended(State.FAULT, error="stream_cut"), "No whole reply came of this call: stream_cut.", id="fault"
        ),
        pytest.param(
            replace(ended(), replay_of="ex_1"),
            "This call had been made before: the answer of ex_1 was given again.",
            id="said again",
        ),
        pytest.param(ended(State.CLIENT_GONE), "The agent left before the reply had ended.", id="gone"),
        pytest.param(
            ended(State.CLIENT_GONE, error="aborted"),
            "The agent left before the reply had ended, and the reply was not read on: aborted.",
            id="gone, and given up",
        ),
    ],
)
def test_plain_words(record: Exchange, said: str) -> None:
    """What became of a call, why and what was said can be read out to a customer."""
    assert said == answers.sentence(record)


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("phase", Phase)
def test_there_are_words_for_whatever_is_decided(verdict: Verdict, phase: Phase) -> None:
    """No decision is told by its name alone."""
    quiet = answers.sentence(ended())

    said = answers.sentence(ended(State.COMPLETE, decision(verdict, phase)))

    assert said == quiet or said.endswith("because the rule p/r@1.0.0 says so.")


@pytest.fixture
async def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """A kept call that was denied, and the policy that decided it, where the commands look."""
    monkeypatch.chdir(tmp_path)
    return await keep(tmp_path, 80.0)


def explained(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Explain a call or a decision."""
    assert 0 == main(["explain", name, "--config", "handrail.yaml"])
    return capsys.readouterr().out


def test_every_rule_shows_its_values(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """Of a kept call each rule of each phase is shown with what its parts came to, and what was said, with marks."""
    said = explained(calls[0].id, capsys)

    assert said.startswith("Something that the model wanted to do was not let through")
    assert "num(tool.args.amount_usd)  =  80.0" in said
    assert "matched    refunds/cap@1.0.0" in said
    assert 'call  issue_refund {"amount_usd": 80.0}' in said
    assert (True, False) == (ASKED.partition(",")[0] in said, "ann@example.org" in said)
    assert "changed since" not in said


def test_one_decision_can_be_explained(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """By the id of a decision only that one is shown."""
    said = explained(f"{calls[0].id}-request", capsys)

    assert (True, False) == ("refunds/mail@1.0.0" in said, "num(tool.args.amount_usd)  =" in said)


def test_other_policies_are_told_apart(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """Where the policies in force are others than those that decided, that is said first."""
    Path("policy.yaml").write_text(POLICY.replace("CAP", "100.0"))

    said = explained(calls[0].id, capsys)

    assert "The policies have changed since" in said
    assert "unmatched  refunds/cap@1.0.0" in said


async def test_what_was_too_large_is_told(calls: list[Exchange], capsys: pytest.CaptureFixture[str]) -> None:
    """Where a call had too much to keep, there is a word of that."""
    async with sqlite.open(sqlite.Settings(path=".handrail/handrail.sqlite")) as store:
        store.keep(Kept(exchange_id=calls[0].id, at_ms=1, policy_digest="", too_large=MOST_BYTES))

    assert 0 == await asyncio.to_thread(main, ["explain", calls[0].id])
    assert "not kept: 1,048,576 bytes were too much" in capsys.readouterr().out


def test_long_texts_are_cut_and_harmless() -> None:
    """A text is shown up to some length, line by line, without what steers a terminal."""
    reply = "x" * 400 + "\n\x1b[31m" + "y" * 400

    shown = dict(answers.texts(replied(reply)))["reply"]

    assert (True, False, 2) == (shown.endswith("…"), "\x1b" in shown, len(shown.splitlines()))
