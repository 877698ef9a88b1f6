"""Owns the proof of the frame of bench/chaos: what is told of rows, and that nothing is met that was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.chaos.__main__ import Places, built, main
from bench.chaos.report import shown
from bench.chaos.rows_api import Figure, Number, Plan, within

SHELF = "tests.bench.rows"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Give a shelf of two rows, and folders of their own."""
    return Places(shelf=SHELF, work=tmp_path / "work", reports=tmp_path / "reports")


def test_rows_are_found_by_their_files() -> None:
    """A file on the shelf is a row, and nothing else is."""
    assert ["R2", "R3"] == built(SHELF)


def test_a_short_slice_prints_a_line_per_row_and_a_verdict(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row that was asked for says how it ended; one without a figure or without a file is not met."""
    code = main(["--row", "R2", "--row", "R3", "--row", "R1", "--slice", "short", "--seed", "5"], places)

    assert 1 == code
    assert [
        "R2  met               lost 0, kills 2",
        "      note: without Redis",
        "R3  NOT met",
        "R1  not built",
        "chaos, seed 5, on the short slice: 1 of 3 rows met; R3 NOT met; R1 not built",
    ] == capsys.readouterr().out.splitlines()


def test_without_rows_all_are_run(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are not built are told of."""
    main(["--slice", "short"], places)

    *lines, verdict = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert (15, 13) == (len(lines), sum("not built" in line for line in lines))
    assert ": 1 of 15 rows met; R1 not built; R3 NOT met; R4 not built" in verdict


def test_a_stopped_full_run_goes_on(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """What failed is told and writes no page; asked for again it goes on, writes its page and clears up."""
    codes = [main(["--row", "R2"], places)]
    pages = [*places.reports.glob("*")]
    codes.append(main(["--row", "R2"], places))
    page = (places.reports / "R2.md").read_text()

    assert ([1, 0], [], []) == (codes, pages, [*places.work.iterdir()])
    assert "failed            OSError: stopped" in capsys.readouterr().out
    assert page.startswith("# R2: kills that lose something\n")
    for line in ("| gate | 0 in 4 |", "| verdict | met |", "| seed | 1 |", "| kills | 4 |", "- without Redis"):
        assert line in page


def test_a_stopped_full_run_can_be_judged(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """What it did so far is judged and nothing more is done; without a run there is nothing to judge."""
    codes = [main(["--row", "R2", *more], places) for more in (["--judge"], [], ["--judge"])]

    assert [1, 1, 0] == codes
    assert "R2  failed            there is no run to judge" in capsys.readouterr().out
    assert "| kills | 2 |" in (places.reports / "R2.md").read_text()


def test_a_short_slice_begins_anew(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds nothing of an earlier one, and leaves no page."""
    for _ in range(2):
        main(["--row", "R2", "--slice", "short"], places)

    assert 2 == capsys.readouterr().out.count("kills 2")
    assert not places.reports.exists()


def test_chance_is_the_seeds(tmp_path: Path) -> None:
    """The same seed and part give the same, another part or seed another."""
    one, other = (Plan(seed=seed, full=False, folder=tmp_path) for seed in (1, 2))

    assert one.dice("a").random() == one.dice("a").random()
    assert 3 == len({one.dice("a").random(), one.dice("b").random(), other.dice("a").random()})


@pytest.mark.parametrize(
    ("figures", "most", "least", "expected"),
    [
        pytest.param({"lost": 0, "kills": 9}, {"lost": 0}, {"kills": 9}, True, id="on the bounds"),
        pytest.param({"lost": 1}, {"lost": 0}, {}, False, id="too many"),
        pytest.param({"kills": 8}, {}, {"kills": 9}, False, id="too few"),
        pytest.param({}, {"lost": 0}, {}, False, id="not measured"),
        pytest.param({}, {}, {"kills": -9}, False, id="not counted"),
        pytest.param({"lost": "none"}, {"lost": 0}, {}, False, id="a word"),
        pytest.param({"lost": float("nan")}, {"lost": 0}, {}, False, id="no number"),
    ],
)
def test_a_missing_figure_is_within_no_bounds(
    figures: Mapping[str, Figure], most: Mapping[str, Number], least: Mapping[str, Number], expected: bool
) -> None:
    """What was not measured meets nothing."""
    assert expected is within(figures, most=most, least=least)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        pytest.param(1_000_000, "1,000,000", id="a count"),
        pytest.param(0.123456, "0.123", id="small"),
        pytest.param(12345.6, "12,346", id="large"),
        pytest.param("3 of 4", "3 of 4", id="words"),
    ],
)
def test_figures_are_written_for_people(figure: Figure, text: str) -> None:
    """As many digits as say something."""
    assert text == shown(figure)
