"""Owns the proof that row R12 knows when Redis is away, and sees an overshoot where there is one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.chaos.rows.r12 import CAP, FAULTS, MOST, scene


@pytest.mark.parametrize("name", ["killed", "unreachable"])
async def test_an_outage_is_noticed(tmp_path: Path, name: str) -> None:
    """Calls go on from slices, those beyond them are refused, nothing is over the limit; then all are back."""
    async with scene(tmp_path) as here:
        back_s = await here.outage(name, FAULTS[name], 0.5)

        assert back_s > 0
        assert here.granted + here.refused == len(here.took_s) > 0
        assert here.overshoot == 0


async def test_an_overshoot_is_seen(tmp_path: Path) -> None:
    """What was granted beyond the limit at one moment counts, by how much it was."""

    async def nothing(_: object) -> None:
        await asyncio.sleep(0)

    async with scene(tmp_path) as here:
        here.note(CAP)
        await here.outage("none", (nothing, nothing), 0.2)

        assert here.overshoot >= MOST
