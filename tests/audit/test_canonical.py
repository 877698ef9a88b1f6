"""Owns the proof of proxy/audit/canonical.py: equal values have equal bytes, those that RFC 8785 says."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.canonical import canonical, number
from proxy.terms import Json

# RFC 8785, appendix B: bits of a double, and how it is written.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "written"), NUMBERS)
def test_numbers_are_written_as_the_rfc_says(bits: str, written: str) -> None:
    """Each double of the RFC's table comes out as the table says."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))

    assert written == number(value)


def test_the_example_of_the_rfc() -> None:
    """The object of RFC 8785, 3.2.2, becomes the bytes of 3.2.3."""
    text = (
        r'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001], '
        r'"string": "\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}'
    )

    assert canonical(json.loads(text)) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_their_utf_16_units() -> None:
    """The order of RFC 8785, 3.2.3, in which an emoji comes before a Hebrew letter of the last block."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\u00f6"]

    assert ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"] == list(
        json.loads(canonical(dict.fromkeys(keys, 1)))
    )


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2**53, id="an integer that a double has not"),
        pytest.param([-(2**53)], id="or below zero"),
        pytest.param(float("nan"), id="NaN"),
        pytest.param({"a": float("-inf")}, id="infinity"),
        pytest.param("\ud800", id="half a character"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Json) -> None:
    """What others would read differently is an error."""
    with pytest.raises(ValueError, match=r"."):
        canonical(value)


TREES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


PLAIN: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=12,
)


@given(TREES)
def test_it_says_the_same_and_is_its_own_form(tree: Json) -> None:
    """Read back, canonical bytes are the value; and canonical again they are themselves."""
    data = canonical(tree)

    assert (tree, data) == (read := json.loads(data), canonical(read))


@given(PLAIN)
def test_what_needs_only_sorting_is_sorted(tree: Json) -> None:
    """As another encoder sorts it, which knows of ASCII alone: keys in order, whatever is in them."""
    assert json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == canonical(tree)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(value: float) -> None:
    """No digit that matters is lost."""
    assert value == float(number(value))
