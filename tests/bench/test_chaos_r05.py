"""Owns the proof of row R5: a slice of the fault matrix as it has to be, and a judge that notices what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.chaos.calling import Answer
from bench.chaos.matrix.cell import DOCUMENT, DONE, EVENTS, HE, KEY, NANOUSD, ROLE, Cell, Expected
from bench.chaos.rows import r05
from bench.chaos.rows_api import Plan
from proxy.terms import Attempt, Caller, Cost, Exchange, Level, Session, State, Target, Usage, UsageSource

HEAD = b"HTTP/1.1 200 OK\r\nx-handrail-decision: ex_1-request\r\n\r\n"
WELL = Answer(digest="d", took_s=0.1, head=HEAD, body=DOCUMENT, framed=True)
CELL = Cell(row=7, fault="none", why="", expected=Expected(body=DOCUMENT))
CUT = Cell(row=4, fault="cut", why="", stream=True, expected=Expected(begins=b"".join(EVENTS), code="stream_cut"))
PAID = Attempt(
    number=1,
    reservation_id="ex_1:1",
    target=Target(alias="m", provider="p", model="m"),
    started_ms=0,
    state=State.COMPLETE,
    usage=Usage(input_tokens=7, output_tokens=5),
    cost=Cost(nanousd=NANOUSD),
)
RECORD = Exchange(
    id="ex_1",
    started_ms=0,
    endpoint="/v1/chat/completions",
    caller=Caller(agent="a", level=Level.EXECUTE, principal="p"),
    session=Session(id="s"),
    stream=False,
    model_asked="m",
    state=State.COMPLETE,
    attempts=(PAID,),
)


def test_a_slice_of_the_matrix_comes_out_as_specified(tmp_path: Path) -> None:
    """Cells of every kind that is quick, a few cuts and refused starts, against a whole Handrail."""
    outcome = r05.run(Plan(seed=1, full=False, folder=tmp_path))

    assert 0 == outcome.figures["not as specified"], outcome.notes


def test_an_answer_is_late_a_second_after_its_deadline() -> None:
    """A client that has left waits for none."""
    due = replace(CELL, expected=Expected(within_s=2.0))
    gone = replace(CELL, expected=Expected(status=0))

    assert (False, True, False) == (due.late(2.9), due.late(3.1), gone.late(9.0))


def test_the_matrix_has_its_cells() -> None:
    """There are as many as the scorecard's stretch asks for, each of its own name and with a reason."""
    cells = r05.table()

    assert len(cells) >= 500
    assert len(cells) == len({cell.name for cell in cells})
    assert all(cell.why for cell in cells)


def test_an_outcome_as_specified_is_passed() -> None:
    """Nothing is found where nothing is wrong."""
    assert [] == list(r05.judged(CELL, WELL, [RECORD]))


@pytest.mark.parametrize(
    ("cell", "answer", "records"),
    [
        pytest.param(CELL, replace(WELL, head=HEAD.replace(b"200", b"502")), [RECORD], id="status"),
        pytest.param(CELL, replace(WELL, body=DOCUMENT + b" "), [RECORD], id="bytes"),
        pytest.param(CELL, replace(WELL, framed=False), [RECORD], id="no end"),
        pytest.param(CELL, replace(WELL, head=HEAD + KEY.encode()), [RECORD], id="key"),
        pytest.param(CELL, WELL, [], id="no record"),
        pytest.param(CELL, WELL, [RECORD, RECORD], id="two records"),
        pytest.param(CELL, WELL, [replace(RECORD, state=State.FAULT)], id="state"),
        pytest.param(CELL, WELL, [replace(RECORD, attempts=(PAID, PAID))], id="attempts"),
        pytest.param(CELL, WELL, [replace(RECORD, attempts=(replace(PAID, cost=Cost(nanousd=0)),))], id="free"),
        pytest.param(
            CELL,
            WELL,
            [replace(RECORD, attempts=(replace(PAID, usage=Usage(source=UsageSource.BYTES)),))],
            id="estimated",
        ),
        pytest.param(CUT, replace(WELL, body=ROLE + HE), [RECORD], id="cut untold"),
        pytest.param(CUT, replace(WELL, body=ROLE + b"data: {}\n\n"), [RECORD], id="said what was not sent"),
    ],
)
def test_what_is_not_as_specified_is_found(cell: Cell, answer: Answer, records: list[Exchange]) -> None:
    """One thing that is wrong is enough."""
    assert list(r05.judged(cell, answer, records))


def test_an_end_marker_that_was_made_up_is_found() -> None:
    """Also where any beginning of the stream would do."""
    cell = replace(CUT, expected=Expected(begins=ROLE + DONE))
    answer = replace(WELL, body=ROLE + DONE)

    assert "an end marker was made up" in list(r05.judged_cut(cell, answer, [RECORD]))
