"""Owns virtual keys: their form, the file that knows their hashes, and which of them opens.

In: random bytes, a key file's text, what a request brings, the time. Out: keys, or Unauthenticated. Never: a key kept
in the clear, or anything that its holder could widen it with.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import zlib
from collections.abc import Iterable
from typing import Annotated

import msgspec
import yaml

from proxy.errors import ConfigError, Unauthenticated
from proxy.identity.grants import Grant

PREFIX = "hr_"
RANDOM_BYTES = 16
_SHAPE = re.compile(r"hr_([0-9a-f]{32})([0-9a-f]{8})")


class Key(Grant, frozen=True, kw_only=True):
    """One key that may call, known by its hash alone."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    expires: str = ""
    """ISO 8601 date or time; without a zone it is UTC. Empty: it does not expire."""


def valid(text: str, keys: Iterable[Key], at_ms: int) -> Key:
    """Return the key that a text is; raise Unauthenticated if it is none, or none that is valid now."""
    if not _is_key(text):
        raise Unauthenticated("Send a Handrail key: Authorization: Bearer hr_… (not the provider's key).")
    key = _match(text, keys)
    if not key or (key.expires and expires_ms(key.expires) <= at_ms):
        raise Unauthenticated("The key is not valid. Ask whoever runs Handrail for one; `handrail keys` makes it.")
    return key


def _match(text: str, keys: Iterable[Key]) -> Key | None:
    # Every key is compared, and whole, so the time taken says nothing of which one was nearly right.
    digest, found = digest_of(text), None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def digest_of(text: str) -> str:
    """Return the hash under which a key is kept. A fast hash is enough for 128 random bits."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_key(random_bytes: bytes) -> tuple[str, str]:
    """Return a key and its hash, made of 16 random bytes and a checksum by which scanners and typists know it."""
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"a key is made of {RANDOM_BYTES} random bytes")
    secret = random_bytes.hex()
    text = f"{PREFIX}{secret}{_checksum(secret)}"
    return text, digest_of(text)


def _is_key(text: str) -> bool:
    shape = _SHAPE.fullmatch(text)
    return shape is not None and shape[2] == _checksum(shape[1])


def _checksum(secret: str) -> str:
    return f"{zlib.crc32(secret.encode()):08x}"


def expires_ms(expires: str) -> int:
    """Return milliseconds since the epoch of an ISO 8601 date or time; raise ValueError if it is none."""
    try:
        at = datetime.datetime.fromisoformat(expires)
    except ValueError:
        raise ValueError("expires is no ISO 8601 date or time, such as 2027-01-31") from None
    return int((at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def _key(row: object) -> Key:
    key = msgspec.convert(row, Key)
    if key.expires:
        expires_ms(key.expires)
    return key


def load_keys(text: str, path: str) -> tuple[Key, ...]:
    """Return the keys of a key file, a YAML or JSON list of `{name, sha256, expires}`; raise ConfigError with all that
    is wrong with it."""
    try:
        # Every scalar stays a string: a hash of digits alone is no number, and a date is ours to read.
        rows = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader makes lists, maps and strings only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise ConfigError([f"{where}: this is not YAML"]) from None
    if not isinstance(rows, list) or not rows:
        raise ConfigError([f"{path}: a key file is a list of {{name, sha256, expires, …}}, with one key at least"])
    keys, problems = [], []
    for number, row in enumerate(rows):
        try:
            keys.append(_key(row))
        except ValueError as error:
            problems.append(f"{path}: key {number}: {error}")
    names = [key.name for key in keys]
    problems += [f"{path}: the name {name} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise ConfigError(problems)
    return tuple(keys)
