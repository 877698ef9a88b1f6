"""Owns the proof that every module says what it owns, documents its public names and stands alone."""

import ast
import re
import subprocess
import sys

import pytest

from tests.house.tree import (
    ROOT,
    SHELVES,
    dotted,
    modules,
    parsed,
    public,
    tracked,
    tracked_in,
)

# Names that say nothing about what a module owns.
NAMELESS = {
    "base",
    "common",
    "core",
    "helper",
    "helpers",
    "lib",
    "manager",
    "managers",
    "misc",
    "shared",
    "util",
    "utils",
}

# Where a failure of any kind is caught, and why it has to be. Every other handler names what it expects.
CATCH_ALL = {
    "proxy/accounting/tokens.py": "the tokenizer's panic derives from BaseException and cannot be imported",
    "proxy/cel/extensions.py": "an expression may ask for a default whatever its operand raised",
    "proxy/cel/logic.py": "|| and && absorb an operand's failure, a view's own exception included",
    "proxy/cel/program.py": "every failure of an expression is one kind of failure to the policy's onError",
    "proxy/pipeline/scanning.py": "a guard is a plug-in: the rule's onError answers whatever it raises",
    "proxy/pipeline/searching.py": "the same, where a guard or a pattern searches piece by piece",
    "proxy/policy/search.py": "the same, where a text is searched in one go",
    "proxy/stores/sqlite/commits.py": "the background writer: nobody above it could keep the queue going",
    "proxy/telemetry/consumer.py": "the background counter: one exchange it cannot count must not end the rest",
}

# Imports each named module, packages before what is in them, in a process forked before anything of ours was. What its
# package alone brings along is in order already: to import it is to import the package first, and to find it there.
# What is not ours comes first, once: it takes long, and no cycle runs through it.
IMPORT_EACH_ALONE = """
import os, sys, traceback
import aiohttp, asyncpg, jsonschema, lark, msgspec, obstore.store, opentelemetry.sdk.trace, prometheus_client
import pyarrow.parquet, re2, sqlite3, tiktoken, yaml
brought = set()
for name in sys.argv[1:]:
    if name in brought:
        continue
    came, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            __import__(name)
        except BaseException:
            print(name, file=sys.stderr)
            traceback.print_exc()
            os._exit(1)
        within = [other for other in sys.modules if other.startswith(name + ".")]
        open(tell, "w").write(" ".join(within))
        os._exit(0)
    os.close(tell)
    brought.update(open(came).read().split())
    if os.waitpid(child, 0)[1] != 0:
        print(name)
"""


def each(paths: list[str]) -> pytest.MarkDecorator:
    """Run a test once per tracked module."""
    return pytest.mark.parametrize("path", paths, ids=str)


@each(modules())
def test_its_first_line_says_what_it_owns(path: str) -> None:
    """A module opens with what it owns; what nobody can say in a line is two modules."""
    docstring = ast.get_docstring(parsed(path)) or ""

    assert docstring.startswith("Owns ")


@each(tracked_in("tests") + tracked_in("bench"))
def test_a_page_of_code_says_what_it_is(path: str) -> None:
    """Tests and benches open with a docstring as well."""
    assert ast.get_docstring(parsed(path))


def documented_by_a_port() -> set[str]:
    """Name the methods that a Protocol in ports.py documents once for all who implement it."""
    classes = [node for node in parsed("proxy/ports.py").body if isinstance(node, ast.ClassDef)]
    return {method.name for port in classes for method in public(port.body)}


def undocumented(body: list[ast.stmt], excused: set[str]) -> list[str]:
    names: list[str] = []
    for node in public(body):
        if ast.get_docstring(node) is None and node.name not in excused:
            names.append(node.name)
        if isinstance(node, ast.ClassDef):
            names += [f"{node.name}.{name}" for name in undocumented(node.body, excused | documented_by_a_port())]
    return names


@each(modules())
def test_its_public_names_are_documented(path: str) -> None:
    """Whatever a reader may call says in a sentence what it does."""
    assert [] == undocumented(parsed(path).body, excused=set())


def plug_ins() -> dict[str, str]:
    """Map each plug-in, a file or a folder's door directly on a shelf, to what it must offer."""
    return {
        path: door
        for shelf, door in SHELVES.items()
        for path in modules()
        if re.fullmatch(rf"proxy/{shelf}/(?!__init__)\w+(/__init__)?\.py", path)
    }


def offered(path: str) -> set[str]:
    """Name what a module defines or, being a package's door, passes on."""
    passed_on = [alias for node in parsed(path).body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {node.name for node in public(parsed(path).body)} | {alias.asname or alias.name for alias in passed_on}


def test_every_plug_in_offers_its_door() -> None:
    """What stands on a shelf exports `create(settings)`, or `open(settings)` where it holds something open."""
    assert [] == [path for path, door in plug_ins().items() if door not in offered(path)]


def test_every_folder_is_a_package() -> None:
    """A folder of modules has its door, or the import contracts and the wheel would not see it."""
    folders = {path.rpartition("/")[0] for path in modules()}

    assert set() == {folder for folder in folders if f"{folder}/__init__.py" not in modules()}


def test_no_module_is_named_for_nothing() -> None:
    """A module is called after the noun it owns, never a drawer for what is left over."""
    stems = {path: path.rpartition("/")[2].removesuffix(".py") for path in tracked() if path.endswith(".py")}

    assert [] == [path for path, stem in stems.items() if stem in NAMELESS]


@pytest.mark.timeout(600)
def test_every_module_imports_alone() -> None:
    """Each module loads where nothing else of ours is loaded, so no import order hides a cycle."""
    names = sorted(dotted(path) for path in modules() if not path.endswith("__main__.py"))

    run = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH_ALONE, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "" == run.stdout, run.stderr


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Say whether a handler takes any failure and does not hand it on."""
    caught = [node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)] if handler.type else ["all"]
    hands_on = isinstance(handler.body[-1], ast.Raise)
    return bool({"Exception", "BaseException", "all"}.intersection(caught)) and not hands_on


def test_any_failure_is_caught_only_where_a_reason_is_given() -> None:
    """A bug stays a bug: it ends in the two places that answer for the process, and nowhere else."""
    found = {
        path
        for path in modules()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and catches_all(node)
    }

    assert set(CATCH_ALL) == found
