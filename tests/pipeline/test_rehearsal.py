"""Owns the proof of proxy/pipeline/rehearsal.py: a policy test sees of a stream what a client would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pipeline.rehearsal import rehearse
from proxy.terms import Verdict
from tests.policy.written import compiled, facts, policy

MASK = {"phase": "chunk", "action": "mask", "pattern": "N-[0-9]{1,8}"}
CUT = {"phase": "chunk", "action": "deny", "when": 'chunk.text.contains("forbidden")', "message": "No more."}
RULES = compiled(policy(MASK, CUT))
LONG = "word " * 200


def test_what_nothing_is_found_in_leaves_as_it_is() -> None:
    """A reply that no rule says anything of is allowed, and most of it has left before its end."""
    said = rehearse(RULES, facts(), [LONG, LONG])

    assert (Verdict.ALLOW, LONG * 2) == (said.decision.verdict, said.text)
    assert 0 < len(said.released) < len(said.text)
    assert said.text.startswith(said.released)


def test_what_is_covered_never_leaves() -> None:
    """A match that is split between pieces is covered before any of it is let go."""
    said = rehearse(RULES, facts(), [f"{LONG}N-12", f"34 {LONG}", LONG])

    assert (Verdict.REDACT, {"pattern"}) == (said.decision.verdict, {span.kind for span in said.decision.spans})
    assert "N-" not in said.released + said.text
    assert len(said.text) > len(said.released) > len(LONG)


def test_a_cut_ends_with_the_safe_text() -> None:
    """What left before the cut stays, what was forbidden never left, and the rest is not asked for."""
    said = rehearse(RULES, facts(), [LONG, "forbidden", LONG, "never reached"])

    assert (Verdict.DENY, f"{said.released}No more.") == (said.decision.verdict, said.text)
    assert said.released
    assert LONG.startswith(said.released)


def test_what_a_rule_of_the_whole_reply_holds_has_not_left() -> None:
    """Where the whole reply waits for its rules nothing leaves before its end."""
    held = compiled(policy(MASK, {"phase": "response", "action": "deny", "when": "false"}))

    said = rehearse(held, facts(), [LONG, "N-1 ", LONG])

    assert ("", False, True) == (said.released, "N-1" in said.text, said.text.startswith(LONG))


def test_policies_for_others_are_not_asked() -> None:
    """A selector that does not take the caller takes nothing from the reply."""
    others = compiled(policy(CUT, selector={"agents": ["somebody-else"]}))

    assert "forbidden" == rehearse(others, facts(), ["forbidden"]).text


@given(st.lists(st.sampled_from(["N-1", "2", " ", "forbid", "den", "word"]), min_size=1, max_size=8))
def test_pieces_change_neither_verdict_nor_text(pieces: list[str]) -> None:
    """However a reply is sliced, the same is decided and the same is read."""
    sliced, whole = rehearse(RULES, facts(), pieces), rehearse(RULES, facts(), ["".join(pieces)])

    assert (whole.decision.verdict, whole.text) == (sliced.decision.verdict, sliced.text)


@pytest.mark.parametrize("chunks", [[""], ["", ""]])
def test_an_empty_reply_is_an_empty_reply(chunks: list[str]) -> None:
    """A reply that says nothing is allowed."""
    assert ("", Verdict.ALLOW) == ((said := rehearse(RULES, facts(), chunks)).text, said.decision.verdict)
