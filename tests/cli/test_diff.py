"""Owns the proof of proxy/cli/diff.py: a candidate's differences, counted rule by rule."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.cli import main
from proxy.stores import sqlite
from proxy.terms import Decision, Exchange, Phase, State, Verdict
from tests.stores.samples import exchange

NOW_MS = time.time_ns() // 1_000_000
DAY_MS = 24 * 3600 * 1000
WOULD = Decision(id="", phase=Phase.TOOL_CALL, verdict=Verdict.DENY, rule="p/cap@2.0.0")


def asked(name: str, days: int, *would: Decision, digest: str = "new") -> Exchange:
    """Make the record of a call about which a candidate was asked."""
    made = (Decision(id=f"{name}-tool_call0.0", phase=Phase.TOOL_CALL, verdict=Verdict.ROUTE, rule="p/old@1.0.0"),)
    candidate = tuple(replace(decision, id=f"{name}-{decision.phase}0.0") for decision in would)
    record = exchange(name, State.COMPLETE, started_ms=NOW_MS - days * DAY_MS)
    return replace(record, decisions=made, candidate=candidate, candidate_digest=digest)


async def written(folder: Path, *exchanges: Exchange) -> None:
    """Write records where the commands look."""
    async with sqlite.open(sqlite.Settings(path=str(folder / ".handrail" / "handrail.sqlite"))) as store:
        for one in exchanges:
            store.finish(one)


@pytest.fixture
async def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls about which an old candidate and a new one were asked, and one about which none was."""
    monkeypatch.chdir(tmp_path)
    otherwise = replace(WOULD, phase=Phase.RESPONSE, verdict=Verdict.ALLOW, rule="")
    await written(
        tmp_path,
        asked("ex_0", 9, WOULD, digest="old"),
        asked("ex_1", 5, WOULD),
        asked("ex_2", 4, WOULD, otherwise),
        asked("ex_3", 3),
        replace(asked("ex_4", 2), candidate_digest=""),
    )


REPORT = """\
candidate new: asked about 3 calls, 2 would be decided otherwise
2 times  tool_call: route → deny
  by       p/cap@2.0.0
  was by   p/old@1.0.0
  such as  ex_1 ex_2
1 time  response: allow
  by       no rule
  was by   no rule
  such as  ex_2
"""


def test_differences_are_counted_by_rule(records: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the newest candidate each kind of difference is counted, with the rules and calls to look at."""
    assert 1 == main(["diff"])
    assert REPORT == capsys.readouterr().out


def test_a_program_can_read_it(records: None, capsys: pytest.CaptureFixture[str]) -> None:
    """--json tells the same."""
    main(["diff", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (3, 2, [2, 1]) == (told["calls"], told["different"], [row["count"] for row in told["rows"]])


@pytest.mark.parametrize(("since", "status"), [("84h", 0), ("1h", 2), ("30d", 1)])
def test_the_answer_is_the_status(records: None, since: str, status: int) -> None:
    """0: all is decided as it was; 1: not all; 2: no candidate was asked in that time."""
    assert status == main(["diff", "--since", since])
