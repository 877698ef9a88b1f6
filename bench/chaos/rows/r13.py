"""Owns row R13: PostgreSQL is dead for ten minutes at 200 calls a second, and nothing is lost, doubled or late.

The calls are written as fast as the store takes them, not over ten real minutes: what waits is the same. While it
waits, processes that ship are killed at random, and the database itself is killed in the midst of catching up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from sqlite3 import connect

import msgspec

from bench.chaos.rows_api import Outcome, Plan, within
from bench.store_cost import exchange_of
from proxy.stores import postgres, sqlite
from proxy.stores.sqlite.tables import select
from proxy.terms import Handoff, Held, Kept, Secret, Session, State, Table
from tests.postgres_servers import PASSWORD, PostgresServer, of_the_system, of_the_wheel

TITLE = "Postgres dead 10 min at 200 rps: lost/dup/catch-up"
GATE = "0 / 0 / 60 s"
STRETCH = "0 / 0 / 20 s"

CALLS = {True: 120_000, False: 3_000}
KILLS = {True: 8, False: 2}
"""Of the process that ships, while the database is away."""
_PATIENCE_S = 600.0
_TURNS = 8
"""Calls of one conversation."""


def run(plan: Plan) -> Outcome:
    """Write while the database is dead, have it back, and compare every row."""
    calls = CALLS[plan.full]
    shutil.rmtree(plan.folder / "state", ignore_errors=True)
    (plan.folder / "state").mkdir(parents=True)
    path = str(plan.folder / "state" / "handrail.sqlite")
    programs = of_the_wheel() or of_the_system()
    if programs is None:
        return Outcome(figures={}, met=False, notes=("there is no PostgreSQL here",))
    with PostgresServer(programs) as server:
        asyncio.run(_prepare(path, server))
        server.kill()
        wrote_s = _timed(lambda: asyncio.run(_write(path, calls)))
        kills = _ship_in_vain(path, server, KILLS[plan.full], plan)
        caught_up_s = _catch_up(path, server, plan)
        figures = {**asyncio.run(_compare(path, server)), "catch_up_s": round(caught_up_s, 1)}
    figures |= {
        "rows_per_s": round(int(figures["rows"]) / caught_up_s),
        "written_in_s": round(wrote_s, 1),
        "kills": kills,
    }
    gate = {"lost": 0, "doubled": 0, "different": 0}
    met = within(figures, most={**gate, "catch_up_s": 60}, least={"rows": calls})
    return Outcome(
        figures=figures,
        met=met,
        stretch=met and within(figures, most={"catch_up_s": 20}),
        notes=(
            "calls were written as fast as the store took them, not over ten minutes",
            "catching up was timed from the start of the database's process, with the database killed once more in its"
            " midst and started again, and with the process that ships killed once",
        ),
    )


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


async def _prepare(path: str, server: PostgresServer) -> None:
    """Have the schema made, and rows wait for the shelf from the first on."""
    async with sqlite.open(sqlite.Settings(path=path)):
        await asyncio.to_thread(sqlite.enlist, path, ["warm"])
    async with postgres.open(postgres.Settings(url=server.url, password=Secret(PASSWORD))) as shelf:
        await shelf.write([])


async def _write(path: str, calls: int) -> None:
    async with sqlite.open(sqlite.Settings(path=path)) as store:
        for number in range(calls):
            call = exchange_of(number, State.COMPLETE)
            store.finish(call)
            if call.session.turn == _TURNS:
                await _beside(store, call.session.id, call.id, call.started_ms)
            while store.backlog > 1000:  # noqa: ASYNC110 - the queue empties by itself
                await asyncio.sleep(0)


async def _beside(store: sqlite.SqliteStore, session: str, call: str, at_ms: int) -> None:
    """Write what else a conversation leaves, some of it twice."""
    store.save(Session(id=session, labels=("first",)), at_ms)
    store.save(Session(id=session, labels=("second",)), at_ms)
    store.keep(Kept(exchange_id=call, at_ms=at_ms, policy_digest="d"))
    held = Held(
        id=f"hd_{call}",
        key=call,
        session_id=session,
        agent="refunds",
        tenant="acme",
        tool="refund",
        arguments='{"amount":50}',
        rule="pack/refund@1",
        created_ms=at_ms,
        expires_ms=at_ms + 1000,
    )
    await store.hold(held)
    packet = Handoff(
        id=f"ho_{call}",
        session_id=session,
        exchange_id=call,
        at_ms=at_ms,
        agent="refunds",
        tenant="acme",
        queue="default",
        rule="pack/angry@1",
        reason="the customer asks for a person",
    )
    await store.hand_over(packet)
    await store.close_handoff(packet.id, "somebody", at_ms + 1)


@contextlib.contextmanager
def _shipping(path: str, server: PostgresServer) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that ships, as `handrail serve` does; leaving kills it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.chaos.shipper", path, server.url], env={**os.environ, "PGPASSWORD": PASSWORD}
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _ship_in_vain(path: str, server: PostgresServer, kills: int, plan: Plan) -> int:
    dice = plan.dice("kills")
    for _ in range(kills):
        with _shipping(path, server):
            time.sleep(dice.uniform(0.3, 1.2))
    return kills


def _catch_up(path: str, server: PostgresServer, plan: Plan) -> float:
    """Return how long it took until nothing waited, from the moment at which the database was started."""
    began = time.monotonic()
    server.start()
    with _shipping(path, server):
        _wait(path, at_most=_left(path) * 2 // 3)
        server.kill()
        server.start()
        _wait(path, at_most=_left(path) // 2)
    with _shipping(path, server):
        _wait(path, at_most=0)
    return time.monotonic() - began


def _wait(path: str, at_most: int) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while _left(path) > at_most:
        if time.monotonic() > until_s:
            raise TimeoutError("what waits is not shipped")
        time.sleep(0.05)


def _left(path: str) -> int:
    return asyncio.run(sqlite.Spool(path, "warm").pending())[0]


async def _compare(path: str, server: PostgresServer) -> dict[str, int | float | str]:
    """Compare every row of the file with what the database has of it."""
    counts = {"rows": 0, "lost": 0, "doubled": 0, "different": 0}
    for table in Table:
        here = await asyncio.to_thread(_rows_here, path, table)
        there = [tuple(row) for row in await server.run(_THERE.format(table))]
        by_id = {row[0]: row for row in there}
        counts["rows"] += len(here)
        counts["doubled"] += len(there) - len(by_id)
        counts["lost"] += sum(name not in by_id for name in here)
        counts["different"] += sum(
            name in by_id and (version, _tree(body)) != (by_id[name][1], _tree(by_id[name][2]))
            for name, (version, body) in here.items()
        )
    return dict(counts)


_THERE = "SELECT id, version, body::text FROM handrail.{0}"


def _rows_here(path: str, table: Table) -> dict[str, tuple[int, str]]:
    with contextlib.closing(connect(path)) as connection:
        found = connection.execute(select(table, "TRUE")).fetchall()
    return {name: (version, body) for name, version, _, _, _, body in found}


def _tree(body: str) -> object:
    return msgspec.json.decode(body)
