"""Owns `handrail check`: is it right, before it serves; and what policies come to, rule by rule."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from proxy import accounting, app, config, policy
from proxy.cli import configuration
from proxy.cli.paint import paint, rows
from proxy.errors import ConfigError
from proxy.terms import Mode, OnDisconnect, Phase

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    check = commands.add_parser(
        "check",
        help="say everything that is wrong with a configuration and its policies",
        description="Load a configuration and its policies as `serve` would, without serving.",
    )
    configuration.add(check)
    check.add_argument("--rules", action="store_true", help="print every rule in its lowered form")
    check.add_argument("--lock", action="store_true", help="also note in policies.lock what each version now says")
    check.set_defaults(run=run_check)


def run_check(chosen: argparse.Namespace) -> int:
    """Load everything and say what was loaded."""
    environment = dict(os.environ)
    loaded = app.read_config(app.Options(path=chosen.config, environment=environment))
    snapshot = config.build(loaded, environment, simulated_url=app.PLACEHOLDER_URL, prices=accounting.price_table())
    if snapshot.candidate_problems:
        raise ConfigError(list(snapshot.candidate_problems))
    policies, candidate = snapshot.policies, snapshot.candidate
    print(paint(f"{loaded.text.path} is right.", "green"))
    print(
        rows(
            [
                ("revision", snapshot.revision),
                ("providers", ", ".join(snapshot.providers)),
                ("models", ", ".join(snapshot.table.targets) or "none listed"),
                ("policies", "\n".join(map(_document, policies.documents)) or "none"),
                ("rules", str(len(policies.rules))),
                ("candidate", "\n".join(map(_document, candidate.policies.documents)) if candidate else ""),
            ]
        )
    )
    if chosen.rules:
        _print_rules(policies)
    _lock(loaded, policies.documents, write=chosen.lock)
    return 0


def _document(document: policy.Document) -> str:
    return f"{document.name}@{document.version} ({document.path})"


def _lock(loaded: config.Loaded, documents: Sequence[policy.Document], *, write: bool) -> None:
    """Write the lock, or say which versions an existing one does not have yet."""
    path, lock = config.lock_path(loaded), config.lock_of(loaded)
    lasting = [document for document in documents if document.name != policy.KILL_SWITCH]
    new = [f"{document.name} {document.version}" for document in lasting if not lock.state(document)]
    if write:
        write_file(path, lock.add(lasting).text())
        print(f"{path}: {', '.join(new) or 'nothing'} added")
    elif new and path.exists():
        print(
            f"{paint('not locked', 'yellow')}: {', '.join(new)} (handrail check --lock adds to {path})", file=sys.stderr
        )


def explain(paths: Sequence[Path], *, as_json: bool) -> int:
    """Print every rule of some policies in its lowered form: files, or folders whose policy.yaml files are found."""
    files = files_of(paths, config.POLICY_FILE)
    if not files:
        print(f"no {config.POLICY_FILE} in {', '.join(map(str, paths))}", file=sys.stderr)
        return 1
    policies = config.policies_of(files)
    if as_json:
        print(json.dumps(msgspec.to_builtins({"documents": policies.documents, "rules": policies.rules})))
    else:
        _print_rules(policies)
    return 0


def _print_rules(policies: policy.PolicySet) -> None:
    for document in policies.documents:
        if document.on_disconnect is OnDisconnect.ABORT:
            print(f"{paint(f'{document.name}@{document.version}', 'bold')}\n{rows([('onDisconnect', 'abort')])}")
    for rule in policies.rules:
        print(f"{paint(rule.id, 'bold')}\n{rows(_lowered(rule))}")


def _lowered(rule: policy.Rule) -> list[tuple[str, str]]:
    limited, quota = rule.cap_nanousd is not None, rule.quota
    return [
        ("phase", rule.phase),
        ("adds" if quota else "key" if limited else "require" if rule.require else "when", rule.when),
        ("schema", json.dumps(rule.schema) if rule.schema is not None else ""),
        ("at most", f"{policy.in_units(quota.limit_nano)} per {quota.window}, counted by {quota.key}" if quota else ""),
        ("unless failed", quota.failed if quota else ""),
        ("limit", accounting.format_usd(rule.cap_nanousd) if rule.cap_nanousd is not None else ""),
        ("counted by", " per ".join(filter(None, (rule.scope, rule.window)))),
        ("tools", ", ".join(rule.tools)),
        ("action", rule.action),
        ("held back", f"{rule.ahead} characters" if rule.phase is Phase.CHUNK and rule.mode is Mode.ENFORCE else ""),
        ("to", (rule.way.to or f"cheapest: {', '.join(rule.way.tags)}") if rule.way else ""),
        ("message", rule.message or rule.message_expression),
        ("mode", rule.mode),
        ("onError", rule.on_error),
        ("onDeny", rule.on_deny),
        ("priority", str(rule.priority)),
        ("position", f"{rule.position} ({rule.section})"),
        ("digest", rule.digest),
    ]


def files_of(paths: Iterable[Path], name: str) -> list[Path]:
    """Return files as they are named, and of folders all that have this name."""
    return [file for path in paths for file in (sorted(path.rglob(name)) if path.is_dir() else [path])]


def write_file(path: Path, text: str) -> None:
    """Write a file so that whoever reads it meets the old one or the new one, whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from error
