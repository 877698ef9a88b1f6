"""Owns the taxonomy of what can go wrong with one call, and what the caller is told.

In: nothing. Out: exceptions whose message is safe to show. Never: foreign exceptions, bodies or secrets in messages.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.terms import Decision

NO_RETRY: Mapping[str, str] = {"x-should-retry": "false"}
"""Tells OpenAI SDKs that asking again is useless, where the status alone would have them ask again."""


class HandrailError(Exception):
    """A failure with its HTTP status, OpenAI error type and code; `str()` of it may be shown to anybody."""

    status = 500
    type = "api_error"
    code = "internal_error"

    def __init__(
        self, message: str, *, code: str = "", param: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.headers = dict(headers or {})


class BadRequest(HandrailError):
    """The caller sent something that cannot be understood or may not be sent."""

    status, type, code = 400, "invalid_request_error", "bad_request"


class Unauthenticated(HandrailError):
    """The caller's key is missing or wrong."""

    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(HandrailError):
    """The caller is known, and what it may do does not reach this far."""

    status, type, code = 403, "permission_error", "not_allowed"


class Denied(HandrailError):
    """Policy denied the call under `onDeny: error`; carries the decision."""

    status, type, code = 403, "policy_violation", "denied"

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message or "This request is not allowed.", code=decision.rule or "policy_error")
        self.decision = decision


class NotFound(HandrailError):
    """There is no such route or model."""

    status, type, code = 404, "invalid_request_error", "not_found"


class Conflict(HandrailError):
    """A call was made before, and cannot be made again now."""

    status, type, code = 409, "conflict_error", "conflict"


class KeyReused(HandrailError):
    """An Idempotency-Key came with another request than before."""

    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"


class TooLarge(HandrailError):
    """The request is larger than the configured limit."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class BudgetExceeded(HandrailError):
    """A spend limit has no room for this call; SDKs are told not to retry."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"

    def __init__(self, message: str, *, rule: str = "") -> None:
        super().__init__(message, headers=NO_RETRY)
        self.rule = rule


class Overloaded(HandrailError):
    """Handrail itself has no capacity now, or may not go on because it cannot record."""

    status, type, code = 503, "server_error", "overloaded"


class NoRoute(HandrailError):
    """No target may take the call as things are configured; SDKs are told not to retry."""

    status, type, code = 503, "server_error", "no_route"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message, code=code, headers=NO_RETRY)


class UpstreamError(HandrailError):
    """The provider failed or could not be reached: 502, 504, or its own status where the caller is at fault."""

    status, type, code = 502, "upstream_error", "upstream_error"

    def __init__(self, message: str, *, status: int = 502, code: str = "", retryable: bool = True) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retryable = retryable


class ConfigError(Exception):
    """Everything that is wrong with the configuration, all at once; raised at start-up and reload only."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def code_of(failure: Exception) -> str:
    """Name a failure: by its code, or where it is not ours by its type."""
    return failure.code if isinstance(failure, HandrailError) else type(failure).__name__
