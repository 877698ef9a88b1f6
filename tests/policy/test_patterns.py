"""Owns the proof that globs match whole names, in linear time, and that patterns are RE2's."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.patterns import Globs, compiled


@pytest.mark.parametrize(
    ("globs", "name", "expected"),
    [
        pytest.param([], "anything", True, id="no glob takes all"),
        pytest.param(["issue_refund"], "issue_refund", True, id="exact"),
        pytest.param(["issue_refund"], "issue_refunds", False, id="whole name"),
        pytest.param(["issue_*"], "issue_refund", True, id="star"),
        pytest.param(["issue_*"], "reissue_refund", False, id="from the beginning"),
        pytest.param(["a?c"], "abc", True, id="question mark"),
        pytest.param(["a?c"], "ac", False, id="exactly one"),
        pytest.param(["a.c"], "abc", False, id="a dot is a dot"),
        pytest.param(["x", "y*"], "yes", True, id="any of them"),
        pytest.param(["*"], "two\nlines", True, id="star crosses lines"),
        pytest.param(["a*"], "a\ud800", True, id="a lone surrogate is some character"),
    ],
)
def test_a_glob_takes_whole_names(globs: list[str], name: str, expected: bool) -> None:
    """`*` is any run of characters, `?` any one, all else itself."""
    assert expected == Globs(globs).match(name)


@given(st.text(alphabet="ab*?.", max_size=8), st.text(alphabet="ab.", max_size=8))
def test_globs_agree_with_fnmatch(glob: str, name: str) -> None:
    """On patterns without brackets we match exactly what the standard library's fnmatch does."""
    assert bool(re.match(fnmatch.translate(glob), name)) == Globs([glob]).match(name)


def test_what_re2_does_not_know_is_refused() -> None:
    """A pattern with a look-ahead would need backtracking, so it is none."""
    with pytest.raises(ValueError, match="no regular expression for RE2"):
        compiled("(?=x)")
