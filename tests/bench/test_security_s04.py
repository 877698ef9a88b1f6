"""Owns the proof of row S4: no planted secret is in any sink, and a sink that leaks is found."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from bench.chaos.rows_api import Plan
from bench.security import s04
from bench.security.canaries import SECRETS, planted
from bench.security.outcomes import passed

PLANTED = planted(random.Random(1))  # noqa: S311 - a schedule, not a secret
KEY = PLANTED["provider key"].encode()


def test_no_secret_is_in_any_sink(tmp_path: Path) -> None:
    """A whole Handrail, good and bad calls, all that it writes, says, sends and shows."""
    lines = s04.run(Plan(seed=1, full=False, folder=tmp_path))

    assert passed(lines), lines


@pytest.mark.parametrize(
    "leak",
    [
        pytest.param(b"Bearer " + KEY, id="as it is"),
        pytest.param(KEY.hex().encode(), id="in hexadecimal digits"),
        pytest.param(base64.b64encode(KEY), id="in Base64"),
        pytest.param(base64.b64encode(b"u:" + KEY), id="in the Base64 of more"),
        pytest.param(base64.b64encode(b"user" + KEY + b"!"), id="in the Base64 of more, elsewhere"),
    ],
)
def test_a_sink_that_leaks_is_found(leak: bytes) -> None:
    """However the secret is spelled there."""
    assert ["provider key in stderr"] == s04.leaked({"stdout": b"", "stderr": b"x " + leak + b" y"}, PLANTED)


def test_a_secret_is_expected_nowhere() -> None:
    """Only content goes back, and only to its own caller."""
    assert all(hit.endswith(" in error replies") for hit in s04.EXPECTED)
    assert not [hit for hit in s04.EXPECTED if hit.startswith(SECRETS)]
