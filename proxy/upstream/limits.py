"""Owns what the upstream door allows a provider, and the codes by which it says that it was not kept to."""

from __future__ import annotations

import errno
from typing import Final

import msgspec

from proxy.errors import UpstreamError


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for a provider and how much to take from it."""

    connect_ms: int = 5_000
    """Name, socket and TLS together."""
    first_byte_ms: int = 60_000
    """From the request written to the head of the reply read whole."""
    idle_ms: int = 60_000
    """Between two reads of the body; any byte counts, so SSE comments do too."""
    total_ms: int = 0
    """The whole call; 0 means no limit."""
    keepalive_ms: int = 15_000
    """How long an idle connection is kept for the next call."""
    max_reply_bytes: int = 32 * 1024 * 1024
    """The largest body that is not an event stream; a stream is passed on as it comes and is not kept."""
    ca_file: str = ""
    """PEM file of the authorities to trust instead of the system's."""


FAULTS: Final[dict[str, tuple[int, str]]] = {
    "dns_failed": (502, "The provider's host name could not be resolved."),
    "connect_failed": (502, "The provider could not be reached."),
    "connect_timeout": (502, "The provider did not accept a connection in time."),
    "tls_failed": (502, "The provider's TLS certificate or handshake was not acceptable."),
    "bad_header": (502, "A header for the provider holds characters that may not be sent."),
    "connection_lost": (502, "The provider closed the connection before it answered."),
    "protocol_error": (502, "The provider's answer is not valid HTTP."),
    "compressed": (502, "The provider compressed its answer although it was asked not to."),
    "first_byte_timeout": (504, "The provider did not begin to answer in time."),
    "idle_timeout": (504, "The provider stopped in the middle of its answer."),
    "total_timeout": (504, "The provider's answer took longer than allowed."),
    "stream_cut": (502, "The provider's answer was cut off."),
    "too_large": (502, "The provider's answer is larger than allowed."),
}
"""Every code of this door with its HTTP status and what anybody may be told."""


def fault(code: str, *, detail: str = "", retryable: bool = True) -> UpstreamError:
    """Make the error for one of our codes; `detail` is a name from the system, never anything that was sent.

    Another attempt makes sense as long as no whole head of a reply has arrived: nothing was passed on by then.
    """
    status, message = FAULTS[code]
    return UpstreamError(f"{message} ({detail})" if detail else message, status=status, code=code, retryable=retryable)


def errno_name(exc: BaseException | None) -> str:
    """Return the symbolic name of an OS error, empty when there is none."""
    return errno.errorcode.get(exc.errno or 0, "") if isinstance(exc, OSError) else ""
