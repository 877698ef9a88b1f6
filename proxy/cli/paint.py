"""Owns how text looks on a terminal: colours only where somebody sees them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

_STEERING = {
    code: f"\\u{code:04x}"
    for code in (*range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
"""C1 controls, and what turns the direction of a line; those before 0x20 JSON escapes by itself."""
_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}


def coloured() -> bool:
    """Say whether stdout is a terminal that wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Return the text in a colour, or as it is where nobody sees colours."""
    return f"\033[{_CODES[colour]}m{text}\033[0m" if coloured() else text


def clean(text: str) -> str:
    """Return what a customer or a model wrote as one line that cannot steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def document(value: object, indent: int | None = None) -> str:
    """Return JSON that cannot steer a terminal either: what it is not made to escape, and some terminals obey, is."""
    return json.dumps(value, ensure_ascii=False, indent=indent).translate(_STEERING)


def rows(pairs: Iterable[tuple[str, str]], indent: str = "  ") -> str:
    """Return lines of `name  value`, names aligned and values that have several lines indented under the first."""
    lines = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in lines), default=0)
    gap = "\n" + indent + " " * (width + 2)
    return "\n".join(
        f"{indent}{paint(name.ljust(width), 'dim')}  {value.replace(chr(10), gap)}" for name, value in lines
    )
