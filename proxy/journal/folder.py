"""Owns the names and the reading of an audit log's files, for whoever writes them and whoever checks them.

entries-000000000000.jsonl   one entry a line, named for the first; the next file goes on where one is full. While it is
                             written, zeros are laid out behind the last
salts-000000000000.bin       the salt of each of its entries; zeros where it was deleted
checkpoints                  signed notes, one after the other, and zeros laid out behind them as well
key.pub                      the key they are signed with, as a line
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from proxy.audit import SALT_BYTES, BadNote, Verifier, parsed, verifier
from proxy.errors import ConfigError

CHECKPOINTS = "checkpoints"
PUBLIC_KEY = "key.pub"
LOCK = "lock"
ERASED = bytes(SALT_BYTES)


def segments(folder: Path) -> list[Path]:
    """Return the files of entries, oldest first."""
    return sorted(folder.glob("entries-*.jsonl"))


def segment(folder: Path, first: int) -> Path:
    """Return the file of entries that begins with this one."""
    return folder / f"entries-{first:012d}.jsonl"


def first_of(path: Path) -> int:
    """Return the number of a file's first entry; raise ConfigError for a name that we never gave."""
    number = path.stem.partition("-")[2]
    if not (number.isascii() and number.isdecimal()):
        raise ConfigError([f"{path}: is no file of an audit log"])
    return int(number)


def salts_of(path: Path) -> Path:
    """Return the file with the salts of a file of entries."""
    return path.with_name(f"salts-{path.stem.partition('-')[2]}.bin")


def lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every entry's line, and where it stands."""
    for path in segments(folder):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if entry := unlaid(line):
                    yield f"{path.name}:{number}", entry


def unlaid(line: bytes) -> bytes:
    """Return what stands at the end of a file of entries, without the zeros that are laid out behind it: no entry has
    any."""
    return line if line.endswith(b"\n") else line.rstrip(b"\0")


def text(path: Path) -> str:
    """Return what a file of notes says; nothing if there is none. What is not UTF-8 is no note either, and zeros behind
    the last are laid out."""
    try:
        return path.read_bytes().rstrip(b"\0").decode(errors="replace")
    except FileNotFoundError:
        return ""


def key_of(folder: Path) -> Verifier:
    """Return the public key that lies beside a log; raise ConfigError when there is none."""
    path = folder / PUBLIC_KEY
    try:
        return verifier(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            [f"{folder}: there is no audit log; `handrail serve` writes one with `audit: {{}}`"]
        ) from None
    except (OSError, BadNote, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: is no public key: {error}"]) from None


def salt_of(folder: Path, index: int) -> bytes:
    """Return the salt of an entry, `ERASED` where there is none any more."""
    path, place = _place(folder, index)
    with path.open("rb") as file:
        file.seek(place)
        return file.read(SALT_BYTES).ljust(SALT_BYTES, b"\0")


def about(folder: Path, names: Collection[str]) -> list[int]:
    """Return the entries about calls, or what humans ruled on, of these ids."""
    return [index for index, (_, line) in enumerate(lines(folder)) if _id(line) in names]


def erase(folder: Path, entries: Iterable[int]) -> int:
    """Delete the salts of entries: nobody can show any more what content they were about. The log stays as it is.
    Return how many there were."""
    found = 0
    for path, place in (_place(folder, index) for index in entries):
        with path.open("rb+") as file:
            file.seek(place)
            found += file.read(SALT_BYTES) != ERASED
            file.seek(place)
            file.write(ERASED)
    return found


def _id(line: bytes) -> str:
    """Return what an entry is about; nothing of one that was spoilt."""
    try:
        return str(parsed(line).get("id", ""))
    except ValueError:
        return ""


def _place(folder: Path, index: int) -> tuple[Path, int]:
    path = [one for one in segments(folder) if first_of(one) <= index][-1]
    return salts_of(path), (index - first_of(path)) * SALT_BYTES
