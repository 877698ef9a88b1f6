"""Owns the proof that a plug-in is found by its file name, and that a mistake says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import proxy
from proxy import plugins
from proxy.plugins import UnknownPlugin

FILES = {
    "__init__.py": "",
    "good.py": "name = 'good'",
    "Strange-name.py": "",
    "queue.py": "import a_package_that_nobody_has",
    "torn.py": "import proxy.a_module_that_is_not_there",
}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[str]:
    """Put a shelf with a few plug-ins beside the real ones."""
    folder = tmp_path / "shelf_for_tests"
    folder.mkdir()
    for name, source in FILES.items():
        (folder / name).write_text(source)
    proxy.__path__.append(str(tmp_path))
    yield folder.name
    proxy.__path__.remove(str(tmp_path))


def test_a_plugin_is_its_file(shelf: str) -> None:
    """`load` gives the module whose file has the name, and nothing else registers it."""
    assert "good" == plugins.load(shelf, "good").name


def test_real_shelves_have_their_plugins() -> None:
    """The provider that every installation has is found on its shelf."""
    assert callable(plugins.load("providers", "openai").create)


def test_names_are_the_files(shelf: str) -> None:
    """Only files that can be named in a config are plug-ins."""
    assert ["good", "queue", "torn"] == plugins.names(shelf)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("god", "there is no 'god' in {}: did you mean 'good'? it has good, queue, torn", id="a slip"),
        pytest.param("xyz", "there is no 'xyz' in {}: it has good, queue, torn", id="nothing like it"),
        pytest.param(
            "../good", "there is no '../good' in {}: did you mean 'good'? it has good, queue, torn", id="a path"
        ),
        pytest.param("__init__", "there is no '__init__' in {}: it has good, queue, torn", id="a private file"),
        pytest.param(
            "queue",
            "'queue' in {} needs the package 'a_package_that_nobody_has': pip install 'handrail[queue]'",
            id="a missing package",
        ),
    ],
)
def test_what_cannot_be_loaded_says_what_to_do(shelf: str, name: str, message: str) -> None:
    """An unknown name lists what there is; a missing package names the extra that brings it."""
    with pytest.raises(UnknownPlugin) as caught:
        plugins.load(shelf, name)

    assert message.format(shelf) == str(caught.value)


def test_an_extra_may_have_another_name(shelf: str) -> None:
    """Where the packages of a plug-in come with an extra that is not named like it, that one is told."""
    with pytest.raises(UnknownPlugin, match=r"pip install 'handrail\[archive\]'"):
        plugins.load(shelf, "queue", "archive")


def test_an_empty_shelf_says_so(tmp_path: Path) -> None:
    """A shelf without plug-ins is no list of nothing."""
    (tmp_path / "bare_shelf_for_tests").mkdir()
    proxy.__path__.append(str(tmp_path))

    with pytest.raises(UnknownPlugin, match="it has nothing"):
        plugins.load("bare_shelf_for_tests", "any")

    proxy.__path__.remove(str(tmp_path))


def test_a_broken_import_of_ours_is_a_bug(shelf: str) -> None:
    """A module of Handrail that is missing is not taken for an extra that could be installed."""
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        plugins.load(shelf, "torn")
