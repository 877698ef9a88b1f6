"""Owns `handrail audit`: checks the log that shows when it was changed, and proves what is in it, offline."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import app, audit, journal
from proxy.cli import configuration
from proxy.errors import ConfigError
from proxy.stores.sqlite import Reader

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXAMPLES = """examples:
  handrail audit key > handrail.pub              the public key, to be kept by whoever will check
  handrail audit verify --anchor CHECKPOINTS     is each entry as it was signed, and is none missing?
  handrail audit prove ex_0f3a… > ex.tlog-proof  a proof that a call is in the log, for somebody without it
  handrail audit verify-proof ex.tlog-proof --key handrail.pub
"""


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "audit",
        help="check the audit log, and prove what is in it",
        description="Check the audit log, and prove what is in it. Exit status: 0 proven, 1 not, 2 cannot be asked.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verify = _verb(verbs, "verify", "say whether the log is as it was signed", run_verify)
    verify.add_argument("--anchor", type=Path, help="checkpoints kept elsewhere (default: audit.anchor.path)")
    verify.add_argument("--records", action="store_true", help="compare the records in the store with the log as well")
    verify.add_argument("--json", action="store_true", help="as JSON")
    prove = _verb(verbs, "prove", "print the proof that a call is in the log, or that the log only grew", run_prove)
    what = prove.add_mutually_exclusive_group(required=True)
    what.add_argument("id", nargs="?", help="the id of an exchange, or of what a human ruled on")
    what.add_argument("--since", type=Path, metavar="FILE", help="an old checkpoint that the log has grown from")
    check = _verb(verbs, "verify-proof", "say what a proof shows", run_verify_proof)
    check.add_argument("file", type=Path, help="as `handrail audit prove` printed it")
    check.add_argument("--since", type=Path, metavar="FILE", help="the old checkpoint, for a proof that the log grew")
    for one in (verify, check):
        one.add_argument("--key", type=Path, help="the public key's file (default: the one that lies beside the log)")
    erase = _verb(verbs, "erase", "delete the salts of a call: nobody can show its content any more", run_erase)
    erase.add_argument("id", help="the id of an exchange, or of what a human ruled on")
    _verb(verbs, "key", "print the public key", run_key)


def _verb(
    verbs: _SubParsersAction[argparse.ArgumentParser],
    name: str,
    words: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    configuration.add(parser)
    parser.add_argument("--log", type=Path, help="the log's folder itself (default: that of the configuration)")
    parser.set_defaults(run=run)
    return parser


# --- the commands ---------------------------------------------------------------------------------------------------


def run_verify(chosen: argparse.Namespace) -> int:
    """Examine the whole log; exit 1 when something was changed."""
    place = _Place(chosen)
    key = _key(chosen, place.folder)
    anchor = chosen.anchor or place.anchor
    report = audit.examine(
        journal.lines(place.folder),
        journal.text(place.folder / journal.CHECKPOINTS),
        key,
        anchored=_read(anchor) if anchor else None,
    )
    compared, changed = _records(place) if chosen.records else (0, [])
    problems = [*report.problems, *changed]
    if chosen.json:
        told = {"log": key.name, "entries": report.entries, "signed": report.signed, "anchored": report.anchored}
        told |= {"others": list(report.others), "torn": report.torn}
        print(json.dumps({**told, "root": audit.encoded(report.root), "records": compared, "problems": problems}))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print("\n".join(_words(chosen, report, compared, key.name, changed=bool(problems))))
    return 1 if problems else 0


def _words(
    chosen: argparse.Namespace, report: audit.Report, compared: int, name: str, *, changed: bool
) -> Iterator[str]:
    """Yield what was found, and what was not looked at."""
    yield f"{name}: {report.entries} entries, {report.signed} of them signed"
    yield "THE LOG IS NOT AS IT WAS SIGNED" if changed else "every signed entry is as it was when it was signed"
    if report.torn:
        yield "its last line is not whole: a process was killed while it wrote, or one writes right now"
    if report.anchored is None:
        yield "no --anchor: that its end is missing, or that the holder of its key wrote it anew, would not show"
    else:
        yield f"{report.anchored} entries are covered by checkpoints that are kept elsewhere"
        yield from (f"there, checkpoints of {origin} are kept as well: check that log too" for origin in report.others)
    if chosen.records:
        yield f"{compared} records were compared with what the log is bound to"
    if not chosen.key:
        yield "no --key: the key beside the log was taken, and whoever can change the log can change that as well"


def _records(place: _Place) -> tuple[int, list[str]]:
    """Compare each record that is still there, and whose salt is, with the newest entry of its call."""
    calls: dict[str, tuple[int, audit.Fields]] = {}
    for index, (_, line) in enumerate(journal.lines(place.folder)):
        entry = _entry(line)
        if entry.get("kind") == "call":
            calls[str(entry["id"])] = index, entry
    compared, problems = 0, []
    with Reader(str(place.records)) as reader:
        for name, (index, entry) in calls.items():
            body, salt, sealed = reader.body(name), journal.salt_of(place.folder, index), entry.get("sealed")
            if body is None or salt == journal.ERASED or not isinstance(sealed, dict):
                continue
            compared += 1
            if not audit.opens(sealed, salt, "record", body):
                problems.append(f"{place.records}: the record of {name} is not the one that entry {index} is bound to")
    return compared, problems


def run_prove(chosen: argparse.Namespace) -> int:
    """Print a proof; exit 1 when there is nothing to prove."""
    folder = _Place(chosen).folder
    key, entries = journal.key_of(folder), [line.removesuffix(b"\n") for _, line in journal.lines(folder)]
    note = [*audit.notes(journal.text(folder / journal.CHECKPOINTS)), ""][-2]
    size = _checked(note, key, folder).size
    leaves = [audit.leaf_hash(entry) for entry in entries[:size]]
    if chosen.since:
        old = _checked(_read(chosen.since), key, chosen.since)
        print(audit.prove_growth(old.size, leaves, note), end="")
        return 0
    found = [index for index, entry in enumerate(entries) if _entry(entry).get("id") == chosen.id]
    if not found or found[-1] >= size:
        why = f"{chosen.id} is not signed yet: ask again in some seconds" if found else f"no entry of {chosen.id}"
        print(why, file=sys.stderr)
        return 1
    print(audit.prove(entries[found[-1]], found[-1], leaves, note), end="")
    return 0


def run_verify_proof(chosen: argparse.Namespace) -> int:
    """Say what a proof shows, and print its entry; exit 1 when it shows nothing."""
    key = _key(chosen, None if chosen.key else _Place(chosen).folder)
    try:
        if chosen.since:
            size = audit.grown(_read(chosen.file), _read(chosen.since), key).size
            print(f"{chosen.file}: proven: {key.name} only grew, to {size} entries")
            return 0
        found = audit.proven(_read(chosen.file), key)
    except audit.BadNote as error:
        print(f"{chosen.file}: NOT PROVEN: {error}", file=sys.stderr)
        return 1
    print(found.entry.decode())
    print(f"{chosen.file}: proven: entry {found.index} of {found.checkpoint.size} of {key.name}", file=sys.stderr)
    return 0


def run_erase(chosen: argparse.Namespace) -> int:
    """Delete the salts of all entries of an id; exit 1 when there is none."""
    folder = _Place(chosen).folder
    found = journal.about(folder, {chosen.id})
    print(f"{journal.erase(folder, found)} salts deleted; the log stays as it is")
    return 0 if found else 1


def run_key(chosen: argparse.Namespace) -> int:
    """Print the public key, as one line."""
    print(journal.key_of(_Place(chosen).folder).line)
    return 0


# --- where things are -----------------------------------------------------------------------------------------------


class _Place:
    """The log that the command line names, or a configuration."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        loaded = app.read_config(app.Options(path=chosen.config, environment=dict(os.environ)))
        section = loaded.config.audit
        self.folder: Path = chosen.log or app.audit_folder(loaded)
        self.records = loaded.folder / loaded.config.state.path
        known = section.anchor.path if section and not chosen.log else ""
        self.anchor = loaded.folder / known if known else None


def _key(chosen: argparse.Namespace, folder: Path | None) -> audit.Verifier:
    """Return the key that was given, or that lies beside the log."""
    if folder and not chosen.key:
        return journal.key_of(folder)
    try:
        return audit.verifier(_read(chosen.key))
    except audit.BadNote as error:
        raise ConfigError([f"{chosen.key}: {error}"]) from None


def _checked(note: str, key: audit.Verifier, where: Path) -> audit.Checkpoint:
    try:
        return audit.signed(note, key)
    except audit.BadNote as error:
        raise ConfigError([f"{where}: no checkpoint of this log: {error}"]) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {getattr(error, 'strerror', 'it is not UTF-8')}"]) from None


def _entry(line: bytes) -> audit.Fields:
    """Return what an entry says; nothing for one that was spoilt."""
    try:
        return dict(audit.parsed(line))
    except ValueError:
        return {}
