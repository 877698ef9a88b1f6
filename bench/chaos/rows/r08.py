"""Owns row R8: how long a Handrail takes to start on the journal of 100,000 calls that a killed process left.

The process that is killed has kept records and an audit log (two entries a call), has records in SQLite's log that are
not in its file yet, and a thousand calls open that must be recovered. What is measured is the time from the start of
`handrail serve` (`durability: disk`, audit required) until /readyz says yes, and apart from it what Python takes to
import it. The files are dropped from the page cache before, as far as the system does that.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from bench.chaos.durable import REQUIRED, Server
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.store_cost import exchange_of
from proxy import audit
from proxy.journal.log import Log, LogSettings
from proxy.sealing import PLAIN
from proxy.stores.sqlite import Reader
from proxy.stores.sqlite.books import Books, Operation
from proxy.stores.sqlite.checkpoints import copy_log
from proxy.stores.sqlite.contents import Contents
from proxy.stores.sqlite.file import connect
from proxy.terms import Settlement, State

TITLE = "cold start with a journal of 100 k records"
GATE = "at most 2 s + import"
STRETCH = "at most 1 s + import"

FULL, SHORT = 100_000, 2_000
OPEN = 1_000
"""Calls that were in flight when the process was killed."""
BATCH = 500
UNCOPIED = 10
"""Newest batches that stand in SQLite's log alone."""
STARTS = 5
NOWHERE = "http://127.0.0.1:9/v1"
KEPT = ("handrail.yaml", "policy.yaml")


def leave(folder: Path, records: int) -> None:
    """Write what is left, and die."""
    state = folder / ".handrail"
    state.mkdir(parents=True)
    (state / "audit.key").write_text("11" * 32)
    (state / "audit.key").chmod(0o600)
    log = Log.open(LogSettings(folder=state / "audit", seed=b"\x11" * 32), 0)
    connection = connect(str(state / "handrail.sqlite"), lasting=True)
    books = Books(connection, Contents(PLAIN))
    for first in range(0, records + OPEN, BATCH):
        numbers = range(first, min(first + BATCH, records + OPEN))
        books.commit([one for number in numbers for one in _operations(books, number, number < records)])
        log.append([one for number in numbers for one in _entries(number, number < records)])
        log.roll(0)
        if first < records + OPEN - UNCOPIED * BATCH:
            with closing(connect(str(state / "handrail.sqlite"), lasting=True)) as other:
                copy_log(other, lasting=True)
    log.checkpoint()
    os.kill(os.getpid(), signal.SIGKILL)


def _operations(books: Books, number: int, done: bool) -> Iterator[Operation]:
    exchange = exchange_of(number, State.DISPATCHED)
    yield partial(books.dispatch, exchange, 1)
    if done:
        yield partial(books.finish, exchange_of(number, State.COMPLETE))
        attempt = exchange.attempts[0]
        paid = Settlement(reservation_id=attempt.reservation_id, nanousd=1, tokens=1, counters=attempt.counters)
        yield partial(books.settle, paid, attempt.started_ms)


def _entries(number: int, done: bool) -> Iterator[audit.Writer]:
    yield partial(audit.dispatched, exchange_of(number, State.DISPATCHED))
    if done:
        yield partial(audit.finished, exchange_of(number, State.COMPLETE))


def forgotten(folder: Path) -> None:
    """Have the system drop the files of a folder from its cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def imported_s() -> float:
    """Return how long Python takes to import what `handrail serve` does."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import proxy.__main__, proxy.cli, proxy.app"], check=True)
        took.append(time.perf_counter() - began)
    return median(took)


async def started_s(folder: Path) -> float:
    """Start on what was left; return after how many seconds it was ready."""
    server = Server(folder, NOWHERE, REQUIRED)
    took = await server.start()
    await server.end()
    return took


def run(plan: Plan) -> Outcome:
    """Leave a journal, and start on copies of it."""
    records = FULL if plan.full else SHORT
    left, work = plan.folder / "left", plan.folder / "work"
    for folder in (left, work):
        shutil.rmtree(folder, ignore_errors=True)
    process = get_context("spawn").Process(target=leave, args=(left, records))
    process.start()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError("the journal could not be made")
    took = []
    for _ in range(STARTS if plan.full else 1):
        shutil.copytree(left, work)
        forgotten(work)
        took.append(asyncio.run(started_s(work)))
        with Reader(str(work / ".handrail" / "handrail.sqlite")) as reader:
            found, flying = len(list(reader.between(0, 1 << 62))), len(reader.in_flight())
        shutil.rmtree(work)
    imports = imported_s()
    size = sum(path.stat().st_size for path in left.rglob("*") if path.is_file())
    figures: dict[str, Figure] = {
        "start beyond import, s, slowest": round(max(took) - imports, 2),
        "start beyond import, s, median": round(median(took) - imports, 2),
        "import, s": round(imports, 2),
        "records lost": records + OPEN - found,
        "calls still open": flying,
        "records": records,
        "calls recovered at the start": OPEN,
        "bytes on disk": size,
        "starts": len(took),
        "load of the machine": round(os.getloadavg()[0], 1),
    }
    shutil.rmtree(left)
    exact = within(figures, most={"records lost": 0, "calls still open": 0})
    met = exact and within(figures, most={"start beyond import, s, slowest": 2})
    stretch = met and within(figures, most={"start beyond import, s, slowest": 1})
    return Outcome(figures=figures, met=met, stretch=stretch)
