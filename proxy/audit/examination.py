"""Owns the examination of a whole log: that each entry is as it was when its checkpoint was signed.

In: the log's lines, its checkpoints, those that were anchored elsewhere, a public key. Out: a Report. Never: a guess;
what was not compared is not claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from proxy.audit.canonical import canonical
from proxy.audit.merkle import Frontier, leaf_hash
from proxy.audit.notes import BadNote, Checkpoint, Verifier, checkpoint, encoded, notes
from proxy.audit.proofs import signed
from proxy.terms import Json

MOST = 20
"""Problems that are told; after the first, most follow from it."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    entries: int
    signed: int
    """Entries that the log's own newest checkpoint covers."""
    anchored: int | None
    """Entries that the newest anchored checkpoint covers; None: there was nothing to compare with."""
    others: tuple[str, ...]
    """Other logs that the anchor knows, oldest first: each is to be there as well."""
    root: bytes
    torn: bool = False
    """Its last line, which nothing has signed, is not whole: a process was killed while it wrote, or writes now."""
    problems: tuple[str, ...]


class _Examination:
    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.problems: list[str] = []
        self.expected: dict[int, tuple[bytes, str]] = {}
        """Root and where it is from, by size of the tree."""
        self.tree = Frontier()
        self.torn = False
        self.good = 0
        """The largest size at which the root was as expected."""

    def add(self, problem: str) -> None:
        if len(self.problems) < MOST:
            self.problems.append(problem)

    def expect(self, text: str, where: str) -> list[Checkpoint]:
        """Take the checkpoints of one place; return them in their order."""
        found: list[Checkpoint] = []
        for number, note in enumerate(notes(text), 1):
            try:
                found.append(signed(note, self.verifier))
            except BadNote as error:
                self.add(f"{where}: checkpoint {number}: {error}")
        for one in found:
            known = self.expected.setdefault(one.size, (one.root, where))
            if known[0] != one.root:
                self.add(f"{where}: another root for {one.size} entries than in {known[1]}: two histories were signed")
        return found

    def read(self, place: str, line: bytes) -> None:
        """Take the next line of the log."""
        index = self.tree.size
        if not line.endswith(b"\n") and index >= max(self.expected, default=0):
            self.torn = True
            return
        try:
            _check(line, index, self.tree, self.verifier)
        except ValueError as error:
            self.add(f"{place}: entry {index}: {error}")
        self.tree.add(leaf_hash(line.removesuffix(b"\n")))
        if expected := self.expected.pop(self.tree.size, None):
            self._compare(*expected)

    def _compare(self, root: bytes, where: str) -> None:
        size = self.tree.size
        if root == self.tree.root():
            self.good = size
        else:
            self.add(f"entries {self.good} to {size - 1} are not those that were signed ({where})")


def examine(
    lines: Iterable[tuple[str, bytes]], checkpoints: str, verifier: Verifier, *, anchored: str | None = None
) -> Report:
    """Compare a log with its checkpoints, and with those that were anchored where nobody who can change the log can
    change them. `lines` says of each where it stands."""
    work = _Examination(verifier)
    own = [one.size for one in work.expect(checkpoints, "checkpoints")]
    others = [one.size for one in work.expect(_ours(anchored or "", verifier), "anchor")]
    if own != sorted(own):
        work.add("checkpoints: they are not in the order in which they were made")
    if not own:
        work.add("checkpoints: there is none, so that nothing shows what the log was")
    if anchored is not None and not others:
        work.add(f"anchor: it knows nothing of {verifier.name}: another log was put in the place of the one anchored")
    for place, line in lines:
        work.read(place, line)
    for size, (_, where) in sorted(work.expected.items()):
        work.add(f"the log ends after {work.tree.size} entries, but {size} were signed ({where}): its end is missing")
    return Report(
        entries=work.tree.size,
        signed=max(own, default=0),
        anchored=None if anchored is None else max(others, default=0),
        others=_others(anchored or "", verifier),
        root=work.tree.root(),
        torn=work.torn,
        problems=tuple(work.problems),
    )


def _check(line: bytes, index: int, tree: Frontier, verifier: Verifier) -> None:
    """Raise ValueError for a line that is not what a log of ours has there."""
    if not line.endswith(b"\n"):
        raise ValueError("it is cut off")
    entry = parsed(line)
    if canonical(cast(Json, entry)) != line[:-1]:
        raise ValueError("it is not in canonical form")
    if entry.get("seq") != index:
        raise ValueError(f"it says that it is entry {entry.get('seq')}")
    if entry.get("kind") == "opened":
        if entry.get("log") != verifier.name:
            raise ValueError(f"it is of another log, {entry.get('log')}")
        if entry.get("peaks") != [encoded(peak) for peak in tree.peaks]:
            raise ValueError("it does not follow from the entries before it")
    elif not index:
        raise ValueError("a log begins with `opened`")


def parsed(line: bytes) -> Mapping[str, Json]:
    """Read an entry; raise ValueError for what is none."""
    try:
        entry = msgspec.json.decode(line, type=dict[str, Json])
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON object") from None
    return entry


def newest(text: str) -> Checkpoint | None:
    """Return the last checkpoint of a file of notes, whoever signed it; None if there is none that can be read."""
    found = None
    for note in notes(text):
        try:
            found = checkpoint(_text(note))
        except BadNote:
            continue
    return found


def _text(note: str) -> str:
    return note.rpartition("\n\n")[0] + "\n"


def _others(text: str, verifier: Verifier) -> tuple[str, ...]:
    origins = dict.fromkeys(note.partition("\n")[0] for note in notes(text))
    return tuple(origin for origin in origins if origin != verifier.name)


def _ours(text: str, verifier: Verifier) -> str:
    """Return those notes that say they are of this log; an anchor may keep those of several."""
    return "".join(note for note in notes(text) if note.startswith(f"{verifier.name}\n"))
