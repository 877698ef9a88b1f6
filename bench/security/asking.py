"""Owns the client of the security rows: a request sent as it is written, a header twice included, and its reply."""

from __future__ import annotations

import http.client
from typing import NamedTuple, TypeAlias

from bench.chaos.serving import WAIT_S

Headers: TypeAlias = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """What came back."""

    status: int
    head: str
    body: bytes
    decision: str
    """The id of the record, empty if the reply names none."""


def ask(address: str, method: str, path: str, headers: Headers = (), body: bytes | None = None) -> Reply:
    """Send a request to `host:port`; a body is sent as JSON."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=WAIT_S)
    try:
        connection.putrequest(method, path)
        framing = () if body is None else (("content-type", "application/json"), ("content-length", str(len(body))))
        for name, value in (*framing, *headers):
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        decision = reply.headers.get("x-handrail-decision", "").partition("-")[0]
        return Reply(reply.status, str(reply.headers), reply.read(), decision)
    finally:
        connection.close()
