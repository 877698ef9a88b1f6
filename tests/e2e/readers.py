"""Owns parsers of JSON that disagree, as those of agents, providers and tools do: what one takes, another does not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

Reader = Callable[[bytes], Any]
"""Takes bytes and returns a tree, or raises ValueError."""

_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*|#[^\n]*', re.DOTALL)
_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key.casefold(): value for key, value in pairs}


def _first_folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return _folded(pairs[::-1])


def _cut(value: Any) -> Any:
    return value.partition("\0")[0] if isinstance(value, str) else value


def _terminated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """End every string where C does."""
    return {_cut(key): _cut(value) for key, value in pairs}


def _first_terminated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return _terminated(pairs[::-1])


def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _leading(text: str) -> Any:
    """Read one value and leave what follows, as a decoder of streams does."""
    return json.JSONDecoder().raw_decode(text.lstrip())[0]


def _overlong(data: bytes) -> str:
    """Decode two-byte forms of ASCII, as decoders did before they were forbidden."""
    shortened = re.sub(
        rb"[\xc0\xc1][\x80-\xbf]", lambda found: bytes([(found[0][0] & 3) << 6 | found[0][1] & 63]), data
    )
    return shortened.decode("utf-8", "replace")


def _plain(text: str) -> str:
    return _COMMA.sub(r"\1", _COMMENT.sub(r"\1", text))


_LOOSE_NUMBER = re.compile(r'("(?:\\.|[^"\\])*")|(?<=[:\[,\s])\+?0*(\d+)(?=[,}\]\s.])')


READERS: dict[str, Reader] = {
    "last key wins": lambda data: json.loads(_text(data)),
    "first key wins": lambda data: json.loads(_text(data), object_pairs_hook=_first),
    "msgspec": msgspec.json.decode,
    "any case": lambda data: json.loads(_text(data), object_pairs_hook=_folded),
    "any case, first key wins": lambda data: json.loads(_text(data), object_pairs_hook=_first_folded),
    "doubles only": lambda data: json.loads(_text(data), parse_int=float),
    "control characters": lambda data: json.loads(_text(data), strict=False),
    "one value, then anything": lambda data: _leading(_text(data)),
    "the encoding guessed": json.loads,
    "a BOM skipped": lambda data: json.loads(data.decode("utf-8-sig")),
    "broken UTF-8 replaced": lambda data: json.loads(data.decode("utf-8", "replace")),
    "broken UTF-8 dropped": lambda data: json.loads(data.decode("utf-8", "ignore")),
    "Latin-1": lambda data: json.loads(data.decode("latin-1")),
    "overlong UTF-8": lambda data: json.loads(_overlong(data)),
    "strings end at NUL": lambda data: json.loads(_text(data), object_pairs_hook=_terminated),
    "strings end at NUL, first key wins": lambda data: json.loads(_text(data), object_pairs_hook=_first_terminated),
    "the text ends at NUL": lambda data: json.loads(_text(data.partition(b"\0")[0])),
    "comments and commas": lambda data: json.loads(_plain(_text(data))),
    "single quotes": lambda data: json.loads(_text(data).replace("'", '"')),
    "numbers as in C": lambda data: json.loads(_LOOSE_NUMBER.sub(r"\1\2", _text(data))),
}


def trees(data: bytes) -> dict[str, Any]:
    """Return what each reader makes of the bytes; those that refuse them are left out."""
    read: dict[str, Any] = {}
    for name, reader in READERS.items():
        try:
            read[name] = reader(data)
        except (ValueError, RecursionError, msgspec.DecodeError):
            continue
    return read
