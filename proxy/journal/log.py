"""Owns the writing of an audit log: entries, salts and checkpoints, and what a process that died left of them.

All but `append` blocks: it runs on the thread of the journal, while entries are appended, and when Handrail starts and
stops. Only while the log goes on to another file nothing may be appended.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from proxy.audit import (
    SALT_BYTES,
    BadNote,
    Checkpoint,
    Frontier,
    Signer,
    Verifier,
    Writer,
    canonical,
    decoded,
    encoded,
    event,
    leaf_hash,
    newest,
    notes,
    parsed,
    signed,
)
from proxy.errors import ConfigError
from proxy.journal import folder as files
from proxy.journal.file import Appended
from proxy.terms import Json

SEGMENT_BYTES = 64 * 1024 * 1024
"""Size at which a file of entries is full: this much is read when Handrail starts."""
AHEAD_BYTES = 1024 * 1024
"""How much of a file of entries is laid out at a time."""
AHEAD_NOTES = 64 * 1024
"""How much of the file of checkpoints."""
ID_BYTES = 8


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log is, what signs it, and where else its checkpoints go."""

    folder: Path
    seed: bytes
    """The private key: 32 bytes."""
    anchor: Path | None = None
    segment_bytes: int = SEGMENT_BYTES


class _Left(msgspec.Struct, frozen=True, kw_only=True):
    """What the process before left."""

    path: Path
    origin: str
    peaks: tuple[bytes, ...]
    """Of the tree before this file."""
    leaves: tuple[bytes, ...]
    """Hashes of its entries."""
    length: int
    """Bytes of whole entries in the newest file."""
    torn: bytes
    last: str
    """Kind of the last entry."""

    @property
    def first(self) -> int:
        """Return the number of the file's first entry."""
        return files.first_of(self.path)

    @property
    def size(self) -> int:
        """Return how many entries the log has."""
        return self.first + len(self.leaves)

    def grown(self, size: int) -> Frontier:
        """Return the tree as it was when the log had so many entries."""
        tree = Frontier(self.first, self.peaks)
        for leaf in self.leaves[: size - self.first]:
            tree.add(leaf)
        return tree


class Log:
    """The log of one folder, open for writing; made by `open`."""

    def __init__(self, settings: LogSettings, signer: Signer, tree: Frontier, path: Path, lock: int) -> None:
        self._settings = settings
        self._signer = signer
        self._tree = tree
        self._lock = lock
        self._entries: Appended
        self._salts: Appended
        self._take(path)
        self._checkpoints = Appended(settings.folder / files.CHECKPOINTS, AHEAD_NOTES)
        self._anchored = ""
        """The newest checkpoint that the second place has."""
        self.signed = 0
        """Entries that the newest checkpoint covers."""
        self.note = ""
        """The newest checkpoint, signed."""

    @classmethod
    def open(cls, settings: LogSettings, at_ms: int) -> Self:
        """Begin a log, or go on with the one that is there; raise ConfigError when that is not what was signed."""
        try:
            settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _locked(settings.folder)
            try:
                return cls._open(settings, lock, at_ms)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise ConfigError([f"{settings.folder}: cannot be used for the audit log: {error.strerror}"]) from error

    @classmethod
    def _open(cls, settings: LogSettings, lock: int, at_ms: int) -> Self:
        left = _left(settings.folder)
        if left and left.size == 1 and not files.text(settings.folder / files.CHECKPOINTS):
            left = None  # It was killed before it had begun.
        return cls._resume(settings, lock, left, at_ms) if left else cls._begin(settings, lock, at_ms)

    @classmethod
    def _begin(cls, settings: LogSettings, lock: int, at_ms: int) -> Self:
        signer = Signer(f"handrail-audit/{os.urandom(ID_BYTES).hex()}", settings.seed)
        before = newest(files.text(settings.anchor)) if settings.anchor else None
        previous: Json = {"log": before.origin, "size": before.size, "root": encoded(before.root)} if before else None
        (settings.folder / files.PUBLIC_KEY).write_text(f"{signer.verifier.line}\n", encoding="utf-8")
        log = cls(settings, signer, Frontier(), files.segment(settings.folder, 0), lock)
        for file in (log._entries, log._salts, log._checkpoints):
            file.cut(0)
        log.append([log._opening(at_ms, previous=previous)])
        log.checkpoint()
        return log

    @classmethod
    def _resume(cls, settings: LogSettings, lock: int, left: _Left, at_ms: int) -> Self:
        signer = Signer(left.origin, settings.seed)
        last, whole = _last_signed(settings.folder, signer.verifier)
        _compare(settings.folder, left, [last, *_anchored(settings.anchor, signer.verifier)])
        log = cls(settings, signer, left.grown(left.size), left.path, lock)
        log._entries.cut(left.length)
        log._salts.cut(len(left.leaves) * SALT_BYTES)
        log._checkpoints.cut(whole)
        log.signed = last.size
        if left.torn or left.last != "stopped":
            told: dict[str, Json] = {"cut_bytes": len(left.torn), "unsigned": left.size - last.size}
            told["cut_sha256"] = hashlib.sha256(left.torn).hexdigest()
            log.append([event("recovered", at_ms, told)])
        log.checkpoint()
        return log

    @property
    def size(self) -> int:
        """Return how many entries there are."""
        return self._tree.size

    @property
    def file_full(self) -> bool:
        """Say whether the newest file is."""
        return self._entries.size >= self._settings.segment_bytes

    @property
    def origin(self) -> str:
        """Return the log's name."""
        return self._signer.verifier.name

    # --- writing ----------------------------------------------------------------------------------------------------

    def append(self, writers: Sequence[Writer]) -> None:
        """Write entries; raise OSError when that cannot be done, and then none of them is written."""
        salts = os.urandom(SALT_BYTES * len(writers))
        tree, data = Frontier(self._tree.size, self._tree.peaks), []
        for number, write in enumerate(writers):
            salt = salts[number * SALT_BYTES : (number + 1) * SALT_BYTES]
            entry = _entry(write, salt, tree.size)
            tree.add(leaf_hash(entry))
            data.append(entry + b"\n")
        before = self._salts.size
        self._salts.add(salts)
        try:
            self._entries.add(b"".join(data))
        except OSError:
            self._salts.cut(before)
            raise
        self._tree = tree

    def sync(self) -> None:
        """Return when the entries survive a power cut."""
        self._entries.sync()

    def checkpoint(self) -> None:
        """Sign what there is, and write that down once all of it is on disk. Salts are left to the system: one that a
        power cut takes counts as deleted."""
        tree = self._tree
        self._entries.sync()
        note = self._signer.sign(Checkpoint(origin=self.origin, size=tree.size, root=tree.root()).text)
        self._checkpoints.add(note.encode())
        self._checkpoints.sync()
        self.signed, self.note = tree.size, note

    def anchor(self) -> bool:
        """Write the newest checkpoint to the second place as well, where it is not there yet, and say whether that was
        done; raise OSError when it cannot be."""
        if self._settings.anchor is None or self._anchored == self.note:
            return False
        file = Appended(self._settings.anchor)
        try:
            file.add(self.note.encode())
            file.sync()
        finally:
            file.close()
        self._anchored = self.note
        return True

    def roll(self, at_ms: int) -> None:
        """Go on in another file where this one is full; raise OSError when that cannot be done, and then it is not."""
        if not self.file_full:
            return
        self.sync()
        full = self._entries, self._salts
        self._take(files.segment(self._settings.folder, self.size))
        try:
            self.append([self._opening(at_ms)])
        except OSError:
            full, (self._entries, self._salts) = (self._entries, self._salts), full
            raise
        finally:
            for file in full:
                file.close()
        self.checkpoint()

    def close(self) -> None:
        """Close the files; what is written stays."""
        for file in (self._entries, self._salts, self._checkpoints):
            file.close()
        os.close(self._lock)

    def _take(self, path: Path) -> None:
        self._entries, self._salts = Appended(path, AHEAD_BYTES), Appended(files.salts_of(path))

    def _opening(self, at_ms: int, **more: Json) -> Writer:
        peaks: Json = [encoded(peak) for peak in self._tree.peaks]
        return event("opened", at_ms, {"log": self.origin, "peaks": peaks, **more})


def _entry(write: Writer, salt: bytes, seq: int) -> bytes:
    """Return an entry's bytes; what cannot be written, as a text of half characters, is on record as lost."""
    try:
        return canonical({**write(salt), "seq": seq})
    except (ValueError, TypeError) as error:
        return canonical({"kind": "lost", "count": 1, "why": type(error).__name__, "seq": seq})


# --- what was left --------------------------------------------------------------------------------------------------


def _locked(folder: Path) -> int:
    """Take the log for this process; two that write would write two histories."""
    lock = os.open(folder / files.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            [f"{folder}: another Handrail writes this audit log; give each its own `audit.path`"]
        ) from None
    return lock


def _left(folder: Path) -> _Left | None:
    """Read the newest file of entries; one that has no whole entry was never begun."""
    for path in reversed(files.segments(folder)):
        data = path.read_bytes()
        length = data.rfind(b"\n") + 1
        if length:
            return _read(path, data[:length], files.unlaid(data[length:]))
        path.unlink()
        files.salts_of(path).unlink(missing_ok=True)
    return None


def _read(path: Path, data: bytes, torn: bytes) -> _Left:
    entries = data[:-1].split(b"\n")
    try:
        opened, last = parsed(entries[0]), parsed(entries[-1])
        left = _Left(
            path=path,
            origin=str(opened["log"]),
            peaks=tuple(map(decoded, msgspec.convert(opened["peaks"], list[str]))),
            leaves=tuple(map(leaf_hash, entries)),
            length=len(data),
            torn=torn,
            last=str(last["kind"]),
        )
        left.grown(left.size)
        if last["seq"] != left.size - 1:
            raise ValueError(f"it ends with entry {last['seq']}, and should with {left.size - 1}")
    except (ValueError, LookupError) as error:
        raise ConfigError([f"{path}: is not as it was written: {error}"]) from None
    return left


def _last_signed(folder: Path, key: Verifier) -> tuple[Checkpoint, int]:
    """Return the newest checkpoint, and how many bytes of the file are whole; the last may be torn."""
    path, whole, last = folder / files.CHECKPOINTS, 0, None
    for note in notes(files.text(path)):
        try:
            last = signed(note, key)
            whole += len(note.encode())
        except BadNote as error:
            why = error
            break
    else:
        why = BadNote("there is none")
    if last is None:
        raise ConfigError([f"{path}: no checkpoint of this log was signed with the key of `audit.key_file`: {why}"])
    return last, whole


def _anchored(anchor: Path | None, key: Verifier) -> list[Checkpoint]:
    """Return the newest anchored checkpoint of this log, if there is one."""
    found: list[Checkpoint] = []
    for note in notes(files.text(anchor)) if anchor else ():
        if note.startswith(f"{key.name}\n"):
            try:
                found = [signed(note, key)]
            except BadNote:
                continue
    return found


def _compare(folder: Path, left: _Left, checkpoints: Sequence[Checkpoint]) -> None:
    """Raise ConfigError where the newest file is not the one that was signed: nothing may be written after that."""
    for known in checkpoints:
        if known.size > left.size:
            why = f"it has {left.size} entries, and {known.size} were signed"
        elif known.size >= left.first and left.grown(known.size).root() != known.root:
            why = f"its first {known.size} entries are not those that were signed"
        else:
            continue
        raise ConfigError(
            [f"{folder}: the audit log was changed: {why}; `handrail audit verify` says more. Move it away to go on"]
        )
