"""Owns the proof of proxy/app/erasing.py: what is erased goes with its traces, and the audit log hears of it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from proxy import app, audit, journal
from proxy.journal.log import Log
from proxy.stores import sqlite
from proxy.terms import Selection, State, Table
from tests.app.running import ask, options
from tests.journal.written import entries, look, settings
from tests.stores.samples import AT_MS, LATER_MS, attempt, exchange, sent

ASKED = Selection(sessions=frozenset({"se_one"}), names=frozenset({"ann"}))


async def erase(folder: Path, at_ms: int = LATER_MS) -> app.Erased:
    """Erase the conversation that the folder has."""
    loaded = await asyncio.to_thread(app.read_config, app.Options(path=folder / "handrail.yaml"))
    async with app.open_tiers(loaded, {}) as tiers:
        found = await app.gather(tiers, ASKED)
        return await app.erase_found(loaded, tiers, found, "dpo", at_ms)


def path_of(folder: Path) -> str:
    """Name the records' file."""
    return str(folder / ".handrail" / "handrail.sqlite")


async def test_what_a_dead_process_left_goes_too(folder: Path) -> None:
    """A call whose process died is recovered first, so that nothing of it can come back; a live one is named."""
    async with sqlite.open(sqlite.Settings(path=path_of(folder))) as store:
        for name, at_ms in (("ex_dead", AT_MS), ("ex_live", LATER_MS)):
            call = sent(name, started_ms=at_ms)
            await store.dispatch(replace(call, session=replace(call.session, id="se_one")))

    done = await erase(folder)

    assert (("ex_live",), 1, False, ("ann",)) == (
        done.in_flight,
        done.rows["local"][Table.EXCHANGES],
        done.proven,
        done.too_short,
    )
    async with sqlite.open(sqlite.Settings(path=path_of(folder))) as store:
        assert [] == await store.recover(LATER_MS * 2)
    assert (await erase(folder)).proven


async def test_the_audit_log_hears_of_it_once(folder: Path) -> None:
    """Salts of the conversation's entries go, and of no other; the next process to serve puts down that it was done, by
    whom and how much, and not whose it was. The log stays as it was signed."""
    call, other = (exchange(name, State.COMPLETE, attempt(name, 1, State.COMPLETE, 5)) for name in ("ex_1", "ex_2"))
    call = replace(call, session=replace(call.session, id="se_one"), customer="cu_1")
    folder_of_log = folder / ".handrail" / "audit"
    seed = "07" * 32
    await asyncio.to_thread((folder / "audit.key").write_text, seed)
    log = await asyncio.to_thread(Log.open, replace(settings(folder_of_log), seed=bytes.fromhex(seed)), AT_MS)
    await asyncio.to_thread(log.append, [partial(audit.finished, one) for one in (call, other)])
    await asyncio.to_thread(log.checkpoint)
    await asyncio.to_thread(log.close)
    async with sqlite.open(sqlite.Settings(path=path_of(folder))) as store:
        store.finish(call)
        store.finish(other)
    chosen = await asyncio.to_thread(options, folder, "audit: {key_file: audit.key}\n")

    done = await erase(folder)
    async with app.running(chosen) as here:
        await ask(here)

        async def heard() -> bool:
            return not await here.store.notices()

        async with asyncio.timeout(10):
            while not await heard():  # noqa: ASYNC110 - another task of the same process does it
                await asyncio.sleep(0.02)

    [told] = [entry for entry in await asyncio.to_thread(entries, folder_of_log) if entry["kind"] == "erased"]
    assert (1, True) == (done.salts, done.proven)
    assert [True, False] == [
        (await asyncio.to_thread(journal.salt_of, folder_of_log, n)) == journal.ERASED for n in (1, 2)
    ]
    assert {"by": "dpo", "conversations": 1, "salts": 1, "proven": True, "away": [], "rows": {"local": 2}} == {
        name: told[name] for name in ("by", "conversations", "salts", "proven", "away", "rows")
    }
    assert () == (await asyncio.to_thread(look, folder_of_log)).problems
    with closing(sqlite3.connect(path_of(folder))) as connection:
        assert [] == connection.execute("SELECT * FROM notices").fetchall()
