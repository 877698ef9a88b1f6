"""Owns a process that ships what waits in a file to PostgreSQL and does nothing else: rows kill it.

Usage: python -m bench.chaos.shipper FILE URL, with the password in PGPASSWORD.
"""

from __future__ import annotations

import asyncio
import os
import sys

from proxy.app import SystemClock
from proxy.shipping import Pace, Shipper
from proxy.stores import postgres, sqlite
from proxy.terms import Secret


async def _ship(path: str, url: str) -> None:
    settings = postgres.Settings(url=url, password=Secret(os.environ["PGPASSWORD"]))
    async with postgres.open(settings) as shelf:
        await Shipper(sqlite.Spool(path, shelf.name), shelf, SystemClock(), lambda _: None, Pace()).ship()


if __name__ == "__main__":
    asyncio.run(_ship(*sys.argv[1:]))
