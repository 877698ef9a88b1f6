"""Owns `handrail keys`: makes a key for a listener that others can reach."""

from __future__ import annotations

import argparse
import secrets
from typing import TYPE_CHECKING

import msgspec

from proxy import identity

if TYPE_CHECKING:
    from argparse import _SubParsersAction

SCOPES = {"expires": "expires", "agent": "agent", "model": "models", "endpoint": "endpoints"}
"""Flags, and what they become in the entry."""


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "keys",
        help="make a key for auth.keys_file",
        description="Make a key: print it once, and its entry for the file that `auth.keys_file` names.",
    )
    parser.add_argument("name", help="who will use it; appears in records as the principal")
    parser.add_argument("--expires", metavar="DATE", help="ISO 8601; it opens nothing from then on")
    parser.add_argument("--agent", metavar="ID", help="the agent that it is, where it is not `agent.id`")
    parser.add_argument("--model", action="append", metavar="NAME", help="it may ask for these only")
    parser.add_argument("--endpoint", action="append", metavar="NAME", help="it may call these only, as in /coverage")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print a new key, once, and its entry for the keys file; raise ConfigError for what cannot be in one."""
    text, digest = identity.new_key(secrets.token_bytes(identity.RANDOM_BYTES))
    said = {field: value for flag, field in SCOPES.items() if (value := getattr(chosen, flag))}
    entry = f"- {msgspec.json.encode({'name': chosen.name, 'sha256': digest, **said}).decode()}"
    identity.load_keys(entry, f"`handrail keys {chosen.name}`")
    print(f"key (shown once, give it to {chosen.name}): {text}")
    print(f"entry for the keys file:\n{entry}")
    return 0
