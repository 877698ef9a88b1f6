"""Owns the view of the project that the house tests judge: the files git knows, read and parsed once."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# One plug-in per file: what the file must offer.
SHELVES = {"providers": "create", "guards": "create", "stores": "open", "exporters": "open"}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@cache
def tracked() -> tuple[str, ...]:
    """List the files in git's index, relative to the root; what is not added yet is nobody's business yet."""
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(sorted(name for name in out.split("\0") if name and (ROOT / name).exists()))


def tracked_in(folder: str, suffix: str = ".py") -> list[str]:
    """List the tracked files below a folder that end in `suffix`."""
    return [name for name in tracked() if name.startswith(f"{folder}/") and name.endswith(suffix)]


def modules() -> list[str]:
    """List the product's modules as paths, the package doors (`__init__`) included."""
    return tracked_in("proxy")


def dotted(path: str) -> str:
    """Turn a module's path into its import name."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def text(path: str) -> str:
    """Read one tracked file."""
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def parsed(path: str) -> ast.Module:
    """Parse one tracked module."""
    return ast.parse(text(path), path)


@cache
def pyproject() -> dict[str, Any]:
    """Read the project's own settings."""
    return tomllib.loads(text("pyproject.toml"))


def doors() -> set[str]:
    """Name the rooms that may touch the world: exactly those the import contract `pure` lets off."""
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    (pure,) = (contract for contract in contracts if contract["id"] == "pure")
    return {expression.split(".")[1].split(" ")[0] for expression in pure["ignore_imports"]}


def functions(tree: ast.AST, prefix: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a module whose name begins with `prefix`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(prefix):
            yield node


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """Yield the definitions of one body that are not private."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node


def documents() -> list[str]:
    """List the tracked Markdown pages."""
    return [name for name in tracked() if name.endswith(".md")]


def shell_lines(page: str) -> list[str]:
    """List the commands of a page's fenced shell blocks, continuation lines joined, comments dropped."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
