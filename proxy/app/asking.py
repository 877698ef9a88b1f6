"""Owns what is asked of all tiers together: one that is away is named, and keeps no other from answering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

import msgspec

from proxy import dossier
from proxy.errors import HandrailError
from proxy.ports import Tier
from proxy.terms import Row, Selection, Table

T = TypeVar("T")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the tiers have."""

    which: Selection
    """What was asked for, with the conversations that it turned out to mean."""
    rows: Mapping[str, tuple[Row, ...]]
    """By tier."""
    away: Mapping[str, str]
    """Tiers that could not be asked, and why."""

    @property
    def newest(self) -> list[Row]:
        """Return of each row the version that counts."""
        return dossier.newest(row for rows in self.rows.values() for row in rows)


async def gather(tiers: Mapping[str, Tier], which: Selection) -> Found:
    """Return the rows of conversations and of customers, those first that only a customer's links lead to."""

    async def read(tier: Tier) -> tuple[Row, ...]:
        return tuple([row async for row in tier.rows(which)])

    while True:
        rows, away = await _each(tiers, read)
        widened = dossier.widened(which, (row for some in rows.values() for row in some))
        if widened == which:
            return Found(which=which, rows=rows, away=away)
        which = widened


async def erase(
    tiers: Mapping[str, Tier], which: Selection
) -> tuple[Mapping[str, Mapping[Table, int]], Mapping[str, str]]:
    """Erase from every tier that can be reached; return how many rows of each table went, and the tiers that could
    not be."""
    return await _each(tiers, lambda tier: tier.erase(which))


async def search(
    tiers: Mapping[str, Tier], needles: Collection[str]
) -> tuple[Mapping[str, Mapping[str, int]], Mapping[str, str]]:
    """Return in how many places of each tier each needle occurs, and the tiers that could not be searched."""
    return await _each(tiers, lambda tier: tier.search(needles))


async def _each(tiers: Mapping[str, Tier], ask: Callable[[Tier], Awaitable[T]]) -> tuple[dict[str, T], dict[str, str]]:
    """Ask one tier after the other: what a shelf is sent meanwhile comes from a tier before it."""
    answers: dict[str, T] = {}
    away: dict[str, str] = {}
    for name, tier in tiers.items():
        try:
            answers[name] = await ask(tier)
        except HandrailError as error:
            away[name] = error.message
    return answers, away
