"""Owns the proof by number that no change of an audit log goes unseen: it is changed a thousand times, in seven ways.

Usage: python bench/audit_mutations.py [--mutations 1000] [--seed 1]. Writes one log of several files as Handrail does,
with an anchor, then changes copies of it: a bit flipped, an entry deleted, inserted or moved, with and without
numbering the rest anew, its end cut off with the checkpoints that knew of it, and all of it written anew with its own
key. Exits 1 when `examine` finds nothing in one of them, or something in the log as it was.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from proxy import audit, journal
from proxy.journal.log import Log, LogSettings

AT_MS = 1_767_225_600_000
SEED = bytes(range(32))
ENTRIES = 60
BATCH = 7
SEGMENT_BYTES = 3_000

Lines = list[bytes]


class Copy:
    """A copy of the log that may be spoilt; `text` are its checkpoints."""

    def __init__(self, lines: Lines, text: str, dice: random.Random) -> None:
        self.lines = list(lines)
        self.text = text
        self.dice = dice

    def place(self) -> int:
        """Choose an entry."""
        return self.dice.randrange(len(self.lines))


def flip(copy: Copy) -> None:
    """Change one bit of an entry or of a checkpoint."""
    data = bytearray(b"".join(copy.lines))
    notes = bytearray(copy.text.encode())
    spoilt = copy.dice.choice((data, data, data, notes))
    spoilt[copy.dice.randrange(len(spoilt))] ^= 1 << copy.dice.randrange(8)
    copy.lines, copy.text = list(io.BytesIO(data)), notes.decode(errors="replace")


def delete(copy: Copy) -> None:
    """Take an entry away."""
    del copy.lines[copy.place()]


def renumber(copy: Copy) -> None:
    """Take an entry away and number all that follow anew."""
    place = copy.place()
    del copy.lines[place]
    copy.lines[place:] = [_numbered(line, place + after) for after, line in enumerate(copy.lines[place:])]


def insert(copy: Copy) -> None:
    """Put an entry in that was never written, and number all that follow anew."""
    place = copy.place()
    copy.lines.insert(place, audit.canonical({"at_ms": AT_MS, "id": "ex_forged", "kind": "call", "seq": place}) + b"\n")
    copy.lines[place:] = [_numbered(line, place + after) for after, line in enumerate(copy.lines[place:])]


def reorder(copy: Copy) -> None:
    """Let two different entries change places."""
    one, other = copy.dice.sample(range(len(copy.lines)), 2)
    copy.lines[one], copy.lines[other] = _numbered(copy.lines[other], one), _numbered(copy.lines[one], other)


def truncate(copy: Copy) -> None:
    """Cut the end off, and every checkpoint that knew of it: only the anchor can tell."""
    size = copy.dice.randrange(1, len(copy.lines))
    copy.lines = copy.lines[:size]
    copy.text = "".join(note for note in audit.notes(copy.text) if int(note.split("\n")[1]) <= size)


def rewrite(copy: Copy) -> None:
    """Change an entry and sign all of it anew with the log's own key: only the anchor can tell."""
    place = copy.dice.randrange(1, len(copy.lines))
    copy.lines[place] = audit.canonical({"at_ms": AT_MS, "id": "ex_forged", "kind": "call", "seq": place}) + b"\n"
    origin, tree = copy.text.split("\n")[0], audit.Frontier()
    for number, line in enumerate(copy.lines):
        entry = json.loads(line)
        if entry["kind"] == "opened":
            entry["peaks"] = [audit.encoded(peak) for peak in tree.peaks]
            copy.lines[number] = audit.canonical(entry) + b"\n"
        tree.add(audit.leaf_hash(copy.lines[number][:-1]))
    copy.text = audit.Signer(origin, SEED).sign(audit.Checkpoint(origin=origin, size=tree.size, root=tree.root()).text)


def _numbered(line: bytes, seq: int) -> bytes:
    return audit.canonical({**json.loads(line), "seq": seq}) + b"\n"


WAYS: tuple[Callable[[Copy], None], ...] = (flip, delete, renumber, insert, reorder, truncate, rewrite)


def write(folder: Path) -> None:
    """Write a log of several files, signed and anchored every few entries."""
    log = Log.open(
        LogSettings(folder=folder / "log", seed=SEED, anchor=folder / "anchor", segment_bytes=SEGMENT_BYTES), AT_MS
    )
    for first in range(0, ENTRIES, BATCH):
        log.append([audit.event("call", AT_MS, {"id": f"ex_{first + more}"}) for more in range(BATCH)])
        log.roll(AT_MS)
        log.checkpoint()
        log.anchor()
    log.append([audit.event("stopped", AT_MS, {})])
    log.checkpoint()
    log.anchor()
    log.close()


def mutate(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Return how often each kind of change was found, and what was not as it should be."""
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder)
        key, anchored = journal.key_of(folder / "log"), journal.text(folder / "anchor")
        lines = [line for _, line in journal.lines(folder / "log")]
        text = journal.text(folder / "log" / journal.CHECKPOINTS)
    finally:
        shutil.rmtree(folder)

    def problems(lines: Lines, text: str) -> tuple[str, ...]:
        return audit.examine((("", line) for line in lines), text, key, anchored=anchored).problems

    found: Counter[str] = Counter()
    missed = [f"the log as it was: {problem}" for problem in problems(lines, text)]
    dice = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    for number in range(count):
        way, copy = WAYS[number % len(WAYS)], Copy(lines, text, dice)
        way(copy)
        if problems(copy.lines, copy.text):
            found[way.__name__] += 1
        else:
            missed.append(f"mutation {number}, {way.__name__}, was not found")
    return found, missed


def main() -> int:
    """Mutate, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    found, missed = mutate(chosen.mutations, chosen.seed)
    for name, count in found.items():
        print(f"{name:9} {count:5} found")
    print("\n".join(missed) if missed else f"{sum(found.values())} of {chosen.mutations} changes were found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
