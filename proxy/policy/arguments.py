"""Owns the arguments of a tool call: parsed strictly, and held against the schema that the request itself offers.

A schema comes from the agent and arguments come from a model, so both are hostile: every keyword that is tried is
counted, patterns run on RE2, nothing is fetched, and sizes are bounded. A breach is an error, never a yes.
In: JSON text and a schema. Out: an object, a yes or no, or CelError. Never: a guess at what broken JSON means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry
from referencing.exceptions import Unresolvable

from proxy import cel
from proxy.policy.patterns import compiled
from proxy.policy.rule import digest_of
from proxy.policy.schemas import unsound
from proxy.terms import Json

MAX_SCHEMA_BYTES = 32 * 1024
MAX_ARGUMENT_CHARACTERS = 64 * 1024
MAX_STEPS = 5_000
DEAR = {"$ref": 10, "$dynamicRef": 10, "uniqueItems": 50}
"""Keywords that cost more steps than one."""
KEPT_SCHEMAS = 256
STEP_UNITS = 24
"""What a step is charged where an expression asks: it takes some six microseconds."""
SCHEMA_UNITS = 3_000
"""What reading a schema takes."""

PARSE_UNITS = 131_072
"""What one decision may spend on reading JSON: a unit reads four characters, so half a megabyte."""


@lru_cache(maxsize=1)
def _parser() -> cel.Program:
    # Not at import: building the grammar takes 0.3 s, which a start without policies need not wait for.
    return cel.compile("json(text)", variables={"text"})


def parse(text: str, budget: cel.Budget) -> object:
    """Return the value of strict JSON (no duplicate keys, no NaN, no number that cannot be held); raise CelError."""
    return _parser().evaluate({"text": text}, budget)


def parse_object(text: str, budget: cel.Budget) -> dict[str, object]:
    """Return the arguments of a call; raise CelError unless they are one strict JSON object that has one reading also
    for tools that mind no letter case, as those in Go, or end strings at NUL, as those in C."""
    try:
        value = _plainly(parse(text, budget), "\\u0000" in text, budget)
    except cel.CelError as error:
        raise _unreadable(error.message, error.kind) from None
    except RecursionError:
        raise _unreadable("the arguments are nested too deeply", "budget") from None
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    raise _unreadable("the arguments are not a JSON object")


def _unreadable(message: str, kind: str = "") -> cel.CelError:
    """Make the error that `default()` does not take for an absent value."""
    return cel.CelError("budget" if kind == "budget" else cel.UNREADABLE, message)


def _plainly(value: Any, check_nul: bool, budget: cel.Budget) -> object:
    """Return a value whose objects have no two keys that differ in case only, and no text that ends at NUL in C."""
    if type(value) is str and check_nul and "\0" in value:
        raise cel.CelError(cel.UNREADABLE, "a text contains NUL, where some tools end it")
    if type(value) is list:
        budget.charge(2 * len(value))
        return [_plainly(item, check_nul, budget) for item in value]
    if type(value) is not dict:
        return value
    budget.charge(4 * len(value))
    if len({key.casefold() for key in value}) < len(value):
        raise cel.CelError(cel.UNREADABLE, "two keys differ in letter case only")
    for key in value if check_nul else ():
        _plainly(key, check_nul, budget)
    return _Object((key, _plainly(item, check_nul, budget)) for key, item in value.items())


class _Object(dict[str, object]):
    """An object of arguments: that a key is absent cannot be told while it is there in another letter case."""

    def __missing__(self, key: str) -> object:
        self._spelt(key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self._spelt(key)

    def _spelt(self, key: object) -> bool:
        wanted = key.casefold() if isinstance(key, str) else key
        for written in self:
            if written.casefold() == wanted:
                raise _unreadable(
                    f"the arguments have {key!r} in other letters: tools differ in whether it is that key"
                )
        return False


class Arguments(Mapping[str, object]):
    """Show a call's arguments as a map that is parsed on first reading; reading broken ones raises CelError."""

    def __init__(self, text: str, budget: cel.Budget) -> None:
        self._text = text
        self._budget = budget
        self._value: dict[str, object] | None = None

    def _parsed(self) -> dict[str, object]:
        if self._value is None:
            self._value = parse_object(self._text, self._budget)
        return self._value

    def __getitem__(self, name: str) -> object:
        return self._parsed()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())


def conforms(arguments: Mapping[str, object], text: str, schema: Json) -> bool:
    """Say whether arguments fit a tool's schema; a tool that offers none takes no arguments (OpenAI API reference)."""
    if schema is None:
        return not arguments
    encoded = msgspec.json.encode(schema)
    if len(encoded) > MAX_SCHEMA_BYTES or len(text) > MAX_ARGUMENT_CHARACTERS:
        raise cel.CelError("budget", "the arguments or their schema are too large to check")
    return _checker(encoded)(arguments, MAX_STEPS)[0]


def fits(budget: cel.Budget, value: object, schema: object) -> bool:
    """Say whether a value fits a JSON Schema that a policy gives: all of it is paid, and no JSON is an error."""
    plain_value, plain_schema = _as_json(value, budget), _as_json(schema, budget)
    encoded = msgspec.json.encode(plain_schema)
    if not isinstance(plain_schema, dict) or len(encoded) > MAX_SCHEMA_BYTES:
        raise cel.CelError(
            "invalid_argument", "schemaOk() takes a value and a JSON Schema that is a map and not too large"
        )
    budget.charge(SCHEMA_UNITS + len(encoded) // 4)
    fit, taken = _checker(encoded)(plain_value, min(MAX_STEPS, budget.left // STEP_UNITS))
    budget.charge(taken * STEP_UNITS)
    return fit


def _as_json(value: Any, budget: cel.Budget) -> Any:
    """Return a value of an expression as JSON has it."""
    if value is None or type(value) in (bool, int, float):
        budget.charge(1)
        return value
    if type(value) is str:
        budget.charge(1 + len(value) // 64)
        return value
    if isinstance(value, list):
        budget.charge(2 + len(value))
        return [_as_json(item, budget) for item in value]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        budget.charge(2 + 4 * len(value))
        return {key: _as_json(item, budget) for key, item in value.items()}
    raise cel.CelError("no_such_overload", "schemaOk() takes what JSON can say, in maps with keys that are texts")


class _Steps:
    """Counts the keywords that one check has tried."""

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def take(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise cel.CelError("budget", "checking the arguments against their schema takes too long")


@lru_cache(maxsize=KEPT_SCHEMAS)
def _checker(encoded: bytes) -> Callable[[object, int], tuple[bool, int]]:
    """Compile a schema: to what fits, within so many steps, and the steps that were taken. One that is not valid gives
    a checker that always fails."""
    schema, steps = msgspec.json.decode(encoded), _Steps()
    wrong = unsound(schema)
    validator = None if wrong else _validator(schema, steps)

    def check(arguments: object, most: int) -> tuple[bool, int]:
        if validator is None:
            raise cel.CelError("invalid_argument", f"the schema is not valid: {wrong}")
        steps.left = most
        try:
            return bool(validator.is_valid(arguments)), most - steps.left
        except (Unresolvable, RecursionError, ValueError) as error:
            raise cel.CelError("invalid_argument", f"the schema is of no use: {type(error).__name__}") from None

    return check


def _validator(schema: object, steps: _Steps) -> Any:
    counted = {name: _counted(name, keyword, steps) for name, keyword in _KEYWORDS.items()}
    extend: Callable[..., Any] = validators.extend
    return extend(Draft202012Validator, counted)(schema, registry=Registry())


_Keyword = Callable[[Any, Any, Any, Any], "Iterator[ValidationError] | None"]


def _counted(name: str, keyword: _Keyword, steps: _Steps) -> _Keyword:
    dear = DEAR.get(name, 1)

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        offered, given = _size(value), _size(instance)
        steps.take(dear + offered // 16 + given // 256 + (offered * given if name == "patternProperties" else 0))
        yield from keyword(validator, value, instance, schema) or ()

    return check


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not compiled(pattern).search(instance):
        yield ValidationError("does not match the pattern")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    for pattern, subschema in patterns.items() if isinstance(instance, dict) else ():
        for key, value in instance.items():
            if compiled(pattern).search(key):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if unique and isinstance(instance, list):
        seen = {msgspec.json.encode(plain(item), order="sorted") for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("has an element twice")


def call_digest(name: str, arguments: object) -> str:
    """Return one text for one call, however its arguments are spelled."""
    return digest_of([name, plain(arguments)])


def plain(value: Any) -> Any:
    """Write a whole double as the integer that JSON Schema takes it for."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


_KEYWORDS: dict[str, _Keyword] = {
    **Draft202012Validator.VALIDATORS,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "uniqueItems": _unique_items,
}
