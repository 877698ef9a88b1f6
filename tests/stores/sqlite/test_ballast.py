"""Owns the proof of proxy/stores/sqlite/ballast.py: room that is there, and is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.stores.sqlite.ballast import SIZE, Ballast


def test_the_room_is_really_taken(tmp_path: Path) -> None:
    """In blocks of the disk, not as a hole; it is given up whole, and a later process finds what the first has kept."""
    ballast = Ballast(str(tmp_path / "x.db"))
    before = ballast.held
    ballast.hold()
    file = tmp_path / "x.db-ballast"
    taken, mode = file.stat().st_blocks * 512, file.stat().st_mode & 0o777
    again = Ballast(str(tmp_path / "x.db")).held
    ballast.give()

    assert (False, True, True, 0o600) == (before, taken >= SIZE, again, mode)
    assert (False, 0) == (ballast.held, file.stat().st_size)


@pytest.mark.parametrize(("free", "held"), [(SIZE * 2 - 1, False), (SIZE * 2, True)])
def test_it_is_taken_back_where_there_is_room_twice_over(tmp_path: Path, free: int, held: bool) -> None:
    """Else what was just written would have the disk full again."""
    ballast = Ballast(str(tmp_path / "x.db"), lambda _: free)
    ballast.hold()

    assert held is ballast.held


def test_a_disk_that_cannot_be_written_holds_none(tmp_path: Path) -> None:
    """That is no error: it is what a full disk is."""
    ballast = Ballast(str(tmp_path / "nowhere" / "x.db"))
    ballast.hold()
    ballast.give()

    assert not ballast.held
