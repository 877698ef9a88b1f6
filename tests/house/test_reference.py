"""Owns the proof that proxy/README.md is whole: what it does not tell of nobody finds."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator

import msgspec

from proxy.cli import COMMANDS
from proxy.config import Config
from proxy.simulated.directives import Directives
from proxy.telemetry.registry import METRICS
from tests.house.tree import modules, text

PAGE = "proxy/README.md"


def rows(heading: str) -> str:
    """Return the table under a heading of the page."""
    return re.split(r"^## ", text(PAGE).split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def keys(schema: dict[str, dict[str, object]], folder: str = "") -> Iterator[tuple[str, str]]:
    """Yield (the section, the last name) of each value that a configuration can hold."""
    for name, what in schema.items():
        below = what.get("properties") or msgspec.convert(what.get("additionalProperties") or {}, dict).get(
            "properties"
        )
        if isinstance(below, dict):
            yield from keys(below, name)
        else:
            yield folder, name


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (the command, one of its flags) of everything that can be said on the command line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from commands(child, f"{path} {name}".strip())
        elif action.dest != "help":
            yield path, action.option_strings[-1] if action.option_strings else ""


def test_every_key_of_the_configuration_stands_in_its_table() -> None:
    """Each key that handrail.yaml can have stands in a row of its section."""
    schema = json.loads(text("proxy/config/config.schema.json"))["properties"]
    told = [line.split("|")[1] for line in rows("`handrail.yaml`").splitlines() if line.startswith("| `")]

    wanted = set(keys(schema))

    assert len(wanted) > 40
    assert set() == {
        (section, name) for section, name in wanted if not any(named(cell, section, name) for cell in told)
    }


def named(cell: str, section: str, name: str) -> bool:
    """Say whether the first cell of a row names this key of this section."""
    first, *others = re.findall(r"`([\w.]+)`", cell)
    *folders, last = first.split(".")
    return name in (last, *others) and section in (*folders, "") and bool(section) == bool(folders)


def test_every_section_is_one_that_there_is() -> None:
    """The table names no key that handrail.yaml cannot have."""
    fields = {field.name for field in msgspec.structs.fields(Config)}
    told = {cell.split(".")[0] for cell in re.findall(r"^\| `([\w.]+)`", rows("`handrail.yaml`"), re.MULTILINE)}

    assert (set(), set()) == (told - fields, fields - told)


def test_every_command_and_flag_stands_in_its_table() -> None:
    """Whatever `handrail --help` leads to stands on the page."""
    parser = argparse.ArgumentParser()
    added = parser.add_subparsers()
    for module in COMMANDS:
        module.add(added)
    table = rows("Commands")

    said = set(commands(parser))

    missing = {
        (command, flag) for command, flag in said if flag and f"`{flag}" not in table and f" {flag}" not in table
    }
    assert set() == missing
    assert set() == {command for command, _ in said if not re.search(rf"`({command}|{command.split()[-1]})\b", table)}


def test_every_header_metric_and_directive_stands_in_its_table() -> None:
    """What can be seen of a reply, counted, or asked of the simulated model stands on the page."""
    headers = {name for path in modules() for name in re.findall(r'"(x-handrail-[a-z]+)"', text(path))}
    directives = {field.name for field in msgspec.structs.fields(Directives)}

    assert set() == {name for name in headers if f"`{name}`" not in rows("Headers")}
    assert set() == {name for name in directives if f"`{name}`" not in rows("The simulated model")}
    assert set() == {name for name in METRICS if f"`{name.removeprefix('handrail_')}`" not in rows("Metrics")}
