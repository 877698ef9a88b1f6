"""Owns the proof of the upstream door's codes."""

import pytest

from proxy.upstream.limits import FAULTS, errno_name, fault


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_says_what_its_code_says(code: str) -> None:
    """Every code has its HTTP status and a sentence that may be shown to anybody."""
    error = fault(code)

    assert (code, FAULTS[code][0], FAULTS[code][1]) == (error.code, error.status, str(error))


def test_only_deadlines_of_the_reply_are_504() -> None:
    """A provider that is there and too slow is a gateway timeout; everything else is a bad gateway."""
    late = {code for code, (status, _) in FAULTS.items() if status == 504}

    assert {"first_byte_timeout", "idle_timeout", "total_timeout"} == late


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(ConnectionRefusedError(111, "refused, says host 10.1.2.3"), "ECONNREFUSED", id="an OS error"),
        pytest.param(OSError("no number"), "", id="an OS error without a number"),
        pytest.param(ValueError("sk-canary"), "", id="another error"),
        pytest.param(None, "", id="an orderly end"),
    ],
)
def test_only_the_name_of_an_os_error_is_shown(error: BaseException | None, expected: str) -> None:
    """A system error contributes its symbolic name, never its text."""
    assert expected == errno_name(error)


def test_the_detail_stands_in_brackets() -> None:
    """What the system called it follows the sentence."""
    assert "The provider could not be reached. (ECONNREFUSED)" == str(fault("connect_failed", detail="ECONNREFUSED"))
