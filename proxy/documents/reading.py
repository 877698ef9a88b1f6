"""Owns the reading of YAML: plain JSON values, the place of each of them, and the list of all that is wrong.

YAML is read as its 1.2 core schema, so `off` and `no` are texts and dates stay texts. Anchors, aliases, tags and merge
keys are refused: a document says what it says where it says it.
In: a Source. Out: Texts. Never: a file.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec
import yaml

from proxy.terms import Json

Path: TypeAlias = "tuple[str | int, ...]"

_CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+0123456789.")),
)
_PLACE = re.compile(r"(.*?):(\d+):(\d+)")
_TAG = "tag:yaml.org,2002:"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One file: `path` names it in messages, `text` is its YAML."""

    path: str
    text: str


class Mark(msgspec.Struct, frozen=True):
    """Where a value begins (both 1-based). `style` is its YAML style; `indent` the column of a literal block's text."""

    line: int
    column: int
    style: str = ""
    indent: int = 0

    def inside(self, line: int, column: int) -> tuple[int, int]:
        """Return the file position of a position inside this text; its beginning where YAML folded the lines."""
        if self.style == "|":
            return self.line + line, self.indent + column - 1
        if line > 1 or self.style == ">":
            return self.line, self.column
        return self.line, self.column + column - 1 + (self.style in ("'", '"'))


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """One YAML document: its value, and the mark of each value and of each key."""

    path: str
    value: Json
    marks: Mapping[Path, Mark]
    keys: Mapping[Path, Mark]

    def at(self, path: Path, line: int = 0, column: int = 0) -> str:
        """Name the place of a value as `file:line:column`; with `line` and `column`, a place inside its text."""
        mark = self.marks.get(path) or self.marks[()]
        found = mark.inside(line, column) if line else (mark.line, mark.column)
        return f"{self.path}:{found[0]}:{found[1]}"

    def at_key(self, path: Path) -> str:
        """Name the place of a key."""
        mark = self.keys[path]
        return f"{self.path}:{mark.line}:{mark.column}"


class Problems:
    """The list that grows while documents are read; empty means that all is well."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, place: str, message: str, wrong: str = "", known: Iterable[str] = ()) -> None:
        """Note a problem, once, with the known name that `wrong` is nearest to."""
        problem = f"{place}: {message}{meant(wrong, known)}"
        if problem not in self.found:
            self.found.append(problem)


def by_place(problem: str) -> tuple[str, int, int]:
    """Return the key that sorts problems as a reader goes through the files."""
    found = _PLACE.match(problem)
    return (found[1], int(found[2]), int(found[3])) if found else (problem, 0, 0)


def meant(wrong: str, known: Iterable[str]) -> str:
    """Return ` (did you mean …?)` if a known name is near."""
    close = difflib.get_close_matches(wrong, list(known), 1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def read(source: Source, problems: Problems) -> list[Text]:
    """Return the file's documents that can be read; what cannot goes on the list."""
    texts, found = _read(source)
    problems.found += [problem for problem in found if problem not in problems.found]
    return list(texts)


@functools.lru_cache(maxsize=128)
def _read(source: Source) -> tuple[tuple[Text, ...], tuple[str, ...]]:
    """Read a file once: YAML is the dear half of a reload, and of many files few have changed."""
    problems = Problems()
    return tuple(_texts(source, problems)), tuple(problems.found)


def _texts(source: Source, problems: Problems) -> list[Text]:
    try:
        nodes = list(yaml.compose_all(source.text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        problems.add(f"{source.path}:{place}", f"this is not YAML: {error.problem or error.context}")
        return []
    except yaml.reader.ReaderError as error:
        line, column = _place(source.text, error.position)
        problems.add(f"{source.path}:{line}:{column}", f"this character may not stand in YAML: {error.reason}")
        return []
    except RecursionError:
        problems.add(f"{source.path}:1:1", "this YAML is nested too deeply")
        return []
    return [_Reader(source, problems).text(node) for node in nodes]


def _place(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  # PyYAML's own attribute


for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)


class _Reader:
    """Turns one document's nodes into a value and its marks."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._lines = source.text.split("\n")
        self._problems = problems
        self._marks: dict[Path, Mark] = {}
        self._keys: dict[Path, Mark] = {}
        self._seen: set[int] = set()

    def text(self, node: yaml.Node) -> Text:
        value = self._value(node, ())
        return Text(path=self._source.path, value=value, marks=self._marks, keys=self._keys)

    def _refuse(self, node: yaml.Node, message: str) -> None:
        place = f"{self._source.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        self._problems.add(place, message)

    def _value(self, node: yaml.Node, path: Path) -> Json:
        if id(node) in self._seen:
            self._refuse(node, "anchors and aliases are not supported: write the value where it is used")
            return None
        self._seen.add(id(node))
        self._marks[path] = self._mark(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, number)) for number, item in enumerate(node.value)]
        return self._scalar(node)

    def _mark(self, node: yaml.Node) -> Mark:
        line, column = node.start_mark.line, node.start_mark.column
        style = node.style if isinstance(node, yaml.ScalarNode) else ""
        below = self._lines[line + 1] if style == "|" and line + 1 < len(self._lines) else ""
        return Mark(line + 1, column + 1, style or "", len(below) - len(below.lstrip(" ")) + 1)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Json:
        entries: dict[str, Json] = {}
        for key, value in node.value:
            name = self._key(key)
            if name in entries:
                self._refuse(key, f"the key `{name}` stands here a second time")
            elif name is not None:
                self._keys[*path, name] = self._mark(key)
                entries[name] = self._value(value, (*path, name))
        return entries

    def _key(self, node: yaml.Node) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str":
            return str(node.value)
        self._refuse(node, "a key is a text: put it in quotes")
        return None

    def _scalar(self, node: yaml.Node) -> Json:
        match node.tag.removeprefix(_TAG):
            case "str":
                return str(node.value)
            case "int":
                return int(node.value, 0) if node.value[:2] in ("0o", "0x") else int(node.value)
            case "float":
                return float(node.value)
            case "bool":
                return str(node.value).lower() == "true"
            case "null":
                return None
        self._refuse(node, f"the tag `{node.tag}` is not supported")
        return None
