"""Owns `handrail sessions`: what is kept of a customer or a conversation in all tiers, shown, exported, erased."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from proxy import app, config, conversation, dossier
from proxy.cli import configuration, dossiers
from proxy.cli.desk import logged_in
from proxy.cli.paint import document
from proxy.errors import ConfigError
from proxy.ports import Tier
from proxy.sealing import Seal
from proxy.terms import Row, Selection

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXAMPLES = """examples:
  handrail sessions show --customer ann@example.org           on every channel, in every tier
  handrail sessions export se_0f3a… --into ann.json           all that is stored, for who may ask for it
  handrail sessions erase --customer ann@example.org          says what would go
  handrail sessions erase --customer ann@example.org --yes    erases it, and searches every tier for it
"""
Run = Callable[[argparse.Namespace, config.Loaded, Mapping[str, Tier]], Coroutine[None, None, int]]


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "sessions",
        help="show, export or erase what is kept of a customer or a conversation",
        description="Show, export or erase what is kept of a customer or a conversation, in every tier. Exit status: "
        "0 fine; 1 nothing is known, something is left, or a tier could not be reached; 2 it cannot be asked.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    show = _verb(verbs, "show", "print conversations, call by call", _show)
    show.add_argument("--json", action="store_true", help="as JSON")
    export = _verb(verbs, "export", "write everything that is stored of them", _export)
    export.add_argument("--into", type=Path, metavar="FILE", help="a new file instead of the terminal")
    export.add_argument("--lines", action="store_true", help="one row a line instead of one document")
    erase = _verb(verbs, "erase", "erase them from every tier, and search every tier for what is left", _erase)
    erase.add_argument("--yes", action="store_true", help="do it; without this only what would go is said")
    erase.add_argument("--by", help="who erases, for the audit log (default: who is logged in)")
    erase.add_argument("--json", action="store_true", help="as JSON")


def _verb(
    verbs: _SubParsersAction[argparse.ArgumentParser], name: str, words: str, work: Run
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    configuration.add(parser)
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("id", nargs="?", help="a conversation, as `handrail explain` names it")
    subject.add_argument(
        "--customer", metavar="NAME", help="as calls name it: `user`, or metadata user_id, customer_id"
    )
    parser.add_argument("--tenant", help="whose customer (default: `agent.tenant`)")
    parser.set_defaults(run=lambda chosen: asyncio.run(_run(chosen, work)))
    return parser


async def _run(chosen: argparse.Namespace, work: Run) -> int:
    options = app.Options(path=chosen.config, environment=dict(os.environ))
    loaded = await asyncio.to_thread(app.read_config, options)
    async with app.open_tiers(loaded, options.environment) as tiers:
        return await work(chosen, loaded, tiers)


# --- the commands ---------------------------------------------------------------------------------------------------


async def _show(chosen: argparse.Namespace, loaded: config.Loaded, tiers: Mapping[str, Tier]) -> int:
    found = await app.gather(tiers, await _selection(chosen, loaded))
    known = await _folded(loaded, found)
    if chosen.json:
        print(document({"conversations": msgspec.to_builtins(known), "away": dict(found.away)}))
    elif known:
        print("\n\n".join(map(dossiers.conversation, known)))
    return told(found)


async def _export(chosen: argparse.Namespace, loaded: config.Loaded, tiers: Mapping[str, Tier]) -> int:
    found = await app.gather(tiers, await _selection(chosen, loaded))
    if chosen.lines:
        seal = await asyncio.to_thread(app.content_seal, loaded)
        text = "".join(f"{document(_line(row, seal))}\n" for row in found.newest)
    else:
        text = document(await _document(chosen, loaded, found), indent=2) + "\n"
    if chosen.into:
        await asyncio.to_thread(_write_new, chosen.into, text)
        print(f"{chosen.into}: {len(found.newest)} rows")
    else:
        print(text, end="")
    return told(found)


async def _erase(chosen: argparse.Namespace, loaded: config.Loaded, tiers: Mapping[str, Tier]) -> int:
    found = await app.gather(tiers, await _selection(chosen, loaded))
    names = found.which.names | dossier.users(found.newest, chosen.customer or "")
    found = replace(found, which=replace(found.which, names=names))
    if not chosen.yes:
        entries = await asyncio.to_thread(app.entries, loaded, found)
        told = {"rows": dossiers.counted(found), "entries": entries, "away": dict(found.away)}
        print(document(told) if chosen.json else dossiers.plan(found, entries))
        return 1 if found.away else 0
    done = await app.erase_found(loaded, tiers, found, chosen.by or logged_in(), _now_ms())
    print(document({**msgspec.to_builtins(done), "proven": done.proven}) if chosen.json else dossiers.proof(done))
    return 0 if done.proven else 1


# --- what is asked for ------------------------------------------------------------------------------------------------


async def _selection(chosen: argparse.Namespace, loaded: config.Loaded) -> Selection:
    """Return the conversation that is named, or the customer by its digest."""
    if chosen.customer is None:
        return Selection(sessions=frozenset((chosen.id,)))
    tenant = loaded.config.agent.tenant if chosen.tenant is None else chosen.tenant
    key = await asyncio.to_thread(app.known_customer_key, loaded)
    digest = conversation.customer(chosen.customer, tenant, key)
    if not digest:
        raise ConfigError(["--customer: an empty name is nobody's"])
    return Selection(customers=frozenset((digest,)), names=frozenset((chosen.customer,)))


async def _folded(loaded: config.Loaded, found: app.Found) -> list[dossier.Conversation]:
    seal = await asyncio.to_thread(app.content_seal, loaded)
    return dossier.conversations(found.newest, seal.open)


async def _document(chosen: argparse.Namespace, loaded: config.Loaded, found: app.Found) -> dict[str, Any]:
    state = loaded.folder / loaded.config.state.path
    return {
        "exported": datetime.fromtimestamp(_now_ms() / 1000, UTC).isoformat(timespec="seconds"),
        "of": chosen.customer or chosen.id,
        "complete": not found.away,
        "tiers": {name: len(rows) for name, rows in found.rows.items()},
        "conversations": msgspec.to_builtins(await _folded(loaded, found)),
        "beside": await asyncio.to_thread(app.beside, state, found),
    }


def _line(row: Row, seal: Seal) -> dict[str, Any]:
    """Return a row as it is kept, its body opened."""
    about = {"table": row.table, "id": row.id, "at_ms": row.at_ms, "session_id": row.session_id}
    return {**about, "customer": row.customer, "body": msgspec.json.decode(seal.open(row.table, row.id, row.body))}


def told(found: app.Found) -> int:
    """Say what the answer lacks; return the exit status."""
    for tier, why in found.away.items():
        print(f"the tier {tier} cannot be reached: {why} What it has is missing here.", file=sys.stderr)
    if not found.newest:
        print("nothing is known of it", file=sys.stderr)
    return 0 if found.newest and not found.away else 1


def _write_new(path: Path, text: str) -> None:
    """Write a file that is its owner's alone: what is in it is about a person."""
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
