"""Owns the proof that hostile expressions end in a value or a typed error, at a cost that their charge covers."""

import pytest

from bench import cel_hostile
from proxy import cel

UNITS = 20_000
# A unit of the reference loop takes as long as a unit may, 0.2 us; what is over is for a busy, traced machine.
DEAREST, FREE_UNITS = 12, 2000
ENDS = {"bool", "int", "list", "budget", "refused", "no_such_variable", "invalid_argument", "overflow"}
FACTS = cel_hostile.activation(8000, 3000)


@pytest.fixture(scope="module")
def reference() -> float:
    """Return the nanoseconds that a unit of an ordinary loop takes here and now."""
    runs = [cel_hostile.outcome(cel_hostile.REFERENCE, cel_hostile.activation(8, 1000)) for _ in range(9)]
    return min(run.nanos / run.units for run in runs)


@pytest.mark.parametrize(
    "source", [pytest.param(case, id=f"{number} {case[:40]}") for number, case in enumerate(cel_hostile.CASES)]
)
def test_a_hostile_case_ends_and_is_charged_for(source: str, reference: float) -> None:
    """Each ends in a value or a typed error, and no unit is worth many times an ordinary one."""
    runs = [cel_hostile.outcome(source, FACTS, UNITS) for _ in range(3)]

    assert {run.end for run in runs} <= ENDS
    least = min(runs, key=lambda run: run.nanos)
    assert least.end == "refused" or least.nanos <= DEAREST * reference * (least.units + FREE_UNITS)


def test_deep_json_is_an_error() -> None:
    """What would exhaust the stack ends as the error that nothing absorbs."""
    deep = {"deep": "[" * 100_000 + "]" * 100_000}

    with pytest.raises(cel.CelError) as raised:
        cel.compile("default(json(deep), []) == []").evaluate(deep, cel.Budget(100_000))
    assert raised.value.kind == "budget"
