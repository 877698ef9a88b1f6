"""Owns the proof that our CEL is CEL: by our own cases, by the specification's, by Google's evaluator.

The specification's cases are read from $HANDRAIL_DATA/cel-spec, a folder that is no part of the repository.
"""

import os
from pathlib import Path

import pytest

from bench import cel_conformance, cel_fuzz
from proxy import cel
from tests.cel.running import exactly, failure, run

# Expressions of cel-go's parser tests on which we differ: what they contain, and why.
PARSED_OTHERWISE = {
    "{ ": "messages cannot be built",
    "Message{": "messages cannot be built",
    "__result__": "no accumulator variable exists that a name could overwrite",
    "`": "cel-go's tests run with names in backticks turned off",
    "y!=y!=y": "our depth is bounded at 128, theirs at 32",
    "[" * 32: "our depth is bounded at 128, theirs at 32",
    "+ 21 + 22": "our depth is bounded at 128, theirs at 32",
    ".F.G.H": "our depth is bounded at 128, theirs at 32",
    "[20] !=": "our depth is bounded at 128, theirs at 32",
    "[21][22]": "our depth is bounded at 128, theirs at 32",
    "< 10 < 11": "our depth is bounded at 128, theirs at 32",
}

# Ours, in the order of the language definition.
CASES: tuple[tuple[str, object], ...] = (
    ("[1, 2u, 3.0, 'a', b'b', true, null, int]", [1, cel.UInt(2), 3.0, "a", b"b", True, None, cel.CelType("int")]),
    ("1 + 2 * 3 % 4 - -5 / 2", 1 + 2 + 2),
    ("!false || false && 1 / 0 == 1", True),
    ("order.total > 100 ? 'large' : 'small'", "large"),
    ("order.lines[1].sku + order['lines'][0]['sku']", "B2A1"),
    ("has(order.coupon) || has(order.lines)", True),
    ("order.lines.map(l, l.quantity * l.price_cents)", [2000, 1500]),
    ("order.lines.filter(l, l.quantity > 1).map(l, l.sku)", ["A1"]),
    ("order.lines.exists(l, l.sku == 'B2' && l.quantity == 1)", True),
    ("order.lines.exists(l, l.missing == 1 || l.sku == 'B2')", True),
    ("order.lines.all(l, l.missing == 1 && l.quantity > 9)", False),
    ("order.lines.exists_one(l, l.quantity == 1)", True),
    ("order.lines.transformMap(i, l, i > 0, l.sku)", {1: "B2"}),
    ("cel.bind(n, size(order.lines), n * n)", 4),
    ("'total' in order && !('coupon' in order) && 2 in [1, 2.0, 3u]", True),
    ("order.total == 120.0 && order.total >= 120u", True),
    ("dyn(true) == 1 || dyn('1') == 1 || dyn([]) == {}", False),
    ("order.placed + duration('36h') < timestamp('2026-01-07T00:00:00Z')", True),
    ("order.placed.getDayOfWeek() == 1 && order.placed.getHours('+02:00') == 12", True),
    ("string(order.placed - duration('500ms'))", "2026-01-05T09:59:59.500Z"),
    ("order.note.trim().lowerAscii().replace(' ', '-')", "ring-the-bell"),
    ("order.note.matches('(?i)ring +THE')", True),
    ("'%s costs %d (%.1f)'.format([order.lines[0].sku, order.total, 0.25])", "A1 costs 120 (0.2)"),
    ("math.greatest(order.lines.map(l, l.quantity)) + math.bitAnd(6, 3)", 4),
    ("sets.intersects(order.lines.map(l, l.sku), ['X', 'B2'])", True),
    ("sum(order.lines.map(l, l.quantity * l.price_cents)) == 3500", True),
    ("default(order.coupon.percent, 0) + int(num('12.0'))", 12),
    ("type(order) == map && type(order.placed) == google.protobuf.Timestamp", True),
    ("r'\\d' + '''a'b''' + \"\\u00e9\"", "\\da'bé"),
    ("[[1, 2,], {'k': 1,},].size() // a comment", 2),
    ("order.`total`", 120),
)
FAILURES = (
    ("order.coupon", "no_such_field"),
    ("order.lines[2]", "index_out_of_range"),
    ("order.lines['0']", "no_such_overload"),
    ("order.total + 1.0", "no_such_overload"),
    ("order.total / 0", "divide_by_zero"),
    ("order.total * 9223372036854775807", "overflow"),
    ("order.lines.exists(l, l.missing == 1)", "no_such_field"),
    ("order.total && true", "no_such_overload"),
    ("nobody", "no_such_variable"),
    ("uint(order.total - 121)", "overflow"),
    ("{'a': 1, 'a': 2}", "duplicate_key"),
)
ORDER = {
    "total": 120,
    "placed": cel.Timestamp(1_767_607_200_000_000_000),
    "note": "  Ring the bell ",
    "lines": [{"sku": "A1", "quantity": 2, "price_cents": 1000}, {"sku": "B2", "quantity": 1, "price_cents": 1500}],
}


@pytest.mark.parametrize(("expression", "value"), CASES, ids=[expression for expression, _ in CASES])
def test_our_own_cases(expression: str, value: object) -> None:
    """The language over plain data, as a policy uses it; the checker refuses none of it."""
    assert exactly(value) == exactly(run(expression, {"order": ORDER}))


@pytest.mark.parametrize(("expression", "kind"), FAILURES, ids=[expression for expression, _ in FAILURES])
def test_our_own_failures(expression: str, kind: str) -> None:
    """What has no value fails in its own way."""
    assert kind == failure(expression, {"order": ORDER})


@pytest.fixture(scope="module")
def data() -> Path:
    """Return the folder with the specification's cases; skip the test where there is none."""
    folder = os.environ.get("HANDRAIL_DATA")
    if not folder:
        pytest.skip("not run: HANDRAIL_DATA names no folder with the specification's cases")
    return Path(folder)


def test_the_specification(data: Path) -> None:
    """Every case that needs no message passes, except those listed with their reason; and each of those still fails."""
    found = cel_conformance.count(data)

    assert set(cel_conformance.MISSES) == found.missed
    assert ((1100, 1103), (460, 461)) == (found.of(cel_conformance.CORE), found.of(cel_conformance.EXTENSIONS))


def test_every_suite_of_the_specification_is_run_or_left_out_for_a_reason(data: Path) -> None:
    """No suite is forgotten: what is not run is in a table."""
    suites = {case["suite"].partition("/")[0] for case in cel_conformance.cases(data, "conformance")}

    assert suites == {*cel_conformance.CORE, *cel_conformance.EXTENSIONS, *cel_conformance.LEFT_OUT}


def test_the_parser_of_cel_go(data: Path) -> None:
    """We read what cel-go reads and refuse what it refuses, except where listed."""
    different = []
    for case in cel_conformance.cases(data, "parsing"):
        if cel_conformance.about_messages(case):
            continue
        try:
            accepted = bool(cel.compile(case["expr"], check=False))
        except cel.CelSyntaxError:
            accepted = False
        if accepted != ("ast" in case):
            different.append(case["expr"])

    explained = {text: [part for part in PARSED_OTHERWISE if part in text] for text in different}
    assert [] == [text for text, parts in explained.items() if not parts]
    assert set(PARSED_OTHERWISE) == {part for parts in explained.values() for part in parts}


def test_google_agrees_on_random_expressions() -> None:
    """Over random expressions the C++ evaluator has the same value or fails as well, but for the known differences."""
    unexplained = [found for found in cel_fuzz.disagreements(1500, seed=7) if not cel_fuzz.explained(found)]

    assert [] == unexplained


@pytest.mark.parametrize("known", cel_fuzz.DIFFERENCES, ids=lambda known: known.reason)
def test_each_known_difference_is_still_one(known: cel_fuzz.Difference) -> None:
    """A difference that is gone leaves the table; one that stays is recognised by it."""
    ours, googles = cel_fuzz.ours(known.example, {}), cel_fuzz.googles(known.example, {})
    found = cel_fuzz.Disagreement(known.example, {}, ours, googles)

    assert found.ours != found.googles
    assert known.explains(found)
