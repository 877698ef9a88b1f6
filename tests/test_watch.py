"""Owns the proof of proxy/watch.py: a changed file is noticed, an unchanged one is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.watch import marks, watch


def test_a_file_that_is_not_there_has_no_mark(tmp_path: Path) -> None:
    """A missing file leaves no mark, so its coming is a change."""
    assert {} == marks([tmp_path / "gone"])


def _write(path: Path) -> None:
    path.write_text("another text")


def _replace(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(path.read_text())
    fresh.replace(path)


def _remove(path: Path) -> None:
    path.unlink()


def _swap_link(path: Path) -> None:
    """Do what Kubernetes does to a ConfigMap's folder: swap the symlink under an unchanged name."""
    other = path.with_name("other")
    other.write_text(path.read_text())
    link = path.with_name("link.new")
    link.symlink_to(other)
    link.replace(path)


@pytest.mark.parametrize("change", [_write, _replace, _remove, _swap_link])
def test_a_change_is_a_new_mark(change: Callable[[Path], None], tmp_path: Path) -> None:
    """Writing, replacing, removing and swapping a link all change the mark; doing nothing does not."""
    path = tmp_path / "policy.yaml"
    path.write_text("text")
    before, again = marks([path]), marks([path])

    change(path)

    assert before == again != marks([path])


async def test_each_change_is_told_once(tmp_path: Path) -> None:
    """The callback runs after a change, and not again until the next."""
    path, told = tmp_path / "policy.yaml", asyncio.Event()
    fresh = tmp_path / "fresh"
    fresh.write_text("text")
    count = 0

    async def changed() -> None:
        nonlocal count
        count += 1
        told.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch(lambda: [path], changed, seen={}, every_s=0.01))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(fresh.replace, path)
        await asyncio.wait_for(told.wait(), 60)
        await asyncio.sleep(0.05)
        task.cancel()

    assert 1 == count
