"""Owns `handrail keys`: makes a key for a listener that others can reach."""

from __future__ import annotations

import argparse
import json
import secrets
from typing import TYPE_CHECKING

from proxy import identity

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "keys",
        help="make a key for auth.keys_file",
        description="Make a key: print it once, and its entry for the file that `auth.keys_file` names.",
    )
    parser.add_argument("name", help="who will use it; appears in records as the principal")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print a new key, once, and its entry for the keys file; raise ConfigError for a name that cannot be in one."""
    text, digest = identity.new_key(secrets.token_bytes(identity.RANDOM_BYTES))
    entry = f"- {{name: {json.dumps(chosen.name)}, sha256: {digest}}}"
    identity.load_keys(entry, f"`handrail keys {chosen.name}`")
    print(f"key (shown once, give it to {chosen.name}): {text}")
    print(f"entry for the keys file:\n{entry}")
    return 0
