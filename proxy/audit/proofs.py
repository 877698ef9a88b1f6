"""Owns proofs that stand alone: that an entry is in the log, and that a log only grew.

In: leaf hashes, signed notes. Out: texts (c2sp.org/tlog-proof, and the body of c2sp.org/tlog-witness), or what they
prove. Never: trust in anything but the public key that comes in.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from proxy.audit.merkle import consistency, consistent, included, inclusion, leaf_hash
from proxy.audit.notes import BadNote, Checkpoint, Verifier, checkpoint, decoded, encoded

FORM = "c2sp.org/tlog-proof@v1"


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof shows: this entry, at this place, of the log that this checkpoint is of."""

    entry: bytes
    index: int
    checkpoint: Checkpoint


def prove(entry: bytes, index: int, leaves: Sequence[bytes], note: str) -> str:
    """Return the proof that an entry is in a log; `leaves` are all that the note's checkpoint covers. The entry itself
    comes along, as the form's extra data."""
    path = "".join(f"{encoded(sibling)}\n" for sibling in inclusion(leaves, index))
    return f"{FORM}\nextra {encoded(entry)}\nindex {index}\n{path}\n{note}"


def proven(text: str, verifier: Verifier) -> Proven:
    """Return what a proof shows; raise BadNote unless it does."""
    head, note = _parted(text)
    if len(head) < 3 or head[0] != FORM:
        raise BadNote(f"a proof begins with {FORM}, its extra data and its index")
    entry, index = decoded(_after("extra ", head[1])), _count(_after("index ", head[2]))
    newest = signed(note, verifier)
    if not included(leaf_hash(entry), index, newest.size, _hashes(head[3:]), newest.root):
        raise BadNote("the entry is not in the log that the checkpoint is of, or not at this place")
    return Proven(entry=entry, index=index, checkpoint=newest)


def prove_growth(old_size: int, leaves: Sequence[bytes], note: str) -> str:
    """Return the proof that a log of some size grew to the one that the note's checkpoint is of."""
    path = "".join(f"{encoded(sibling)}\n" for sibling in consistency(leaves, old_size))
    return f"old {old_size}\n{path}\n{note}"


def grown(text: str, old: str, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint to which the log of an older note grew; raise BadNote unless the proof shows that."""
    head, note = _parted(text)
    was, now = signed(old, verifier), signed(note, verifier)
    if _count(_after("old ", head[0])) != was.size:
        raise BadNote(f"the proof is not about the log of {was.size} entries")
    if not consistent((was.size, was.root), (now.size, now.root), _hashes(head[1:])):
        raise BadNote("the log did not only grow: what was in it has changed")
    return now


def signed(note: str, verifier: Verifier) -> Checkpoint:
    """Return a note's checkpoint; raise BadNote unless it is of this log, and signed."""
    found = checkpoint(verifier.open(note))
    if found.origin != verifier.name:
        raise BadNote(f"the checkpoint is of {found.origin}, not of {verifier.name}")
    return found


def _parted(text: str) -> tuple[list[str], str]:
    head, _, note = text.partition("\n\n")
    return head.split("\n"), note


def _after(word: str, line: str) -> str:
    if not line.startswith(word):
        raise BadNote(f"a line of the proof should begin with `{word.strip()}`")
    return line.removeprefix(word)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and str(int(text[:20])) == text):
        raise BadNote("a number of the proof is none")
    return int(text)


def _hashes(lines: Sequence[str]) -> list[bytes]:
    return [decoded(line) for line in lines]
