"""Owns the proof that no pattern finds more than it is said to."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.policy.patterns import compiled
from proxy.policy.widths import widest


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("", 0, id="nothing"),
        pytest.param(r"\bORD-[0-9]{6}\b", 10, id="a count"),
        pytest.param(r"^a|bcd$", 3, id="the wider alternative"),
        pytest.param(r"(?i)(?P<a>ab|c){2,5}x?", 11, id="a repeated group"),
        pytest.param(r"(?:a{2}){3}", 6, id="a count of a count"),
        pytest.param(r"a{0}b", 2, id="none of it"),
        pytest.param(r"a\Q.*\E{3}", 5, id="quoted, the last repeated"),
        pytest.param(r"[[:alpha:]\]]{3}[^]a]", 4, id="classes"),
        pytest.param(r"\pL\p{Greek}{2}\x{1F600}\x41\101\.", 7, id="escapes"),
        pytest.param(r"(?:\b)*x", 1, id="nothing, however often"),
        pytest.param(r"a(?i)*", None, id="a repetition after flags"),
        pytest.param(r"a*", None, id="any number"),
        pytest.param(r"(?:a+|b)c", None, id="any number in a group"),
        pytest.param(r"(?:a|b*){2}", None, id="a count of any number"),
        pytest.param(r"b|a{3,}", None, id="no upper bound"),
        pytest.param(r"a+b\Qcd\E{2}", None, id="something after any number"),
        pytest.param(r"(a", None, id="no pattern"),
        pytest.param(r"a)", 2, id="no pattern either"),
    ],
)
def test_the_widest_find_is_told(pattern: str, expected: int | None) -> None:
    """Alternatives count by the widest, repetitions by the most; what has no bound has none."""
    assert expected == widest(pattern)


def patterns() -> st.SearchStrategy[str]:
    """Draw small patterns of all shapes."""
    atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^c]", r"\w", r"\Qab\E", r"\b", "^", "$", r"\x{61}"])
    signs = st.sampled_from(["", "?", "*", "+", "{2}", "{1,3}", "{2,}", "??"])

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        groups = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            groups.map("".join),
            groups.map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.tuples(inner, signs).map(lambda parts: f"({parts[0]}){parts[1]}"),
        )

    return st.recursive(st.tuples(atoms, signs).map("".join), grown, max_leaves=6)


@given(patterns(), st.text("abc \n", max_size=12))
@settings(max_examples=300)
def test_no_find_is_longer(pattern: str, text: str) -> None:
    """Whatever RE2 finds with a pattern has at most so many characters."""
    width = widest(pattern)
    assume(width is not None)
    try:
        found = [match.end() - match.start() for match in compiled(pattern).finditer(text)]
    except ValueError:
        found = []

    assert max(found, default=0) <= (width or 0)
