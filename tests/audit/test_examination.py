"""Owns the proof of proxy/audit/examination.py: whatever was done to a log shows."""

from __future__ import annotations

import pytest

from proxy.audit.examination import MOST, Report, examine, newest
from tests.audit.logs import NAME, OTHER, SIGNER, THIEF, entry, log, sign

LOG = log(20, segment=12)
SIGNED = sign(LOG[:1]) + sign(LOG[:9]) + sign(LOG)


def look(lines: list[bytes], checkpoints: str = SIGNED, anchored: str | None = None) -> Report:
    """Examine some lines."""
    placed = [(f"line {number}", line) for number, line in enumerate(lines, 1)]
    return examine(placed, checkpoints, SIGNER.verifier, anchored=anchored)


@pytest.mark.parametrize(
    ("anchored", "covers"),
    [
        pytest.param(None, None, id="no anchor"),
        pytest.param(sign(LOG[:9]), 9, id="an older one"),
        pytest.param(sign(LOG[:3]) + sign(LOG), 20, id="several"),
        pytest.param(sign(LOG[:2], OTHER) + sign(LOG[:9]), 9, id="beside another log's"),
    ],
)
def test_a_log_as_it_was_written(anchored: str | None, covers: int | None) -> None:
    """Nothing is found, and it is said what was compared."""
    report = look(LOG, anchored=anchored)

    assert ((), 20, 20, covers) == (report.problems, report.entries, report.signed, report.anchored)


def test_other_logs_that_the_anchor_knows_are_named() -> None:
    """A log that was taken away, and another begun in its place, shows by what is kept of the one before."""
    report = look(LOG, anchored=sign(LOG[:2], OTHER) + sign(LOG[:3], OTHER) + sign(LOG))

    assert ((), ("handrail-audit/fedcba9876543210",)) == (report.problems, report.others)


def test_what_is_not_signed_yet_is_not_claimed() -> None:
    """Entries after the newest checkpoint are counted apart."""
    report = look(LOG, sign(LOG[:15]))

    assert ((), 20, 15) == (report.problems, report.entries, report.signed)


def test_a_torn_end_that_nothing_has_signed_is_no_change() -> None:
    """A process was killed while it wrote; the next one cuts it off and says so."""
    report = look([*LOG[:15], LOG[15][:-9]], sign(LOG[:15]))

    assert ((), 15, True) == (report.problems, report.entries, report.torn)


def forged() -> list[bytes]:
    """A log that somebody with all its files, and without its key, wrote anew."""
    return [*LOG[:4], entry(4, id="ex_other") + b"\n", *LOG[5:]]


@pytest.mark.parametrize(
    ("lines", "checkpoints", "why"),
    [
        pytest.param([], SIGNED, "its end is missing", id="all gone"),
        pytest.param(LOG[:-1], SIGNED, "ends after 19 entries, but 20 were signed", id="its end is gone"),
        pytest.param([*LOG[:4], *LOG[5:]], SIGNED, "it says that it is entry 5", id="one is missing"),
        pytest.param([LOG[1], LOG[0], *LOG[2:]], SIGNED, "it says that it is entry 1", id="two in another order"),
        pytest.param(forged(), SIGNED, "entries 1 to 8 are not those that were signed", id="one was changed"),
        pytest.param([*LOG[:4], b"x\n", *LOG[5:]], SIGNED, "no JSON object", id="one is no JSON"),
        pytest.param([*LOG[:4], b"[]\n", *LOG[5:]], SIGNED, "no JSON object", id="one is no object"),
        pytest.param([*LOG[:4], b"[" * 9999 + b"\n", *LOG[5:]], SIGNED, "no JSON object", id="one without bottom"),
        pytest.param([*LOG[:4], LOG[4].replace(b":", b": "), *LOG[5:]], SIGNED, "canonical", id="written otherwise"),
        pytest.param([*LOG[:-1], LOG[-1][:-1]], SIGNED, "cut off", id="the last line is cut"),
        pytest.param([entry(0) + b"\n", *LOG[1:]], SIGNED, "begins with `opened`", id="another beginning"),
        pytest.param([LOG[0].replace(b"0123", b"3210"), *LOG[1:]], SIGNED, "of another log", id="another log's"),
        pytest.param(log(20, segment=11)[:12] + LOG[12:], SIGNED, "are not those", id="a segment more"),
        pytest.param(
            [*LOG[:12], LOG[12].replace(b'"peaks":["', b'"peaks":["A'), *LOG[13:]], SIGNED, "follow", id="gap"
        ),
        pytest.param(LOG, "", "there is none", id="no checkpoint"),
        pytest.param(LOG, sign(LOG, THIEF), "no signature of", id="signed by another key"),
        pytest.param(LOG, sign(LOG, OTHER), "checkpoint 1: no signature", id="signed under another name"),
        pytest.param(LOG, sign(LOG) + sign(LOG[:9]), "not in the order", id="checkpoints in another order"),
        pytest.param(LOG, sign(LOG) + sign(forged()), "two histories", id="two histories"),
        pytest.param(LOG, SIGNED[:-30], "checkpoint 3", id="a checkpoint is cut"),
    ],
)
def test_what_was_changed_is_found(lines: list[bytes], checkpoints: str, why: str) -> None:
    """Without any anchor, whatever was done by whoever has not the key."""
    assert [problem for problem in look(lines, checkpoints).problems if why in problem]


def history() -> tuple[list[bytes], str]:
    """What the holder of the key can make: another log, and checkpoints of it."""
    lines = log(20, segment=12, other=4)
    return lines, sign(lines[:1]) + sign(lines)


@pytest.mark.parametrize(
    ("lines", "checkpoints", "anchored", "why"),
    [
        pytest.param(LOG[:9], sign(LOG[:9]), sign(LOG), "its end is missing", id="log and checkpoints are cut"),
        pytest.param(*history(), sign(LOG[:9]), "are not those", id="rewritten with the key"),
        pytest.param(*history(), sign(LOG), "two histories", id="and of the same size"),
        pytest.param(LOG, SIGNED, sign(LOG[:4], OTHER), "knows nothing of", id="another log"),
        pytest.param(LOG, SIGNED, "", "knows nothing of", id="an empty anchor"),
        pytest.param(LOG, SIGNED, sign(LOG, THIEF), "anchor: checkpoint 1", id="another key"),
    ],
)
def test_the_anchor_shows_what_the_log_cannot(lines: list[bytes], checkpoints: str, anchored: str, why: str) -> None:
    """A cut end and a rewrite by the holder of the key are consistent in themselves: only the anchor shows them."""
    assert [problem for problem in look(lines, checkpoints, anchored).problems if why in problem]


def test_a_log_that_is_rewritten_with_its_key_shows_nothing_by_itself() -> None:
    """Why there is an anchor: without one such a log is as good as any."""
    lines, checkpoints = history()

    assert () == look(lines, checkpoints).problems


def test_not_every_consequence_is_told() -> None:
    """After the first problem most follow from it."""
    assert MOST == len(look([b"x\n"] * 1000).problems)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param(SIGNED, 20, id="the last"),
        pytest.param(SIGNED + "torn", 20, id="that can be read"),
        pytest.param("torn", None, id="none that can"),
    ],
)
def test_the_newest_checkpoint_is_the_last(text: str, size: int | None) -> None:
    """Of a file of notes, whoever signed them."""
    found = newest(text)

    assert (size, NAME if size else None) == (found and found.size, found and found.origin)
