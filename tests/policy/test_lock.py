"""Owns the proof of proxy/policy/lock.py: a version that was locked means one thing for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.documents import Problems
from proxy.policy import Document, Lock, Source, read_lock

OLD, NEW = "a" * 64, "b" * 64
LOCK = Lock(digests={("p", "1.0.0"): OLD})
WORD = st.text("abc-.019", min_size=1, max_size=5)
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)


def document(version: str = "1.0.0", digest: str = OLD) -> Document:
    """Write what is known of a loaded policy."""
    return Document(name="p", version=version, digest=digest, path="p.yaml", position="p.yaml:3:26")


def read(text: str) -> tuple[Lock, list[str]]:
    """Read a lock; return it and what is wrong with it."""
    problems = Problems()
    return read_lock(Source(path="policies.lock", text=text), problems), problems.found


@pytest.mark.parametrize(
    ("lock", "found", "state"),
    [
        pytest.param(LOCK, document(), True, id="as locked"),
        pytest.param(LOCK, document(digest=NEW), "changed", id="changed"),
        pytest.param(LOCK, document(version="1.1.0", digest=NEW), False, id="a new version"),
        pytest.param(Lock(), document(), False, id="no lock"),
    ],
)
def test_a_document_is_locked_changed_or_new(lock: Lock, found: Document, state: object) -> None:
    """A version is locked with this content, locked with another, or not locked yet."""
    assert state == lock.state(found)


def test_what_changed_is_told_with_both_digests_and_what_to_do() -> None:
    """Only a changed document is a problem, with the place of its version."""
    problems = Problems()
    LOCK.hold([document(), document(version="2.0.0"), document(digest=NEW)], problems)

    assert [
        "p.yaml:3:26: `p` 1.0.0 was locked as sha256:aaaaaaaaaaaa… and is now sha256:bbbbbbbbbbbb…: "
        "raise its `version`, then run handrail check --lock"
    ] == problems.found


def test_adding_keeps_what_was_locked() -> None:
    """A new version gets its line; the line of an older one stays as it was."""
    lock = LOCK.add([document(digest=NEW), document(version="1.1.0", digest=NEW)])

    assert {("p", "1.0.0"): OLD, ("p", "1.1.0"): NEW} == lock.digests


@given(st.dictionaries(st.tuples(WORD, WORD), DIGEST, max_size=4))
def test_what_is_written_is_read_again(digests: dict[tuple[str, str], str]) -> None:
    """A lock survives its own text."""
    assert (Lock(digests=digests), []) == read(Lock(digests=digests).text())


def test_the_lines_stand_in_one_order() -> None:
    """The text does not depend on the order in which policies were loaded."""
    lines = [("b", "1.0.0"), ("a", "1.0.0")]

    assert Lock(digests=dict.fromkeys(lines, OLD)).text() == Lock(digests=dict.fromkeys(lines[::-1], OLD)).text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"# note\n\np 1.0.0 sha256:{OLD}\np 1.0.0 sha256:{OLD}\n", [], id="comments, and a line twice"),
        pytest.param("<<<<<<< mine\n", ["policies.lock:1:1: a line of the lock is `name version sha256:…`"], id="none"),
        pytest.param(
            f"p 1.0.0 sha256:{OLD}\np 1.0.0 sha256:{NEW}\n",
            ["policies.lock:2:1: `p` 1.0.0 is locked twice"],
            id="two branches used one version",
        ),
    ],
)
def test_a_lock_that_cannot_be_trusted_is_told(text: str, expected: list[str]) -> None:
    """What is no line, and what contradicts another line, is told with its place."""
    found = read(text)[1]

    assert len(expected) == len(found)
    assert all(problem.startswith(start) for problem, start in zip(found, expected, strict=True))
