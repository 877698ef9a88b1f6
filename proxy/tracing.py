"""Owns the identifiers of a trace: read from a client's `traceparent`, or derived from the exchange's own id.

In: header values and ids. Out: lower-case hexadecimal ids. Never: a span, a random number, content.
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


def context(traceparent: str, exchange_id: str) -> tuple[str, str, str]:
    """Return trace id, root span id and parent span id of an exchange; without a valid header it begins a trace."""
    found = parse_traceparent(traceparent)
    trace_id, parent_span_id = (found[0], found[1]) if found else (trace_id_for(exchange_id), "")
    return trace_id, span_id_for(exchange_id), parent_span_id


def trace_id_for(name: str) -> str:
    """Return the trace id that belongs to an exchange's or a conversation's id, the same in every process."""
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"trace").hexdigest()


def span_id_for(name: str) -> str:
    """Return the span id that belongs to an exchange's id, or to one part of it."""
    return hashlib.blake2b(name.encode(), digest_size=8, person=b"span").hexdigest()
