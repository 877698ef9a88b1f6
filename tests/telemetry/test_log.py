"""Owns the proof that diagnostic lines are whole, content-free, and never in anybody's way."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from proxy.telemetry import log as door
from proxy.telemetry.log import LEVELS, ROOM, Level, log, open_log
from proxy.terms import Secret


@contextmanager
def logging_to_lines(level: Level = "info") -> Iterator[list[dict[str, Any]]]:
    """Open the log, and give what was written once it is closed."""
    stream = io.StringIO()
    lines: list[dict[str, Any]] = []
    with open_log(level, stream):
        yield lines
    lines += [json.loads(line) for line in stream.getvalue().splitlines()]


def without_time(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the times out of lines."""
    return [{name: value for name, value in line.items() if name != "at"} for line in lines]


def test_a_line_is_one_json_object() -> None:
    """An event has its time, level, name and fields, one object per line, whatever the fields hold."""
    with logging_to_lines() as lines:
        log("info", "reloaded", revision=7, problems=["a\nb", "ü"])

    assert [{"level": "info", "event": "reloaded", "revision": 7, "problems": ["a\nb", "ü"]}] == without_time(lines)
    assert lines[0]["at"].endswith("+00:00")


@pytest.mark.parametrize("least", LEVELS)
def test_less_than_the_level_is_not_written(least: Level) -> None:
    """The configured level and everything above it is written."""
    with logging_to_lines(least) as lines:
        for level in LEVELS:
            log(level, level)

    assert [level for level in LEVELS if LEVELS[level] >= LEVELS[least]] == [line["event"] for line in lines]


def test_a_secret_stays_one() -> None:
    """A credential among the fields is shown as one, and a value of any other kind by its name."""
    with logging_to_lines() as lines:
        log("info", "x", key=Secret("sk-canary"), kind=ValueError)

    assert ("Secret(***)", "<class 'ValueError'>") == (lines[0]["key"], lines[0]["kind"])


def test_libraries_are_heard_without_their_arguments() -> None:
    """What a library logs keeps its template and loses its arguments, its reprs and the message of its exception."""
    logger = logging.getLogger("some.library")  # noqa: TID251 - it plays a library
    with logging_to_lines() as lines:
        logger.info("too quiet")
        logger.warning("Body was %s", "CANARY")
        try:
            raise ValueError("CANARY")
        except ValueError:
            logger.exception("Task failed <Task CANARY>\nfuture: CANARY")

    expected = [
        {"level": "warning", "event": "library", "logger": "some.library", "message": "Body was %s"},
        {
            "level": "error",
            "event": "library",
            "logger": "some.library",
            "message": "Task failed",
            "error": "ValueError",
            "where": lines[1]["where"],
        },
    ]
    assert expected == without_time(lines)
    assert [__name__] == [place.partition(":")[0] for place in lines[1]["where"]]


def test_a_failure_that_is_none_is_not_described() -> None:
    """A library that logs `exc_info` without an exception is heard all the same."""
    with logging_to_lines() as lines:
        logging.getLogger("lib").error("odd", exc_info=True)  # noqa: TID251 - exactly that

    assert [{"level": "error", "event": "library", "logger": "lib", "message": "odd"}] == without_time(lines)


def test_a_closed_log_lets_go_of_the_libraries() -> None:
    """After closing, the standard module is as it was before."""
    before = (logging.root.level, list(logging.root.handlers))
    with logging_to_lines():
        during = len(logging.root.handlers)

    assert (before, len(before[1]) + 1) == ((logging.root.level, logging.root.handlers), during)


def test_before_it_is_opened_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A problem at start-up is not lost for want of an open log."""
    log("error", "early")

    assert "early" == json.loads(capsys.readouterr().err)["event"]


class Blocked(io.StringIO):
    """A stream whose reader has stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.free = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        """Wait for the reader."""
        self.reached.set()
        self.free.wait()
        return super().write(text)


def test_a_blocked_stream_blocks_nobody() -> None:
    """With the stream full, lines wait up to a bound, then are dropped and counted; closing does not wait for it."""
    stream, before = Blocked(), log.dropped
    with open_log("info", stream):
        log("info", "first")
        stream.reached.wait()
        for _ in range(ROOM + 5):
            log("info", "more")
        dropped = log.dropped - before

    assert (5, ROOM + 5) == (dropped, log.dropped - before)
    stream.free.set()


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        """Fail as a pipe does."""
        raise BrokenPipeError


def test_a_broken_stream_costs_lines_only() -> None:
    """What cannot be written is counted, and the log goes on."""
    before = log.dropped
    with open_log("info", Broken()):
        log("info", "one")
        log("info", "two")

    assert 2 == log.dropped - before


def test_the_door_offers_the_same_log() -> None:
    """There is one log in the process."""
    assert door is log
