"""Owns the proof of the race's oracle, and that the servers of the race forget as they fail over."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos.race import MOST, peaks
from bench.chaos.redis_pair import RedisPair
from tests.redis_servers import RedisServer


@pytest.mark.parametrize(
    ("journals", "peak"),
    [
        pytest.param(["1 g a w 1000", "2 g b w 1000"], 2000, id="at once, of one process"),
        pytest.param(["1 g a w 1000\n4 e a w 300", "2 g b w 1000\n3 e b w 0"], 2000, id="at once, of two"),
        pytest.param(["1 g a w 1000\n2 e a w 300\n3 g b w 1000\n4 e b w 0"], 1300, id="what was used stays"),
        pytest.param(["1 g a w 1000\n2 e a w 0", "2 g b w 1000"], 1000, id="one after the other"),
        pytest.param(["1 g a w 1000\n2 b - - 0\n3 g b w 1000"], 1000, id="after a kill"),
        pytest.param(["1 g a w 1000\n2 b - - 0", "2 g b w 1000"], 1000, id="of another, after a kill"),
        pytest.param(["1 g a w 1000", "1 g b x 1000\n2 r - - 0"], 1000, id="under two windows"),
    ],
)
def test_the_oracle_adds_up(tmp_path: Path, journals: list[str], peak: int) -> None:
    """What was granted and not given back at the same moment."""
    files = [tmp_path / f"{number}" for number in range(len(journals))]
    for file, text in zip(files, journals, strict=True):
        file.write_text(text + "\n")

    highest, granted, refused = peaks(files)

    assert peak == max(highest.values())
    assert (sum(j.count(" g ") for j in journals), sum(j.count(" r ") for j in journals)) == (granted, refused)
    assert MOST == 1000


def test_a_failover_forgets_its_tail(tmp_path: Path) -> None:
    """The replica takes over at the same address, without what was written last, and the old primary follows."""
    with RedisPair(tmp_path) as pair:
        first = pair.primary
        first.command("SET", "early", 1)
        first.command("WAIT", 1, 1000)
        pair.fail_over(0.0, before=lambda: first.command("SET", "late", 1))
        second: RedisServer = pair.primary
        socket = second.command("CONFIG", "GET", "unixsocket")["unixsocket"]

        assert ("1", None) == (second.command("GET", "early"), second.command("GET", "late"))
        assert first is not second
        assert socket == str((tmp_path / "redis.sock").readlink())
