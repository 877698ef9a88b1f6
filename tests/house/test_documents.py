"""Owns the proof that the pages of the project are there, name what exists, and show commands that run."""

import re

import pytest

from proxy.cli import main
from tests.house.tree import ROOT, documents, functions, modules, parsed, shell_lines, text, tracked

# Everything at the top of the tree: what has to be there, and what may be.
ROOT_FILES = {
    "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md",
    ".ci", ".gitignore", "Makefile", "bench", "proxy", "pyproject.toml", "requirements.lock", "rules", "tests",
}  # fmt: skip
ROOT_FOLDERS_TO_COME = {"charts"}

# Commands that README shows, other than `make TARGET`, each with the test that runs it.
COMMANDS: dict[str, str] = dict.fromkeys(
    (line for line in shell_lines("README.md") if line.startswith("handrail ")),
    "tests/e2e/test_readme.py::test_command_runs",
)

TEST_NAME = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
HANDRAIL = re.compile(r"(?:^|`)(?:[\w./]*/)?handrail ([a-z]+)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
ANCHOR = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_root_holds_what_it_should() -> None:
    """The files a stranger looks for are at the root, and nothing else is."""
    top = {name.partition("/")[0] for name in tracked()}

    assert (set(), set()) == (ROOT_FILES - top, top - ROOT_FILES - ROOT_FOLDERS_TO_COME)


def test_pages_link_to_what_exists() -> None:
    """Every relative link of a page leads to a file of the tree."""
    links = [(page, target) for page in documents() for target in LINK.findall(text(page))]

    assert [] == [(page, target) for page, target in links if not ((ROOT / page).parent / target).exists()]


def test_pages_link_to_headings_that_exist() -> None:
    """Every link into a page, its own or another, leads to a heading of it."""
    links = [(page, *target) for page in documents() for target in ANCHOR.findall(text(page))]

    assert links
    assert [] == [
        f"{page}: {target}#{anchor}"
        for page, target, anchor in links
        if anchor not in anchors(((ROOT / page).parent / target if target else ROOT / page).read_text())
    ]


def anchors(page: str) -> set[str]:
    """Name the headings of a page as links do: in lower case, spaces as dashes, other marks dropped."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def test_pages_name_tests_that_exist() -> None:
    """A claim that points at tests/…::test_… points at a test that is there."""
    named = {(page, *test) for page in documents() for test in TEST_NAME.findall(text(page))}

    assert [] == [f"{page}: {path}::{name}" for page, path, name in sorted(named) if name not in names_of_tests(path)]


def test_every_threat_names_its_tests() -> None:
    """Each row of the threat model has a threat, a defence, and tests that turn red without it; a headline has none."""
    rows = [line.strip("| ").split(" | ") for line in text("SECURITY.md").splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row[0].startswith("**")][2:]

    assert len(threats) > 50
    assert [] == [row[0] for row in threats if len(row) != 3 or not TEST_NAME.search(row[2])]


def names_of_tests(path: str) -> set[str]:
    """Name the tests of a file, none if there is no such file."""
    return {test.name for test in functions(parsed(path), "test_")} if (ROOT / path).exists() else set()


def test_pages_name_make_targets_that_exist() -> None:
    """`make X` in a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    shown = {target for page in documents() for target in re.findall(r"(?:^|`)make ([a-z]+)", text(page), re.MULTILINE)}

    assert set() == shown - targets


@pytest.mark.parametrize("command", sorted({name for page in documents() for name in HANDRAIL.findall(text(page))}))
def test_pages_name_commands_that_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`handrail X` in a page is a command, and explains itself."""
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])

    assert (0, True) == (left.value.code, f"handrail {command}" in capsys.readouterr().out)


def test_readme_shows_how_to_start() -> None:
    """README has commands to copy."""
    assert shell_lines("README.md")


def test_readme_shows_commands_that_a_test_runs() -> None:
    """Each command of README is a make target, or stands in the table with the test that runs it."""
    others = [line for line in shell_lines("README.md") if not line.startswith("make ")]

    assert set() == set(others) ^ set(COMMANDS)


def test_shown_commands_have_their_tests() -> None:
    """The table names a test that exists for each command."""
    named = {command: test.partition("::") for command, test in COMMANDS.items()}

    assert [] == [command for command, (path, _, name) in named.items() if name not in names_of_tests(path)]


def test_architecture_is_read_in_one_sitting() -> None:
    """The map stays a map."""
    assert 240 >= len(text("ARCHITECTURE.md").splitlines())


def test_architecture_names_every_room() -> None:
    """Each module and package at the top of proxy/ is on the map."""
    rooms = {path.removeprefix("proxy/").partition("/") for path in modules()} - {("__init__.py", "", "")}
    names = {room + slash for room, slash, _ in rooms}

    assert [] == sorted(
        name for name in names if not re.search(rf"(?<![\w/]){re.escape(name)}", text("ARCHITECTURE.md"))
    )


def test_architecture_names_no_room_that_is_not_there() -> None:
    """Each module the map names is a module, and each `proxy/…` path of it a path."""
    page = text("ARCHITECTURE.md")
    files = {path.rpartition("/")[2] for path in tracked()}
    paths = re.findall(r"proxy/[\w/.]*\w", page)

    assert [] == [name for name in re.findall(r"\w+\.py\b", page) if name not in files]
    assert [] == [path for path in paths if not (ROOT / path).exists()]


def test_changelog_keeps_its_form() -> None:
    """CHANGELOG follows Keep a Changelog 1.1: Unreleased first, then versions with ISO dates, known kinds of change."""
    page = text("CHANGELOG.md")
    releases = re.findall(r"^## (.+)$", page, re.MULTILINE)
    kinds = re.findall(r"^### (.+)\n\n(.)", page, re.MULTILINE)

    assert "# Changelog" == page.splitlines()[0]
    assert "[Unreleased]" == releases[0]
    assert [] == [name for name in releases[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", name)]
    assert len(kinds) == page.count("\n### ")
    assert [] == [kind for kind, first in kinds if kind not in KINDS or first != "-"]
