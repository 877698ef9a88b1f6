"""Owns the proof of row S6: nothing forged opens, and a route without a check, or a proof that opens, is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos.rows_api import Plan
from bench.security import forging, s06
from bench.security.forging import Forged, bearer
from bench.security.outcomes import passed
from bench.security.s06 import Route


def test_nothing_forged_opens(tmp_path: Path) -> None:
    """Every route wants its proof, and no forged identity is taken."""
    lines = s06.run(Plan(seed=1, full=False, folder=tmp_path))

    assert passed(lines), lines


def test_a_proof_that_opens_is_found(tmp_path: Path) -> None:
    """Who gets in, or is somebody else than its proof says, is named; the row can fail."""
    with s06.opened(Plan(seed=1, full=False, folder=tmp_path)) as (house, _):
        second = bearer(house.proofs.second)
        found = s06.accepted(house, [Forged("open", second), Forged("moved", second, widening=True)])

    assert ["open: 200, as key:second", "moved: 200, as key:second"] == found


@pytest.mark.parametrize(
    "route",
    [
        pytest.param(Route("health", "GET", "/dump"), id="a page of health that is not open on purpose"),
        pytest.param(Route("debug", "GET", "/healthz"), id="a listener of which nothing is known"),
    ],
)
def test_a_route_without_a_check_is_found(route: Route) -> None:
    """A route is open only if this file says so, and why."""
    assert 1 == len(s06.unchecked([*s06.table(), route]))


def test_forged_identities_have_their_names() -> None:
    """Each is another one, and there are as many as the row asks for."""
    proofs = forging.Proofs(good="hr_" + "0" * 40, second="hr_1", expired="hr_2", admin="t" * 40)
    names = [forged.name for forged in forging.everything(proofs)]

    assert len(names) == len(set(names)) >= s06.LEAST_FORGED
