"""Owns what a caller may ask the simulated model to do out of the ordinary.

In: the metadata of a request. Out: Directives, or ValueError. Never: anything that a real provider would take amiss.
"""

from __future__ import annotations

import msgspec

from proxy.simulated.filling import Tree, tree

KEY = "simulate"


class ToolDirective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool call to make: arguments as an object, or as a string that is sent as it stands, valid JSON or not."""

    name: str
    arguments: dict[str, object] | str = {}


class Directives(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one call is to go. Counts are in events of a stream, in bytes of an unstreamed body."""

    text: str | None = None
    """Say this."""
    tools: tuple[ToolDirective, ...] = ()
    """Call these."""
    finish: str = ""
    """End with this finish reason."""
    reasoning_tokens: int = 0
    """Claim to have thought this much."""
    usage: dict[str, object] | None = None
    """Report this usage, true or not."""
    no_usage: bool = False
    """Report no usage at all."""
    delay_ms: int = 0
    """Wait before the head."""
    gap_ms: int = 0
    """Wait between events."""
    error: int = 0
    """Fail with this HTTP status."""
    error_body: str | None = None
    """Fail with this body instead of an error object."""
    headers: dict[str, str] = {}
    """Add these headers to the reply, e.g. `retry-after`."""
    error_after: int | None = None
    """Send an error event after so many events, and end."""
    cut_after: int | None = None
    """Reset the connection after so many events or bytes."""
    stall_after: int | None = None
    """Say nothing more after so many events or bytes."""
    no_done: bool = False
    """End a stream without `[DONE]`."""


def asked(body: Tree) -> Directives | None:
    """Return the directives in `metadata.simulate`, a JSON text; raise ValueError if they cannot be followed."""
    text = tree(body.get("metadata")).get(KEY)
    return msgspec.json.decode(str(text), type=Directives) if text else None
