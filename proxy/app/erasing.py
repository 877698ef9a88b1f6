"""Owns erasure with proof: everything that is kept of conversations goes, then every tier is searched for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from proxy import config, dossier, journal
from proxy.app.asking import Found, erase, search
from proxy.app.files import audit_folder, content_seal
from proxy.app.tiers import nothing_under_way
from proxy.ports import Tier
from proxy.stores import sqlite
from proxy.terms import Json, Table


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, and what is left of it."""

    rows: Mapping[str, Mapping[Table, int]]
    """By tier."""
    salts: int
    """Entries of the audit log that nobody can show the content of any more."""
    left: Mapping[str, Mapping[str, int]]
    """By tier and needle, in how many places it still occurs."""
    away: Mapping[str, str]
    """Tiers that could not be reached, and why."""
    too_short: tuple[str, ...] = ()
    """Names of the customer that were not searched for; their digests were."""
    in_flight: tuple[str, ...] = ()
    """Calls that were under way: what they leave when they end is not erased yet."""

    @property
    def proven(self) -> bool:
        """Say whether every tier was searched and nothing was found."""
        left = any(count for found in self.left.values() for count in found.values())
        return not (left or self.away or self.in_flight)


async def erase_found(loaded: config.Loaded, tiers: Mapping[str, Tier], found: Found, by: str, at_ms: int) -> Erased:
    """Erase what was found from every tier and prove it; it may be done again, and while Handrail serves."""
    path = str(loaded.folder / loaded.config.state.path)
    rows = found.newest
    seal = await asyncio.to_thread(content_seal, loaded)
    async with sqlite.open(sqlite.Settings(path=path, seal=seal)) as store:
        # What processes that died have left in flight becomes rows first.
        await store.recover(at_ms)
        salts = await asyncio.to_thread(_erase_salts, loaded, dossier.ids(rows))
        async with nothing_under_way(loaded, tiers):
            # Looked at last: for a turn to ship may have been waited long, and calls go on meanwhile.
            in_flight = await asyncio.to_thread(_in_flight, path, found)
            erased, away = await erase(tiers, found.which)
        needles = dossier.needles(found.which, rows)
        left, unsearched = await search(tiers, needles)
        done = Erased(
            rows=erased,
            salts=salts,
            left=left,
            away={**found.away, **away, **unsearched},
            too_short=tuple(sorted(found.which.names.difference(needles))),
            in_flight=in_flight,
        )
        if loaded.config.audit:
            await store.leave_notice(_notice(done, found, by), at_ms)
    return done


def entries(loaded: config.Loaded, found: Found) -> int:
    """Return how many entries of the audit log are about what was found."""
    folder = audit_folder(loaded)
    return len(journal.about(folder, dossier.ids(found.newest))) if folder.exists() else 0


def _erase_salts(loaded: config.Loaded, names: Sequence[str]) -> int:
    folder: Path = audit_folder(loaded)
    return journal.erase(folder, journal.about(folder, frozenset(names))) if folder.exists() else 0


def _in_flight(path: str, found: Found) -> tuple[str, ...]:
    which = found.which
    with sqlite.Reader(path) as reader:
        calls = reader.in_flight()
    return tuple(call.id for call in calls if call.session.id in which.sessions or call.customer in which.customers)


def _notice(done: Erased, found: Found, by: str) -> Mapping[str, Json]:
    """Return what the audit log says of it: how much, never whose."""
    count: dict[str, Json] = {name: sum(tables.values()) for name, tables in done.rows.items()}
    away: list[Json] = list(done.away)
    return {
        "by": by,
        "conversations": len(found.which.sessions),
        "rows": count,
        "salts": done.salts,
        "proven": done.proven,
        "away": away,
    }


def beside(state: Path, found: Found) -> Mapping[str, Sequence[Mapping[str, Json]]]:
    """Return what the file has of conversations outside the tables of the tiers."""
    with sqlite.Reader(str(state)) as reader:
        return reader.beside(found.which)
