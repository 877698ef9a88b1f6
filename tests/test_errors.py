"""Owns the proof of the taxonomy's one table: which status, type and code each failure has."""

import pytest

from proxy import errors
from proxy.errors import BudgetExceeded, ConfigError, Denied, HandrailError, UpstreamError
from proxy.terms import Decision, Phase, Verdict

TABLE = {
    "HandrailError": (500, "api_error", "internal_error"),
    "BadRequest": (400, "invalid_request_error", "bad_request"),
    "Unauthenticated": (401, "authentication_error", "invalid_api_key"),
    "Forbidden": (403, "permission_error", "not_allowed"),
    "Denied": (403, "policy_violation", "denied"),
    "NotFound": (404, "invalid_request_error", "not_found"),
    "Conflict": (409, "conflict_error", "conflict"),
    "KeyReused": (422, "invalid_request_error", "idempotency_key_reused"),
    "TooLarge": (413, "invalid_request_error", "request_too_large"),
    "BudgetExceeded": (429, "insufficient_quota", "insufficient_quota"),
    "Overloaded": (503, "server_error", "overloaded"),
    "NoRoute": (503, "server_error", "no_route"),
    "UpstreamError": (502, "upstream_error", "upstream_error"),
}


def test_the_table_is_complete() -> None:
    """A client can rely on status, type and code of every failure; a new one is added here."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HandrailError)]

    assert TABLE == {kind.__name__: (kind.status, kind.type, kind.code) for kind in kinds}


def test_an_error_says_where_and_what() -> None:
    """One failure carries its own code, the field at fault and headers, and reads as its message."""
    error = errors.BadRequest("messages must be a list", code="wrong_type", param="messages", headers={"x": "y"})

    assert ("messages must be a list", "wrong_type", "messages", {"x": "y"}) == (
        str(error),
        error.code,
        error.param,
        error.headers,
    )


@pytest.mark.parametrize(
    ("message", "rule", "expected"),
    [
        pytest.param("Ask a person.", "p/refund@1", ("Ask a person.", "p/refund@1"), id="by a rule"),
        pytest.param("", "", ("This request is not allowed.", "policy_error"), id="by a failure"),
    ],
)
def test_a_denial_says_the_safe_text(message: str, rule: str, expected: tuple[str, str]) -> None:
    """A denial shows the rule's message and names the rule; without one it says no more than that."""
    denied = Denied(Decision(id="ex_1-request", phase=Phase.REQUEST, verdict=Verdict.DENY, message=message, rule=rule))

    assert expected == (denied.message, denied.code)


def test_a_spent_budget_is_not_retried() -> None:
    """SDKs read `x-should-retry`: asking again would only be refused again."""
    error = BudgetExceeded("The day's budget is spent.", rule="p/daily@1")

    assert ("false", "p/daily@1") == (error.headers["x-should-retry"], error.rule)


def test_a_providers_failure_keeps_its_status() -> None:
    """The provider's own status stands where the caller is at fault, and says whether another try may help."""
    error = UpstreamError("Unknown model.", status=404, code="model_not_found", retryable=False)

    assert (404, "model_not_found", False) == (error.status, error.code, error.retryable)


def test_config_problems_come_all_at_once() -> None:
    """A wrong configuration is told whole, one problem a line."""
    error = ConfigError(["a.yaml:1:1: x", "a.yaml:9:3: y"])

    assert ("a.yaml:1:1: x\na.yaml:9:3: y", 2) == (str(error), len(error.problems))


def test_every_failure_has_a_code() -> None:
    """What is not ours is named by its type; its text may be private."""
    named = [errors.code_of(failure) for failure in (errors.TooLarge("x", code="too_many"), KeyError("secret"))]

    assert ["too_many", "KeyError"] == named
