"""Owns the name by which the ledger knows a replica: kept beside its books, since what it says of itself is in them."""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.errors import ConfigError


@contextmanager
def named(path: str) -> Iterator[str]:
    """Yield the name in a file, made at the first start; raise ConfigError where another process goes by it."""
    try:
        with Path(path).open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            name = file.read().strip()
            if not name:
                name = secrets.token_hex(8)
                file.write(name + "\n")
                file.flush()
            yield name
    except BlockingIOError:
        raise ConfigError(
            [f"state.path: another process keeps its books beside {path}; with `budgets` each needs its own"]
        ) from None
    except OSError as error:
        raise ConfigError([f"state.path: {path} cannot be used: {error.strerror}"]) from error
