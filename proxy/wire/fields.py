"""Owns what all dialects say of fields that cannot be taken as they are.

In: a decoder's complaint, an object's keys. Out: a BadRequest that names the field. Never: a guess at what was meant.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from proxy.errors import BadRequest

_FAULT = re.compile(r"(.*) - at `\$\.?(.*)`")


def bad_field(error: msgspec.ValidationError) -> BadRequest:
    """Return the error for a field that has not the type it must have, or is missing."""
    found = _FAULT.fullmatch(str(error))
    what, where = found.groups() if found else (str(error), "")
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        where = f"{where}.{missing[1]}" if where else missing[1]
    return BadRequest(f"{where}: {what[0].lower()}{what[1:]}.", code="invalid_value", param=where)


def check_keys(fields: dict[str, Any], known: frozenset[str]) -> None:
    """Refuse keys that differ from one that is read only in case: providers written in Go read both as the same."""
    if fields.keys() <= known:
        return
    for key in fields.keys() - known:
        if key.casefold() in known:
            message = f"The key {key!r} must be written {key.casefold()!r}: parsers differ in what they make of it."
            raise BadRequest(message, code="ambiguous_key", param=key)
