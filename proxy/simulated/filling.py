"""Owns making a JSON value that follows a schema, out of what is known by name.

In: a JSON Schema, and values with patterns of the names they belong to. Out: an instance. Never: a validator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from proxy.terms import Json

Tree = dict[str, Json]
Known = Sequence[tuple[re.Pattern[str], Json]]

MAX_DEPTH = 8
"""Where a schema that contains itself stops."""


def tree(value: Json) -> Tree:
    """Return an object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def trees(value: Json) -> list[Tree]:
    """Return the objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def fill(schema: Tree, known: Known) -> Json:
    """Return an instance of a schema: its required properties, and every other whose name is known."""
    return _Filler(tree(schema.get("$defs")), known).value(schema, "", 0)


class _Filler:
    def __init__(self, definitions: Tree, known: Known) -> None:
        self._definitions = definitions
        self._known = known

    def value(self, schema: Tree, name: str, depth: int) -> Json:
        if depth > MAX_DEPTH:
            return None
        if "$ref" in schema:
            target = str(schema["$ref"]).rpartition("/")[2]
            return self.value(tree(self._definitions.get(target)), name, depth + 1)
        if options := schema.get("enum") or schema.get("const"):
            return options[0] if isinstance(options, list) else options
        if branches := trees(schema.get("anyOf") or schema.get("oneOf")):
            return self.value(branches[0], name, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = kind[0] if kind else None
        if kind == "object" or "properties" in schema:
            return self._object(schema, depth)
        if kind == "array":
            return [self.value(tree(schema.get("items")), name, depth + 1)]
        return self._scalar(kind, self._find(name))

    def _object(self, schema: Tree, depth: int) -> Json:
        properties = tree(schema.get("properties"))
        required = schema.get("required")
        needed = required if isinstance(required, list) else list(properties)
        return {
            name: self.value(tree(part), name, depth + 1)
            for name, part in properties.items()
            if name in needed or self._find(name) is not None
        }

    def _scalar(self, kind: Json, found: Json) -> Json:
        match kind:
            case "integer":
                return int(found) if isinstance(found, float) else 0
            case "number":
                return found if isinstance(found, float) else 0.0
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return "" if found is None else str(found)

    def _find(self, name: str) -> Json:
        return next((value for pattern, value in self._known if value is not None and pattern.search(name)), None)
