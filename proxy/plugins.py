"""Owns finding a plug-in by its name: `load("guards", "pii")` is the file `proxy/guards/pii.py`, the only registry.

In: a shelf and a name from config. Out: the module. Never: a list of plug-ins kept anywhere else.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from types import ModuleType

NAME = re.compile(r"[a-z][a-z0-9_]*")


class UnknownPlugin(Exception):
    """There is no such plug-in, or it cannot be loaded here; the message says what to do."""


def load(shelf: str, name: str, extra: str = "") -> ModuleType:
    """Import the plug-in; the packages it needs come with this extra, or one that is named like it."""
    known = names(shelf)
    if name not in known:
        raise UnknownPlugin(f"there is no {name!r} in {shelf}: {_choices(name, known)}")
    try:
        return importlib.import_module(f"proxy.{shelf}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "proxy":
            raise
        raise UnknownPlugin(
            f"{name!r} in {shelf} needs the package {error.name!r}: pip install 'handrail[{extra or name}]'"
        ) from error


def names(shelf: str) -> list[str]:
    """Return the names of all plug-ins of a shelf."""
    package = importlib.import_module(f"proxy.{shelf}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if NAME.fullmatch(module.name))


def _choices(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}it has {', '.join(known) or 'nothing'}"
