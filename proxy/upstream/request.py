"""Owns the bytes of a request's head: what is sent, and that no value can become a second header."""

from __future__ import annotations

from typing import Final, cast

import yarl

from proxy.terms import UpstreamCall
from proxy.upstream.limits import fault

_OURS: Final = frozenset(
    {"host", "accept-encoding", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade"}
    | {"expect", "keep-alive", "proxy-connection", "proxy-authorization", "cookie"}
)
"""Request headers that belong to the connection, so that a caller can never set them."""


class Target:
    """One method and URL, taken apart once: where to connect, and how every request to it begins."""

    __slots__ = ("host", "key", "port", "start", "tls")

    def __init__(self, method: str, url: str) -> None:
        parts = yarl.URL(url)
        if parts.scheme not in ("http", "https") or not parts.raw_host or parts.raw_user or parts.raw_password:
            raise ValueError("a provider's URL must be http:// or https:// with a host and without credentials")
        self.host = parts.raw_host.rstrip(".")
        self.port = cast(int, parts.port)
        self.tls = parts.scheme == "https"
        self.key = (self.host, self.port, self.tls)
        start = f"{method} {parts.raw_path_qs} HTTP/1.1\r\nhost: {parts.host_port_subcomponent}\r\n"
        self.start = f"{start}accept-encoding: identity\r\ncontent-length: ".encode("ascii")

    def head(self, call: UpstreamCall) -> bytes:
        """Return the request head; raise UpstreamError when a header would not stay one header."""
        lines = [f"{name}: {value}\r\n" for name, value in call.headers.items() if name not in _OURS]
        if call.auth is not None:
            lines.append(f"{call.auth_header}: {call.auth.reveal()}\r\n")
        text = "".join(lines)
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text or not text.isascii():
            raise fault("bad_header", retryable=False)
        return b"%b%d\r\n%b\r\n" % (self.start, len(call.body), text.encode("ascii"))
