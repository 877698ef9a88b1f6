"""Owns the strict reading of a request body: one reading is possible, or the body is refused.

In: the client's bytes. Out: the JSON tree that every conforming parser sees in them. Never: a guess. Two parsers that
disagree about one body are how a call is judged as one thing and served as another.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from proxy.errors import BadRequest

DEPTH = 64

_WRITTEN = frozenset({"content", "text", "refusal", "reasoning_content", "reasoning", "arguments", "input"})
"""What people, models and tools write: it may hold NUL, and who stops there finds a part of what was judged."""

_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
_PACK = msgspec.msgpack.Encoder().encode


def read(body: bytes) -> dict[str, Any]:
    """Return the object in `body`; raise BadRequest unless it is UTF-8 without BOM, at most 64 levels deep, has no key
    twice, no lone surrogate, NUL only in texts, and only numbers that a 64-bit integer or a finite double holds."""
    try:
        tree = _DECODE(body)
        if body.count(b"[") + body.count(b"{") > DEPTH:
            _check_depth(tree)
        _PACK(tree)  # knows integers of 64 bits and no others
    except RecursionError:
        raise _too_deep() from None
    except OverflowError:
        raise BadRequest("A number in the body does not fit in 64 bits.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {_reason(error)}.", code="invalid_json") from None
    if type(tree) is not dict:
        raise BadRequest("The body must be a JSON object.", code="invalid_json")
    _check_keys(body, tree)
    if b"\\u0000" in body:
        _check_nul(tree, written=False)
    return tree


def _check_depth(tree: Any) -> None:
    level = [tree]
    for _ in range(DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise _too_deep()


def _check_keys(body: bytes, tree: dict[str, Any]) -> None:
    """Refuse a key that appears twice.

    The decoder keeps the last of two. Written again, the tree then lacks at least the colon of the lost pair. Nothing
    can make up for it: a colon is either written as itself, inside a string or not, and then written again, or as
    `\\u003a`, and then the body says `\\u003`. So equal bytes, or equally many colons and no such escape, prove that
    no pair was lost; everything else is read once more, pair by pair.
    """
    again = _ENCODE(tree)
    if again == body or (again.count(b":") == body.count(b":") and b"\\u003" not in body):
        return
    json.loads(body, object_pairs_hook=_no_key_twice)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BadRequest(f"The key {key!r} appears twice in one object.", code="duplicate_key", param=key)
        seen.add(key)


def _check_nul(node: Any, *, written: bool) -> None:
    """Refuse NUL in keys and names: parsers in C end a string there, and so find another one."""
    if type(node) is dict:
        for key, child in node.items():
            _check_nul(key, written=False)
            _check_nul(child, written=key in _WRITTEN)
    elif type(node) is list:
        for child in node:
            _check_nul(child, written=written)
    elif type(node) is str and "\0" in node and not written:
        raise BadRequest("The body has NUL in a key or a name, where some parsers end it.", code="invalid_json")


def _too_deep() -> BadRequest:
    return BadRequest(f"The body is nested deeper than {DEPTH} levels.", code="invalid_json")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error).removeprefix("JSON is malformed: ")
