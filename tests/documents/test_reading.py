"""Owns the proof that YAML is read as plain JSON, that each value knows its place, and that nothing odd gets in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.documents import Problems, Source, Text, by_place, read


def texts(yaml: str) -> tuple[list[Text], list[str]]:
    """Read a file called p.yaml; return its documents and problems."""
    problems = Problems()
    return read(Source(path="p.yaml", text=yaml), problems), problems.found


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        pytest.param("mode: off", {"mode": "off"}, id="off is a text, as in YAML 1.2"),
        pytest.param("a: [yes, no, on]", {"a": ["yes", "no", "on"]}, id="so are yes and no"),
        pytest.param("a: [true, False, TRUE]", {"a": [True, False, True]}, id="booleans"),
        pytest.param("a: [~, null, ]", {"a": [None, None]}, id="null"),
        pytest.param("a:", {"a": None}, id="nothing is null"),
        pytest.param("a: [1, -2, +3, 0x1F, 0o17, 010]", {"a": [1, -2, 3, 31, 15, 10]}, id="integers"),
        pytest.param("a: [1.5, -.5, 1e3, 2.]", {"a": [1.5, -0.5, 1000.0, 2.0]}, id="doubles"),
        pytest.param("a: 2026-01-05", {"a": "2026-01-05"}, id="a date is a text"),
        pytest.param("a: 1:30", {"a": "1:30"}, id="no sexagesimals"),
        pytest.param("a: '5'", {"a": "5"}, id="quotes make a text"),
        pytest.param("a: .inf", {"a": ".inf"}, id="no infinity"),
        pytest.param("", None, id="no document"),
    ],
)
def test_values_are_those_of_the_core_schema(yaml: str, value: object) -> None:
    """A value is what YAML 1.2's core schema says, never a guess of YAML 1.1."""
    found, problems = texts(yaml)

    assert ([] if value is None else [value], []) == ([text.value for text in found], problems)


@pytest.mark.parametrize("yaml", ["a: 1", "a: [1"])
def test_a_file_that_is_read_again_says_the_same(yaml: str) -> None:
    """What did not change is not read twice, and every reader is told all that is wrong with it."""
    assert texts(yaml) == texts(yaml)


def test_a_reader_owns_its_list() -> None:
    """One reader's list of documents is no other's."""
    found, _ = texts("a: 1\n---\na: 2\n")
    found.clear()

    assert 2 == len(texts("a: 1\n---\na: 2\n")[0])


def test_a_file_may_hold_several_documents() -> None:
    """Each document of a file is read, and knows its own lines."""
    found, problems = texts("a: 1\n---\na: 2\n")

    assert (["p.yaml:1:4", "p.yaml:3:4"], []) == ([text.at(("a",)) for text in found], problems)


@pytest.mark.parametrize(
    ("yaml", "problem"),
    [
        pytest.param("a: 1\na: 2", "p.yaml:2:1: the key `a` stands here a second time", id="duplicate key"),
        pytest.param("a: {b: 1, 'b': 2}", "p.yaml:1:11: the key `b` stands here a second time", id="in flow style"),
        pytest.param("1: x", "p.yaml:1:1: a key is a text: put it in quotes", id="a number as key"),
        pytest.param("[a]: x", "p.yaml:1:1: a key is a text: put it in quotes", id="a list as key"),
        pytest.param(
            "a: &x 1\nb: *x",
            "p.yaml:1:4: anchors and aliases are not supported: write the value where it is used",
            id="alias",
        ),
        pytest.param(
            "a: &x {b: *x}",
            "p.yaml:1:4: anchors and aliases are not supported: write the value where it is used",
            id="a value that contains itself",
        ),
        pytest.param(
            "a: !!python/name:os.system 1", "p.yaml:1:4: the tag `tag:yaml.org,2002:python/name:os.system`", id="tag"
        ),
        pytest.param("a: [1", "p.yaml:1:6: this is not YAML: expected ',' or ']'", id="unclosed"),
        pytest.param("a: 'x", "p.yaml:1:6: this is not YAML: found unexpected end of stream", id="unterminated"),
        pytest.param("a: 1\nb: \x07", "p.yaml:2:4: this character may not stand in YAML", id="control character"),
        pytest.param("[" * 600, "p.yaml:1:1: this YAML is nested too deeply", id="nested too deeply"),
    ],
)
def test_what_is_odd_is_refused_at_its_place(yaml: str, problem: str) -> None:
    """Whatever could mean two things, or run something, is a problem with its line and column."""
    _, problems = texts(yaml)

    assert problem == problems[0][: len(problem)]


@pytest.mark.parametrize(
    ("yaml", "line", "column", "place"),
    [
        pytest.param("a: one two", 1, 5, "p.yaml:1:8", id="plain"),
        pytest.param("a: 'one two'", 1, 5, "p.yaml:1:9", id="quoted"),
        pytest.param("a: |\n  one\n  two\n", 2, 2, "p.yaml:3:4", id="literal block"),
        pytest.param("a: |", 2, 2, "p.yaml:3:2", id="literal block without text"),
        pytest.param("a: >-\n  one\n  two\n", 1, 5, "p.yaml:1:4", id="folded: its beginning"),
        pytest.param("a: one\n  two\n", 2, 1, "p.yaml:1:4", id="plain over two lines: its beginning"),
        pytest.param("a: 'one'", 1, 1, "p.yaml:1:5", id="the first character"),
        pytest.param("a: 'one'", 0, 0, "p.yaml:1:4", id="the value itself"),
    ],
)
def test_a_place_inside_a_text_is_a_place_in_the_file(yaml: str, line: int, column: int, place: str) -> None:
    """An error at a line and column of an expression points into the file, wherever YAML lets one tell."""
    (text,), _ = texts(yaml)

    assert place == text.at(("a",), line, column)


def test_keys_and_unknown_paths_have_places_too() -> None:
    """A key has its own place, and what is not there is placed at the whole document."""
    (text,), _ = texts("a:\n  b: 1")

    assert ("p.yaml:2:3", "p.yaml:1:1") == (text.at_key(("a", "b")), text.at(("c",)))


def test_a_problem_is_listed_once_with_what_was_meant() -> None:
    """The same problem found twice is one, and a near name is suggested."""
    problems = Problems()
    problems.add("p:1:1", "unknown `ordres`", "ordres", ["orders", "returns"])
    problems.add("p:1:1", "unknown `ordres`", "ordres", ["orders", "returns"])

    assert ["p:1:1: unknown `ordres` (did you mean `orders`?)"] == problems.found


def test_problems_sort_as_files_are_read() -> None:
    """Line 10 comes after line 9, and a problem without a place is sorted by its text."""
    assert ["a:9:1: y", "a:10:1: x", "b"] == sorted(["b", "a:10:1: x", "a:9:1: y"], key=by_place)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(yaml: str) -> None:
    """Reading never raises: a text gives documents or problems."""
    found, problems = texts(yaml)

    assert all(isinstance(text, Text) for text in found)
    assert all(problem.startswith("p.yaml:") for problem in problems)
