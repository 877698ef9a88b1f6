"""Owns `handrail retention`: says what each tier has kept for long enough, or deletes it now."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import app, config
from proxy.cli import configuration
from proxy.errors import HandrailError

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "retention",
        help="delete what every tier has kept for long enough",
        description="Delete now what `handrail serve` deletes every hour: what each tier has kept for longer than the"
        " configuration says. What waits for a human or for a tier stays.",
    )
    configuration.add(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say how much that is")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print a line for each table of each tier; 1 if a tier could not be asked."""
    loaded = app.read_config(app.Options(path=chosen.config, environment=dict(os.environ)))
    if not Path(app.state_path(loaded)).exists():
        print("nothing is recorded here yet")
        return 0
    return asyncio.run(_retain(loaded, dry_run=chosen.dry_run))


async def _retain(loaded: config.Loaded, *, dry_run: bool) -> int:
    verb, failed = "would delete" if dry_run else "deleted", 0
    async with app.open_tiers(loaded, os.environ) as tiers:
        async for tier, table, days, done in app.purge(tiers, loaded.config, int(time.time() * 1000), dry_run=dry_run):
            if isinstance(done, HandrailError):
                print(f"{tier:6} {table:10} kept {days:g} days   {done.message}")
                failed = 1
            else:
                print(f"{tier:6} {table:10} kept {days:g} days   {verb} {done}")
    for name, tables in app.retention(loaded.config).items():
        if name in tiers and not tables:
            print(f"{name:6} keeps everything for ever")
    return failed
