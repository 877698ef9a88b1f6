"""Owns the proof of proxy/stores/sqlite/needles.py: what is there is found, however it is cut and written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.stores.sqlite.needles import Needles

NAMES = ("ex_1", "a.*(b", 'say "hi"', "ünï", "back\\slash")


@given(st.lists(st.sampled_from([*(name.encode() for name in NAMES), b"-", b"ex_", b"\xff"])), st.integers(1, 9))
def test_cuts_change_nothing(parts: list[bytes], size: int) -> None:
    """However something is cut into pieces, each name is counted as often as it is there."""
    data = b"|".join(parts)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]

    assert {name: data.count(name.encode()) for name in NAMES} == dict(Needles(NAMES).in_pieces(pieces))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_found_however_it_is_written(name: str) -> None:
    """As it is, in JSON, and in JSON that is a text in JSON."""
    once = json.dumps({"of": name})
    written = "\n".join((name, once, json.dumps(once), json.dumps({"of": name}, ensure_ascii=False)))

    assert {name: 4} == dict(Needles([name]).found(written.encode()))


def test_nothing_to_look_for_is_nowhere() -> None:
    """Without names there is nothing to find; a name that is not there counts as zero."""
    assert [{}, {"x": 0}, {"x": 1}] == [
        dict(Needles(names).in_pieces([data])) for names, data in (([], b"x"), (["x"], b"y"), (["x"], b"x"))
    ]


def test_a_name_inside_a_longer_one_is_the_longer_one() -> None:
    """Where both are looked for: what is left is told either way."""
    assert {"ann": 1, "ann@example.org": 1} == dict(Needles(["ann", "ann@example.org"]).found(b"ann@example.org, ann"))
