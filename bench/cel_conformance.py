"""Owns the count of the CEL specification's own cases that we pass, and the reason for each that we do not.

Usage: python bench/cel_conformance.py [the folder with the data]; by default that of $HANDRAIL_DATA. Prints how many
cases of each suite pass and every miss; exits 1 if the misses are not exactly those of MISSES.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from proxy import cel

CORE = (
    *("basic", "comparisons", "conversions", "fields", "fp_math", "integer_math", "lists", "logic", "macros"),
    *("namespace", "parse", "string", "timestamps"),
)
EXTENSIONS = ("bindings_ext", "macros2", "math_ext", "plumbing", "string_ext")
LEFT_OUT = {
    "block_ext": "the output of an optimizer, which people do not write",
    "dynamic": "messages besides the wrappers of plain values",
    "encoders_ext": "no rule needs base64",
    "enums": "the enumerations of the test messages",
    "optionals": "optional values are no part of the language here: default(), has()",
    "proto2": "fields of the test messages",
    "proto2_ext": "fields of the test messages",
    "proto3": "fields of the test messages",
    "type_deductions": "types found by a checker, without an evaluation",
    "wrappers": "fields of the test messages",
}
"""Suites that are not run, and why."""

MESSAGES = ("TestAllTypes", "objectValue", "messageType")
"""Words of the cases of all other suites that are about messages of protocol buffers: facts of ours are plain data."""

_CONTAINER = "names are not looked up in a container: a policy has one flat set of variables"
MISSES = {
    "comparisons/eq_literal/eq_dyn_json_null": "of messages, only the wrappers of plain values can be written",
    "namespace/namespace/self_eval_container_lookup": _CONTAINER,
    "namespace/namespace/self_eval_container_lookup_unchecked": _CONTAINER,
    "string_ext/format/map support (all key types)": "a map holds true and 1 as keys: an error here, not a wrong value",
}
"""Every case that is run and not passed, and why that is so."""


class Count(NamedTuple):
    """Hold how many cases of a suite were met, left out for their messages, and passed; and which were missed."""

    met: Counter[str]
    messages: Counter[str]
    passed: Counter[str]
    missed: set[str]

    def of(self, suites: tuple[str, ...]) -> tuple[int, int]:
        """Return how many cases of some suites pass, and how many were run."""
        return sum(self.passed[suite] for suite in suites), sum(
            self.met[suite] - self.messages[suite] for suite in suites
        )


def cases(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the cases of one file of the specification's data."""
    with gzip.open(folder / "cel-spec" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def about_messages(case: dict[str, Any]) -> bool:
    """Tell if a case needs a message of protocol buffers."""
    text = json.dumps(case)
    return any(word in text for word in MESSAGES)


def value_of(written: dict[str, Any]) -> object:
    """Return the value that protobuf's JSON form of a CEL value stands for."""
    ((kind, inner),) = written.items()
    match kind:
        case "int64Value":
            return int(inner)
        case "uint64Value":
            return cel.UInt(inner)
        case "doubleValue":
            return float(inner)
        case "bytesValue":
            return base64.b64decode(inner)
        case "typeValue":
            return cel.CelType(inner)
        case "listValue":
            return [value_of(item) for item in inner.get("values", [])]
        case "mapValue":
            return {value_of(entry["key"]): value_of(entry["value"]) for entry in inner.get("entries", [])}
    return inner


def passes(case: dict[str, Any]) -> bool:
    """Tell if one case has its value, or its error."""
    bindings = {name: value_of(bound["value"]) for name, bound in case.get("bindings", {}).items()}
    declared = {*bindings, *(variable["name"] for variable in case.get("typeEnv", []))}
    try:
        program = cel.compile(case["expr"], variables=declared, check="disableCheck" not in case)
        value = program.evaluate(bindings, cel.Budget(10**6))
    except (cel.CelError, cel.CelSyntaxError):
        return "evalError" in case
    expected = value_of(case.get("value") or {"boolValue": True})
    return "evalError" not in case and _comparable(expected) == _comparable(value)


def _comparable(value: object) -> object:
    """Return a value that == compares by kind, with the entries of maps in one order and without the sign of zero."""
    match value:
        case float():
            # The data was written by JavaScript, where -0 becomes 0.
            return "double", repr(value + 0.0)
        case list() | tuple():
            return [_comparable(item) for item in value]
        case dict():
            entries = [(_comparable(key), _comparable(item)) for key, item in value.items()]
            return "map", sorted(entries, key=repr)
    return type(value).__name__, value


def count(folder: Path) -> Count:
    """Run every case that is not left out."""
    result = Count(Counter(), Counter(), Counter(), set())
    for case in cases(folder, "conformance"):
        suite = case["suite"].partition("/")[0]
        result.met[suite] += 1
        if suite in LEFT_OUT:
            continue
        if about_messages(case):
            result.messages[suite] += 1
        elif passes(case):
            result.passed[suite] += 1
        else:
            result.missed.add(f"{case['suite']}/{case['name']}")
    return result


def _print(found: Count) -> None:
    for title, suites in (("core", CORE), ("extensions", EXTENSIONS)):
        for suite in suites:
            passed, run = found.of((suite,))
            print(f"  {suite:16} {passed:5} of {run:5}   {found.messages[suite]:3} need messages")
        passed, run = found.of(suites)
        print(f"{title}: {passed} of {run} cases pass")
    for suite, reason in LEFT_OUT.items():
        print(f"  {suite:16} {found.met[suite]:5} not run: {reason}")
    for name in sorted(found.missed | MISSES.keys()):
        state = "missed" if name in found.missed else "PASSES NOW"
        print(f"  {state}: {name}: {MISSES.get(name, 'NO REASON GIVEN')}")


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    folder = arguments[0] if arguments else os.environ.get("HANDRAIL_DATA")
    if not folder:
        print("Not run: give the folder with the specification's cases, or set HANDRAIL_DATA.", file=sys.stderr)
        return 2
    found = count(Path(folder))
    _print(found)
    return 0 if found.missed == MISSES.keys() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
