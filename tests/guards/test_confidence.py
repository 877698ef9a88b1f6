"""Owns the proof of the confidence guard: how signals add up to a level, and which of them say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.guards.confidence import WEIGHTS, create

GUARD = create(())


@pytest.mark.parametrize(
    ("signals", "label", "score", "reason"),
    [
        pytest.param(["topics orders 1.0"], "high", 1.0, "", id="a sure topic"),
        pytest.param(["topics orders 0.5"], "medium", 0.7, "topics", id="an unsure topic"),
        pytest.param(["topics other 0.0"], "low", 0.4, "topics", id="no topic at all"),
        pytest.param(["sentiment neutral 1.0"], "high", 1.0, "", id="a calm customer"),
        pytest.param(["sentiment angry 1.0"], "low", 0.4, "sentiment", id="an angry customer"),
        pytest.param(["repeat duplicate 1.0"], "medium", 0.7, "repeat", id="a call again"),
        pytest.param(["repeat loop 1.0"], "low", 0.2, "repeat", id="a loop"),
        pytest.param(["topics a 0.5", "language en 0.5"], "medium", 0.595, "topics", id="doubts multiply"),
        pytest.param(["grounding money 1.0"] * 3, "low", 0.3, "grounding", id="a guard counts once"),
        pytest.param(["sentiment positive 0.9", "injection override 1.0"], "low", 0.1, "injection", id="an attack"),
        pytest.param(["pii email 1.0", "topics a 1.0"], "high", 1.0, "", id="no doubt of ours"),
    ],
)
def test_signals_add_up_to_a_level(signals: list[str], label: str, score: float, reason: str) -> None:
    """Every guard takes away its weighted doubt, and the one that takes most is the reason."""
    (finding,) = GUARD.scan("text", signals)

    assert (label, reason, 4) == (finding.label, finding.reason, finding.end)
    assert pytest.approx(score) == finding.score


@pytest.mark.parametrize(
    "signals", [pytest.param([], id="none"), pytest.param(["pii email 1.0"], id="none that counts")]
)
def test_without_signals_nothing_is_found(signals: list[str]) -> None:
    """Silence is no confidence."""
    assert [] == GUARD.scan("text", signals)


def test_a_broken_signal_is_an_error() -> None:
    """What cannot be read is never taken for confidence."""
    with pytest.raises(ValueError, match="could not convert"):
        GUARD.scan("", ["topics orders much"])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(sorted(WEIGHTS)), st.floats(0, 1)), min_size=1, max_size=12), st.floats(0, 1))
def test_a_doubt_more_never_raises_the_score(signals: list[tuple[tuple[str, str], float]], injected: float) -> None:
    """Whatever was said, the score stays from 0 to 1 and an attack lowers it."""
    lines = [f"{name} {label or 'x'} {score}" for (name, label), score in signals]
    (before,), (after,) = GUARD.scan("", lines), GUARD.scan("", [*lines, f"injection override {injected}"])

    assert 0 <= after.score <= before.score <= 1


def test_a_flood_of_signals_is_one_per_guard() -> None:
    """Each signal is read once and only the worst of a guard is kept, however many there are."""
    assert GUARD.scan("", ["grounding money 0.5"]) == GUARD.scan("", ["grounding money 0.5"] * 5000)
