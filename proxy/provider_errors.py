"""Owns what is said of a call that its provider did not answer as it should.

In: the status, headers and body of a failure, lenient. Out: the Fault that the client is told, with what it may know.
Never: Handrail's own credential, or a failure of that credential told as the client's.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from proxy import openai_json
from proxy.errors import NO_RETRY
from proxy.openai_json import Tree
from proxy.terms import Fault, Headers, Secret

RETRYABLE = frozenset({408, 409, 425, 429})
OUR_KEY = frozenset({401, 403})
LONGEST_CODE = 64
"""Most characters of a provider's error code that are taken over: it is kept in records."""
PASSED_HEADERS = ("retry-after", "retry-after-ms", "x-request-id")
PASSED_PREFIX = "x-ratelimit-"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's error body says."""

    message: str = ""
    type: str = ""
    code: str = ""
    body: bytes = b""
    """The body itself, where it is an OpenAI error object and can be passed on."""


def refused(
    status: int, headers: Headers, body: bytes, key: Secret | None = None, *, read: Callable[[bytes, Tree], Said]
) -> Fault:
    """Return the fault for a reply whose status is no 2xx; `read` finds in the body and its tree what they say."""
    passed = {
        name: value for name, value in headers.items() if name in PASSED_HEADERS or name.startswith(PASSED_PREFIX)
    }
    if status in OUR_KEY:
        return Fault(
            status=502,
            type="upstream_error",
            code="provider_auth",
            message=f"The provider did not accept Handrail's credential for it ({status}).",
            headers={**passed, **NO_RETRY},
        )
    # Some servers repeat what was sent to them, the key as well.
    data = b"" if key is not None and key.reveal().encode() in body else body
    said = read(data, openai_json.parse(data) or {})
    theirs = 400 <= status < 500
    return Fault(
        status=status if theirs or status == 504 else 502,
        type=said.type or ("invalid_request_error" if theirs else "upstream_error"),
        code=said.code[:LONGEST_CODE] or "upstream_error",
        message=said.message or f"The provider answered with status {status}.",
        retryable=status in RETRYABLE or status >= 500,
        headers=passed,
        body=said.body,
    )


def openai_error(body: bytes, tree: Tree) -> Said:
    """Read an OpenAI error object; some vendors leave the `error` around it out."""
    error = tree.get("error")
    said: Tree = error if type(error) is dict else {"message": error} if error else tree
    return Said(
        message=openai_json.text(said.get("message")),
        type=openai_json.text(said.get("type")),
        code=openai_json.text(said.get("code")),
        body=body if said is error else b"",
    )


def broken(code: str, message: str, *, body: bytes = b"", frame: bytes = b"") -> Fault:
    """Return the fault for a reply that began well, and then did not go on as its protocol says."""
    return Fault(status=502, type="upstream_error", code=code, message=message, retryable=True, body=body, frame=frame)
