"""Owns the proof that a test states a fact, can fail, and patches nothing."""

import ast
from collections.abc import Iterator

import pytest

from tests.house.tree import functions, parsed, tracked_in

TESTS = [path for path in tracked_in("tests") if path.rpartition("/")[2].startswith("test_")]

# Calls that fail the test by themselves.
RAISERS = {"raises", "warns", "fail"}


def each_test(path: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the test functions of a module."""
    yield from functions(parsed(path), "test_")


def called(node: ast.AST) -> Iterator[str]:
    """Yield the bare names of everything that is called below a node."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            yield call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def can_fail(test: ast.AST) -> bool:
    """Say whether a test asserts, by itself or through a `check_*` function."""
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(test))
    return asserts or any(name in RAISERS or name.startswith("check_") for name in called(test))


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_each_states_a_fact(path: str) -> None:
    """A test's docstring is the sentence that is false when it fails."""
    assert [] == [test.name for test in each_test(path) if not ast.get_docstring(test)]


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_each_can_fail(path: str) -> None:
    """A test without an assertion proves that nothing raised, which is no fact."""
    assert [] == [test.name for test in each_test(path) if not can_fail(test)]


@pytest.mark.parametrize("path", tracked_in("tests"), ids=str)
def test_none_patches_the_house(path: str) -> None:
    """Fakes come in through the ports: nothing of ours is swapped under a running test."""
    patches = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute) and node.attr == "setattr"]

    assert [] == [node.lineno for node in patches if getattr(node.value, "id", "") == "monkeypatch"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("pass", False, id="nothing"),
        pytest.param("work()", False, id="only a call"),
        pytest.param("assert work()", True, id="assert"),
        pytest.param("with pytest.raises(OSError): work()", True, id="raises"),
        pytest.param("check_rows(work())", True, id="check function"),
    ],
)
def test_a_test_that_cannot_fail_is_recognised(body: str, expected: bool) -> None:
    """The judge above tells an assertion from a mere call."""
    assert expected == can_fail(ast.parse(body))
