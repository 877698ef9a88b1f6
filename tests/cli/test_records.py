"""Owns the proof of proxy/cli/records.py: the records in words."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.cli import answers, main, records
from proxy.stores import sqlite
from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Decision,
    Exchange,
    Finding,
    GuardResult,
    Level,
    Mode,
    Phase,
    Route,
    RuleHit,
    Session,
    State,
    Target,
    Usage,
    Verdict,
)

WAIT_S = 60.0
LARGE = Target(alias="large", provider="openai", model="gpt-5")
SMALL = Target(alias="small", provider="openai", model="gpt-5-nano")
DECISION = Decision(
    id="ex_1-request",
    phase=Phase.REQUEST,
    verdict=Verdict.DENY,
    shadow_verdict=Verdict.ROUTE,
    rule="p/r@1.0.0",
    rules=(
        RuleHit(id="p/r@1.0.0", action=Verdict.DENY, mode=Mode.ENFORCE),
        RuleHit(id="p/s@1.0.0", action=Verdict.ROUTE, mode=Mode.SHADOW, error="no_such_field"),
    ),
    message="Not here.",
    annotations={"topic": "orders"},
)
EXCHANGE = Exchange(
    id="ex_1",
    started_ms=1_767_225_600_000,
    endpoint="/v1/chat/completions",
    caller=Caller(agent="web", level=Level.EXECUTE, principal="local"),
    session=Session(id="se_1", turn=2, link="prefix"),
    stream=True,
    model_asked="large",
    state=State.FAULT,
    status=502,
    route=Route(targets=(SMALL, LARGE), reason="policy p/s", asked="large", saved_nanousd=2_000_000),
    attempts=(
        Attempt(number=1, reservation_id="ex_1:1", target=SMALL, started_ms=0, state=State.FAULT, error="not_sent"),
        Attempt(
            number=2,
            reservation_id="ex_1:2",
            target=LARGE,
            started_ms=0,
            state=State.FAULT,
            error="stream_cut",
            usage=Usage(input_tokens=10, output_tokens=5),
            cost=Cost(nanousd=70_000, price="openai/gpt-5", estimated=True),
        ),
    ),
    decisions=(DECISION,),
    guards=(
        GuardResult(name="topics", version="1", findings=(Finding(guard="topics", label="orders", score=0.9),)),
        GuardResult(name="voice", version="1"),
        GuardResult(name="pii", version="", ran=False),
        GuardResult(name="repeat", version="1", error="ValueError"),
    ),
    tool_calls=("look",),
    cost=Cost(nanousd=None, estimated=True),
    error="stream_cut",
    ttft_ms=3.0,
    total_ms=12.5,
    simulated=True,
    trace_id="abc",
)
EXPLAINED = """\
ex_1  2026-01-01 00:00:00 UTC
  who               agent web, level execute, called as local
  conversation      se_1, call 2 (found by: prefix)
  asked for         large, streamed at /v1/chat/completions
  outcome           fault, HTTP 502: stream_cut
  decided: request  deny by p/r@1.0.0
                    said: Not here.
                    in shadow: route
                    topic = orders
                    - p/r@1.0.0 matched → deny
                    - p/s@1.0.0 failed: no_such_field (shadow)
  guards            topics: orders 0.90
                    voice: nothing found
                    pii: not run
                    repeat: failed (ValueError)
  route             small → large (policy p/s; saves about $0.002)
  attempts          1. openai/gpt-5-nano: not sent
                    2. openai/gpt-5: fault (stream_cut); 10 + 5 tokens, counted by provider; $0.00007 at openai/gpt-5
  tools called      look
  cost              unknown (estimated)
  time              total 12.5 ms, first byte 3.0 ms
  trace             abc
  simulated         the reply came from the built-in simulated model"""


@pytest.fixture
async def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A records file with one call, where the commands look by default."""
    path = tmp_path / ".handrail" / "handrail.sqlite"
    async with sqlite.open(sqlite.Settings(path=str(path))) as store:
        store.finish(EXCHANGE)
    monkeypatch.chdir(tmp_path)
    return path


def test_a_record_is_told_in_words() -> None:
    """Everything that a person asks about a call is in its explanation."""
    assert EXPLAINED == records.explained(EXCHANGE)


def test_what_never_left_says_so() -> None:
    """A call without a route or an attempt went nowhere; a dearer route is no saving."""
    denied = replace(EXCHANGE, route=None, attempts=(), error="", finish_reason="content_filter", decisions=())
    dearer = replace(EXCHANGE, route=Route(targets=(LARGE,), reason="r", saved_nanousd=-1_000_000))

    assert "nowhere" in records.one_line(denied)
    assert "finish reason content_filter" in records.explained(denied)
    assert "costs more by about $0.001" in records.explained(dearer)


@pytest.mark.parametrize("name", ["ex_1", "ex_1-request", "ex_1-response0"])
def test_explain_takes_a_decision_or_an_exchange(name: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The id of the header, also of a phase that had no rules, and the exchange's own all find the record."""
    assert 0 == main(["explain", name])
    said = capsys.readouterr().out
    assert said.startswith("No whole reply came of this call: stream_cut. The question was not put to the model")
    assert said.endswith("What policy knew is not kept: " + answers.HOW_TO_KEEP + ".\n")


def test_explain_of_nothing(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown id exits 1 and says what lists the known ones."""
    assert 1 == main(["explain", "ex_9"])
    assert "handrail tail" in capsys.readouterr().err


def test_records_can_be_read_by_programs(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json gives the whole record, one line each."""
    main(["explain", "ex_1", "--json"])
    main(["tail", "--json", "--state", str(state)])

    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    assert "ex_1" == first["id"]


def test_tail_lists_what_was_recorded(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line has the time, how it ended, where it went and which rule decided."""
    assert 0 == main(["tail", "-n", "5"])
    said = capsys.readouterr().out
    assert [True] * 4 == [word in said for word in ("00:00:00", "fault", "large → large", "p/r@1.0.0")]


def test_tail_without_records_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is a problem with its name, and what writes it."""
    path = tmp_path / "gone.sqlite"

    assert 2 == main(["tail", "--state", str(path)])
    assert [f"{path}: there are no records yet; `handrail serve` writes them", "handrail: 1 problem"] == (
        capsys.readouterr().err.splitlines()
    )


async def test_tail_of_an_empty_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing was recorded yet that is said, beside what a program reads."""
    async with sqlite.open(sqlite.Settings(path=str(tmp_path / "new.sqlite"))):
        pass

    assert 0 == await asyncio.to_thread(main, ["tail", "--state", str(tmp_path / "new.sqlite")])
    assert ("", "no call has ended yet\n") == capsys.readouterr()


async def test_tail_follows(state: Path) -> None:
    """With --follow a call that is recorded later is printed too, until somebody interrupts."""
    command = (sys.executable, "-m", "proxy", "tail", "--follow", "--json", "--state", str(state))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    first = await asyncio.wait_for(process.stdout.readline(), WAIT_S)
    async with sqlite.open(sqlite.Settings(path=str(state))) as store:
        store.finish(replace(EXCHANGE, id="ex_2", decisions=()))

    second = await asyncio.wait_for(process.stdout.readline(), WAIT_S)
    process.send_signal(signal.SIGINT)

    assert ["ex_1", "ex_2"] == [json.loads(line)["id"] for line in (first, second)]
    assert 130 == await asyncio.wait_for(process.wait(), WAIT_S)


async def test_tail_of_none_follows_what_comes(state: Path) -> None:
    """`tail -n 0 --follow` leaves out what was there before."""
    command = (sys.executable, "-m", "proxy", "tail", "-n", "0", "--follow", "--json", "--state", str(state))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    line = asyncio.get_running_loop().create_task(process.stdout.readline())
    number = 1
    async with sqlite.open(sqlite.Settings(path=str(state))) as store, asyncio.timeout(WAIT_S):
        while not line.done():
            number += 1
            store.finish(replace(EXCHANGE, id=f"ex_{number}", decisions=()))
            await asyncio.wait((line,), timeout=0.1)
    process.kill()
    await process.wait()

    assert "ex_1" != json.loads(line.result())["id"]
