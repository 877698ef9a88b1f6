"""Owns who is calling: keys, and what they prove.

In: a request, the configured agent with its hashed keys, the time. Out: a Caller, or Unauthenticated. Never: a header
that a client may set at will, such as `x-agent-id`, taken for identity; a key kept in the clear.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import zlib
from typing import Annotated

import msgspec
import yaml

from proxy.errors import ConfigError, Unauthenticated
from proxy.terms import Caller, Level, RawRequest

LOCAL = "local"
"""The principal of every caller where no keys are configured: whoever reaches the loopback address."""

PREFIX = "hr_"
RANDOM_BYTES = 16
_SHAPE = re.compile(r"hr_([0-9a-f]{32})([0-9a-f]{8})")


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key that may call, known by its hash alone."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    expires: str = ""
    """ISO 8601 date or time; without a zone it is UTC. Empty: it does not expire."""
    claims: dict[str, str] = {}
    """What rules may know of its holder, such as `tier` and `roles`."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The agent behind a listener, and the keys that open it; without keys everybody who reaches it is the agent."""

    agent: str
    level: Level
    tenant: str = ""
    keys: tuple[Key, ...] = ()


def identify(raw: RawRequest, access: Access, at_ms: int) -> Caller:
    """Return who is calling; raise Unauthenticated if there are keys and the request has none that is valid now."""
    if not access.keys:
        return Caller(agent=access.agent, level=access.level, principal=LOCAL, tenant=access.tenant)
    key = _match(_bearer(raw), access.keys)
    if not key or (key.expires and expires_ms(key.expires) <= at_ms):
        raise Unauthenticated("The key is not valid. Ask whoever runs Handrail for one; `handrail keys` makes it.")
    return Caller(
        agent=access.agent,
        level=access.level,
        principal=f"key:{key.name}",
        tenant=access.tenant,
        claims=key.claims,
    )


def _bearer(raw: RawRequest) -> str:
    scheme, _, text = raw.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _is_key(text.strip()):
        raise Unauthenticated("Send a Handrail key: Authorization: Bearer hr_… (not the provider's key).")
    return text.strip()


def _match(text: str, keys: tuple[Key, ...]) -> Key | None:
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
        raise ConfigError([f"{path}: a key file is a list of {{name, sha256, expires}}, with one key at least"])
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
