"""Owns canaries: secrets that nobody else has, and how they are looked for in whatever leaves a process.

In: chance, the bytes of a sink. Out: which secrets are in it, also written in Base64. Never: where they were put.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping

SECRETS = (
    "provider key", "client key", "client's wrong key", "admin token", "webhook secret", "Redis password",
    "PostgreSQL password",
)  # fmt: skip
CONTENT = ("prompt", "query", "header value", "upstream error body", "upstream header", "broken reply")


def planted(dice: random.Random) -> dict[str, str]:
    """Return a secret for each place, none of which is a part of another."""
    return {place: f"canary{number:02}{dice.randbytes(20).hex()}" for number, place in enumerate(SECRETS + CONTENT)}


def spellings(secret: str) -> list[bytes]:
    """Return what a secret looks like as it is, and in Base64 wherever it begins there."""
    data = secret.encode()
    shifted = (base64.b64encode(b"\0" * before + data + b"\0" * (-(before + len(data)) % 3)) for before in range(3))
    return [data, data.hex().encode(), *(text[4:-4] for text in shifted)]


def hits(sinks: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[str]:
    """Return which secret is in which sink."""
    return [
        f"{place} in {name}"
        for name, data in sinks.items()
        for place, secret in secrets.items()
        if any(spelling in data for spelling in spellings(secret))
    ]
