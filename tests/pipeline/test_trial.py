"""Owns the proof of proxy/pipeline/trial.py: a candidate is asked about the same facts, and never acts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.snapshot import Snapshot
from proxy.terms import Exchange, Phase, Verdict
from tests.fakes import Script
from tests.walking import CONFIG, Walked, compiled

ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Where is my order?"}]}
TOPICS = "apiVersion: handrail.dev/v1alpha1\nkind: Topics\ntopics:\n"
ORDERS = "  orders: [where is my order, track my order, order status]\n"
HEALTH = "  health: [my head hurts, i feel ill, call a doctor]\n"


def document(spec: str, version: str = "1.0.0") -> str:
    """Write a policy."""
    head = f"apiVersion: handrail.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: p, version: {version}}}\nspec:\n"
    return f"{head}  rules:\n{spec}"


def rule(when: str = "true", phase: str = "request", name: str = "r", action: str = "deny, message: No.") -> str:
    """Write a rule."""
    return f"  - {{id: {name}, phase: {phase}, when: '{when}', action: {action}}}\n"


QUIET = rule("false")
SAID = {"role": "assistant", "content": "It is on its way."}
REPLY = {"id": "c", "model": "large", "choices": [{"index": 0, "finish_reason": "stop", "message": SAID}]}
SCRIPT = Script(
    headers={"content-type": "application/json"},
    chunks=(json.dumps({**REPLY, "usage": {"prompt_tokens": 9, "completion_tokens": 3}}).encode(),),
)


def snapshot(folder: Path, active: str, candidate: str, topics: tuple[str, str] = ("", "")) -> Snapshot:
    """Compile policies, and a candidate beside them; each with what teaches its guard `topics`, if anything."""
    (folder / "new").mkdir()
    (folder / "new" / "policy.yaml").write_text(document(candidate, "1.1.0"))
    for place, text in zip((folder, folder / "new"), topics, strict=True):
        if text:
            (place / "topics.yaml").write_text(TOPICS + text)
    return compiled(f"{CONFIG}candidate: {{policies: [new]}}\n", document(active), folder)


async def tried(
    folder: Path, active: str, candidate: str, topics: tuple[str, str] = ("", ""), **call: Any
) -> tuple[Exchange, bytes]:
    """Walk one call; return its record, and what the agent got."""
    walked = Walked(SCRIPT, snapshot=await asyncio.to_thread(snapshot, folder, active, candidate, topics))
    outcome = await walked.call(ASK, **call)
    return walked.seen[0], outcome.body


def otherwise(exchange: Exchange) -> list[tuple[Phase, Verdict, str]]:
    """Return what the candidate would have decided otherwise."""
    return [(decision.phase, decision.verdict, decision.rule) for decision in exchange.candidate]


@pytest.mark.parametrize("phase", ["request", "response", "chunk"])
async def test_a_candidate_never_acts(phase: str, tmp_path: Path) -> None:
    """What it would deny goes out as it was, in phases of which the policies in force have no rule as well."""
    exchange, body = await tried(tmp_path, QUIET, rule(phase=phase))

    assert [(Phase(phase), Verdict.DENY, "p/r@1.1.0")] == otherwise(exchange)
    assert b"It is on its way." in body
    assert {Phase.REQUEST} == {decision.phase for decision in exchange.decisions}
    assert exchange.candidate_digest


async def test_what_it_would_let_through(tmp_path: Path) -> None:
    """Of a call that was denied it is asked as well: what it would let through is a difference."""
    exchange, body = await tried(tmp_path, rule(), QUIET)

    assert [(Phase.REQUEST, Verdict.ALLOW, "")] == otherwise(exchange)
    assert b"No." in body


async def test_after_the_reply(tmp_path: Path) -> None:
    """Rules of phase post are tried, too."""
    exchange, _ = await tried(tmp_path, QUIET, rule("usage.output == 3", "post", action="alert"))

    assert [(Phase.POST, Verdict.ALERT, "p/r@1.1.0")] == otherwise(exchange)


async def test_no_difference_is_no_news(tmp_path: Path) -> None:
    """Where both say the same nothing is on record but that the candidate was asked."""
    exchange, _ = await tried(tmp_path, rule(), rule())

    assert ([], True) == (otherwise(exchange), bool(exchange.candidate_digest))


async def test_a_call_that_was_left_is_not_tried(tmp_path: Path) -> None:
    """Where the client leaves before the end, no candidate is asked."""
    exchange, _ = await tried(tmp_path, QUIET, rule() + rule("true", "post", "after", "alert"), leave_after=1)

    assert ([], "") == (otherwise(exchange), exchange.candidate_digest)


@pytest.mark.parametrize(
    ("active", "topics"),
    [
        pytest.param(QUIET, ("", ORDERS + HEALTH), id="only the candidate has it"),
        pytest.param(
            rule('guards.topics.label == "none"'),
            (HEALTH + ORDERS.replace("order", "bill"), ORDERS + HEALTH),
            id="taught otherwise",
        ),
        pytest.param(rule('guards.topics.label == "none"'), (ORDERS + HEALTH, ORDERS + HEALTH), id="shared"),
    ],
)
async def test_guards_are_the_candidates_own(active: str, topics: tuple[str, str], tmp_path: Path) -> None:
    """What its rules read of guards is what its own guards say, taught by the files beside it."""
    exchange, _ = await tried(tmp_path, active, rule('guards.topics.label == "orders"'), topics)

    assert [(Phase.REQUEST, Verdict.DENY, "p/r@1.1.0")] == otherwise(exchange)


async def test_what_weighs_other_guards_weighs_the_candidates(tmp_path: Path) -> None:
    """A guard that weighs what others say is asked again where the others are others."""
    active = rule("guards.confidence.score > 2.0 || guards.pii.flagged")
    exchange, _ = await tried(
        tmp_path, active, rule("guards.confidence.score >= 0.0 && !guards.language.flagged || true")
    )

    assert [(Phase.REQUEST, Verdict.DENY, "p/r@1.1.0")] == otherwise(exchange)


async def test_facts_that_only_a_candidate_reads(tmp_path: Path) -> None:
    """Headers and money are there for it, whatever the policies in force read."""
    candidate = rule('request.headers["x-tier"] == "gold" && spend.agent.calls == 0 && spend.request.est_usd > 0.0')

    exchange, _ = await tried(tmp_path, QUIET, candidate, headers={"x-tier": "gold"})

    assert [(Phase.REQUEST, Verdict.DENY, "p/r@1.1.0")] == otherwise(exchange)
    assert [""] == [hit.error for hit in exchange.candidate[0].rules]


async def test_what_would_be_said_is_not_on_record(tmp_path: Path) -> None:
    """What a candidate would say instead of what was is content: it is named, and not kept."""
    rewriting = "  - {id: r, phase: response, when: 'true', action: rewrite, rewrite: {text: '\"secret\"'}}\n"

    exchange, _ = await tried(tmp_path, QUIET, rewriting)

    assert {"text": None} == exchange.candidate[0].rewrites
