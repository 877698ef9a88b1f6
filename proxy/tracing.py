"""Owns the identifiers of a trace: read from a client's `traceparent`, or derived so that a conversation is one trace.

In: header values and ids. Out: lower-case hexadecimal ids. Never: a span, a sampling decision of its own, content.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


def parse_traceparent(value: str) -> tuple[str, str, bool] | None:
    """Return trace id, parent span id and the sampled flag of a W3C `traceparent` header, or None when it is not one.

    Source: W3C Trace Context §3.2: version ff and all-zero ids are invalid; only versions above 00 may be longer.
    """
    found = _TRACEPARENT.fullmatch(value.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return trace_id, span_id, bool(int(flags, 16) & 1)


def trace_id_for(session_id: str) -> str:
    """Return the trace id of a conversation whose client sent none: the same for every call and every process."""
    return _digest("trace", session_id, 16)


def span_id_for(exchange_id: str) -> str:
    """Return the id of an exchange's root span."""
    return _digest("span", exchange_id, 8)


def _digest(kind: str, name: str, size: int) -> str:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=size, person=kind.encode()).hexdigest()
    return digest if digest.strip("0") else digest[:-1] + "1"  # all zeros means "no id" in W3C Trace Context
