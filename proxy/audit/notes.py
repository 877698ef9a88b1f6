"""Owns signed checkpoints: what a log said of itself at some size, as anybody's tools read it.

In: bytes of keys, sizes, roots, texts. Out: signed notes (c2sp.org/signed-note) whose text is a checkpoint
(c2sp.org/tlog-checkpoint). Never: a text whose signature was not checked, or the making of a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Iterator, Sequence

import msgspec

from proxy.audit.ed25519 import key_pair, verified
from proxy.audit.merkle import HASH_BYTES

ED25519 = b"\x01"
"""The type of signature, as key ids and public keys begin with it."""
DASH = "— "
LONGEST = 64 * 1024
"""Characters that a note may have."""
ID_BYTES = 4


class BadNote(ValueError):
    """A note, a key or a checkpoint that is not what it should be; says why."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A log's root at one size."""

    origin: str
    """Which log it is."""
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{encoded(self.root)}\n"


class Verifier(msgspec.Struct, frozen=True, kw_only=True):
    """A public key and its name."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the key's id."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:ID_BYTES]

    @property
    def line(self) -> str:
        """Return the key as one line: name, id and key."""
        return f"{self.name}+{self.id.hex()}+{encoded(ED25519 + self.public)}"

    def open(self, note: str) -> str:
        """Return a note's text; raise BadNote unless this key has signed it."""
        text, lines = _parted(note)
        signatures = [signature for name, key_id, signature in map(_signature, lines) if (name, key_id) == self._key]
        if not signatures:
            raise BadNote(f"no signature of {self.name}+{self.id.hex()}")
        if not all(verified(self.public, signature, text.encode()) for signature in signatures):
            raise BadNote(f"the signature of {self.name} does not fit the text")
        return text

    @property
    def _key(self) -> tuple[str, bytes]:
        return self.name, self.id


class Signer:
    """A private key and its name; `seed` is 32 bytes that nobody else knows."""

    def __init__(self, name: str, seed: bytes) -> None:
        public, self._signed = key_pair(seed)
        self.verifier = Verifier(name=checked_name(name), public=public)

    def sign(self, text: str) -> str:
        """Return the note: the text, and under it the signature."""
        signature = encoded(self.verifier.id + self._signed(text.encode()))
        return f"{text}\n{DASH}{self.verifier.name} {signature}\n"


def checked_name(name: str) -> str:
    """Return a key's name, raise BadNote for what cannot be one."""
    if not name or "+" in name or any(letter.isspace() or not letter.isprintable() for letter in name):
        raise BadNote(f"`{name}` cannot be a key's name: it has spaces or a plus, or is empty")
    return name


def verifier(line: str) -> Verifier:
    """Read a public key; raise BadNote for what is none."""
    name, _, rest = line.strip().partition("+")
    key_id, _, key = rest.partition("+")
    raw = decoded(key)
    if raw[:1] != ED25519 or len(raw) != 1 + HASH_BYTES:
        raise BadNote("this is no Ed25519 key in the form name+id+key")
    found = Verifier(name=checked_name(name), public=raw[1:])
    if found.id.hex() != key_id:
        raise BadNote(f"the key's id is {found.id.hex()}, not {key_id}")
    return found


def checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint; raise BadNote for what is none."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise BadNote("a checkpoint has three lines: origin, size and root")
    origin, size, root = lines[:3]
    if not (size.isascii() and size.isdecimal() and str(int(size[:20])) == size):
        raise BadNote(f"`{size[:32]}` is no size of a tree")
    raw = decoded(root)
    if len(raw) != HASH_BYTES:
        raise BadNote("the root is no SHA-256 hash")
    return Checkpoint(origin=origin, size=int(size), root=raw)


def notes(text: str) -> Iterator[str]:
    """Yield the notes of a file to which one was appended after the other."""
    note: list[str] = []
    for line in io.StringIO(text):
        if note and note[-1].startswith(DASH) and not line.startswith(DASH):
            yield "".join(note)
            note = []
        note.append(line)
    if note:
        yield "".join(note)


def encoded(raw: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(raw).decode()


def decoded(text: str) -> bytes:
    """Return the bytes of a base64 text; raise BadNote unless it is the one way to write them."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadNote("this is no base64") from None
    if encoded(raw) != text:
        raise BadNote("this base64 could be written in another way")
    return raw


def _parted(note: str) -> tuple[str, Sequence[str]]:
    """Return text and signature lines of a note."""
    if len(note) > LONGEST or any(letter < " " and letter != "\n" for letter in note):
        raise BadNote("this is no note: it is too long or has control characters")
    text, blank, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if not blank or not text or len(lines) < 2 or lines[-1]:
        raise BadNote("this is no signed note: a text, an empty line and signatures")
    return text + "\n", lines[:-1]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, signature = line.removeprefix(DASH).partition(" ")
    if not line.startswith(DASH):
        raise BadNote("a line under the text is no signature")
    raw = decoded(signature)
    return name, raw[:ID_BYTES], raw[ID_BYTES:]
