"""Owns the comparison of our CEL with Google's C++ evaluator on random expressions.

Usage: python bench/cel_fuzz.py [--expressions N] [--seed N]. Each expression is typed at random with some holes filled
by the wrong type on purpose, and evaluated by both over the same random activation. Prints every disagreement that
DIFFERENCES does not explain; exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import datetime
import math
import platform
import random
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cel_expr_python import cel as google
from cel_expr_python.ext import ext_bindings, ext_math, ext_strings

from proxy import cel

# Holes: <kind> is an expression of that kind or, at times, of another; $name:kind brings a loop variable for what is to
# the right of it. <kind!> is never of another kind: a list made of a map's keys has their order, which is not defined.
PRODUCTIONS: dict[str, tuple[str, ...]] = {
    "bool": (
        "true",
        "false",
        "<bool> && <bool>",
        "<bool> || <bool>",
        "(<bool> || <bool>) && <bool>",
        "!<bool>",
        "<bool> ? <bool> : <bool>",
        "<any> == <any>",
        "<any> != <any>",
        "<string> == <string>",
        "<int> == <double>",
        "<int> < <int>",
        "<int> >= <double>",
        "<uint> <= <int>",
        "<double> > <double>",
        "<string> < <string>",
        "<bytes> <= <bytes>",
        "<bool> < <bool>",
        "<timestamp> < <timestamp>",
        "<duration> >= <duration>",
        "<string> in <strings>",
        "<int> in <ints>",
        "<any> in <list>",
        "<string> in <map>",
        "<any> in <map>",
        "has(<map>.a)",
        "has(<map>.b.a)",
        "<string>.contains(<string>)",
        "<string>.startsWith(<string>)",
        "<string>.endsWith(<string>)",
        "<string>.matches(<pattern>)",
        "<ints>.exists($v:int, <bool>)",
        "<list>.exists($v:any, <bool>)",
        "<ints>.all($v:int, <bool>)",
        "<list>.all($v:any, <bool>)",
        "<map>.exists($v:string, <bool>)",
        "<strings>.exists_one($v:string, <bool>)",
        "bool(<string>)",
        "math.isNaN(<double>)",
        "math.isInf(<double>)",
        "math.isFinite(<double>)",
        "type(<any>) == <type>",
        "cel.bind(w, <int>, w == <any>)",
    ),
    "int": (
        "0",
        "1",
        "2",
        "-1",
        "7",
        "9223372036854775807",
        "-9223372036854775808",
        "<int> + <int>",
        "<int> - <int>",
        "<int> * <int>",
        "<int> / <int>",
        "<int> % <int>",
        "-<int>",
        "<bool> ? <int> : <int>",
        "size(<string>)",
        "<list>.size()",
        "size(<map>)",
        "size(<bytes>)",
        "int(<string>)",
        "int(<double>)",
        "int(<uint>)",
        "int(<timestamp>)",
        "<ints>[<int>]",
        "<ints>[0]",
        "<map>.a",
        "<string>.indexOf(<string>)",
        "<string>.indexOf(<string>, <int>)",
        "<string>.lastIndexOf(<string>)",
        "<string>.lastIndexOf(<string>, <int>)",
        "math.greatest(<int>, <int>)",
        "math.least(<int>, <int>, <int>)",
        "math.abs(<int>)",
        "math.sign(<int>)",
        "math.bitAnd(<int>, <int>)",
        "math.bitOr(<int>, <int>)",
        "math.bitXor(<int>, <int>)",
        "math.bitNot(<int>)",
        "math.bitShiftLeft(<int>, <int>)",
        "math.bitShiftRight(<int>, <int>)",
        "<timestamp>.getFullYear()",
        "<timestamp>.getMonth(<zone>)",
        "<timestamp>.getDate(<zone>)",
        "<timestamp>.getDayOfMonth()",
        "<timestamp>.getDayOfWeek(<zone>)",
        "<timestamp>.getDayOfYear()",
        "<timestamp>.getHours(<zone>)",
        "<timestamp>.getMinutes(<zone>)",
        "<timestamp>.getSeconds()",
        "<timestamp>.getMilliseconds()",
        "<duration>.getHours()",
        "<duration>.getMinutes()",
        "<duration>.getSeconds()",
        "<duration>.getMilliseconds()",
    ),
    "uint": (
        "0u",
        "1u",
        "2u",
        "18446744073709551615u",
        "<uint> + <uint>",
        "<uint> - <uint>",
        "<uint> * <uint>",
        "<uint> / <uint>",
        "<uint> % <uint>",
        "uint(<int>)",
        "uint(<double>)",
        "uint(<string>)",
        "math.greatest(<uint>, <uint>)",
        "math.abs(<uint>)",
        "math.bitNot(<uint>)",
        "math.bitShiftLeft(<uint>, <int>)",
        "math.bitShiftRight(<uint>, <int>)",
    ),
    "double": (
        "0.0",
        "1.0",
        "-1.5",
        "2.5",
        "1e300",
        "0.1",
        "9007199254740992.0",
        "<double> + <double>",
        "<double> - <double>",
        "<double> * <double>",
        "<double> / <double>",
        "-<double>",
        "double(<int>)",
        "double(<uint>)",
        "double(<string>)",
        "math.ceil(<double>)",
        "math.floor(<double>)",
        "math.round(<double>)",
        "math.trunc(<double>)",
        "math.abs(<double>)",
        "math.sign(<double>)",
        "math.greatest(<double>, <double>)",
        "math.least(<double>, <int>)",
        "<map>.c",
    ),
    "string": (
        "''",
        "'a'",
        "'Abc'",
        "'é😀'",
        "'a,b,c'",
        "' x '",
        "'-12'",
        "'1.5'",
        r"'q\"\\\n'",
        "<string> + <string>",
        "<bool> ? <string> : <string>",
        "string(<int>)",
        "string(<uint>)",
        "string(<double>)",
        "string(<bool>)",
        "string(<bytes>)",
        "string(<timestamp>)",
        "string(<duration>)",
        "<strings>[<int>]",
        "<map>.s",
        "<map>['s']",
        "<string>.charAt(<int>)",
        "<string>.lowerAscii()",
        "<string>.upperAscii()",
        "<string>.replace(<string>, <string>)",
        "<string>.replace(<string>, <string>, <int>)",
        "<string>.substring(<int>)",
        "<string>.substring(<int>, <int>)",
        "<string>.trim()",
        "<string>.reverse()",
        "<strings>.join()",
        "<strings>.join(<string>)",
        "strings.quote(<string>)",
        "'%s|%d|%x'.format([<any>, <int>, <int>])",
        "'%.2f %e %b %o %X'.format([<double>, <double>, <int>, <uint>, <string>])",
    ),
    "bytes": ("b''", "b'abc'", r"b'\xff\x00'", "<bytes> + <bytes>", "bytes(<string>)"),
    "timestamp": (
        "timestamp('2024-02-29T23:59:59.123456Z')",
        "timestamp('0001-01-01T00:00:00Z')",
        "timestamp('9999-12-31T23:59:59Z')",
        "timestamp('1969-12-31T23:00:00.5-05:30')",
        "timestamp(<int>)",
        "<timestamp> + <duration>",
        "<duration> + <timestamp>",
        "<timestamp> - <duration>",
        "timestamp(string(<timestamp>))",
    ),
    "duration": (
        "duration('0s')",
        "duration('1h30m')",
        "duration('-2.5s')",
        "duration('1ms')",
        "duration('100000h')",
        "<duration> + <duration>",
        "<duration> - <duration>",
        "<timestamp> - <timestamp>",
        "duration(string(<duration>))",
    ),
    "null": ("null",),
    "type": ("int", "uint", "double", "string", "bool", "bytes", "list", "map", "null_type", "type(<any>)"),
    "ints": (
        "[]",
        "[1, 2, 3]",
        "[<int>, <int>]",
        "<ints> + <ints>",
        "<ints!>.filter($v:int, <bool>)",
        "<ints!>.map($v:int, <int>)",
        "<ints!>.map($v:int, <bool>, <int>)",
        "<strings!>.map($v:string, <int>)",
        "<map>.l",
    ),
    "strings": (
        "['a', 'b']",
        "[<string>, <string>]",
        "<strings> + <strings>",
        "<strings!>.filter($v:string, <bool>)",
        "<ints!>.map($v:int, <string>)",
        "<string>.split(<string>)",
        "<string>.split(<string>, <int>)",
    ),
    "list": ("[<any>, <any>, <any>]", "<ints>", "<strings>", "[<list>, <map>]", "<map>.l"),
    "map": (
        "{}",
        "{'a': <int>, 'b': {'a': <any>}}",
        "{'a': <any>, 's': <string>}",
        "{<int>: <any>}",
        "{<uint>: <any>, 'a': 1}",
        "{<bool>: <any>}",
        "<map>.b",
        "<map>['b']",
    ),
    "pattern": ("'a'", "'^[A-Z]'", "'b+$'", "'.'", "'(a|b)*c'", r"'\\d+'", "'('", "<string>"),
    "zone": ("'UTC'", "'+05:30'", "'-03:00'", "'America/New_York'", "'Asia/Kolkata'", "'Nowhere/Land'", "'02:00'"),
}
SCALARS = ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration", "null", "type")
VARIABLES: dict[str, tuple[str, Any]] = {
    "i": ("int", google.Type.INT),
    "j": ("int", google.Type.INT),
    "u": ("uint", google.Type.UINT),
    "d": ("double", google.Type.DOUBLE),
    "s": ("string", google.Type.STRING),
    "t": ("string", google.Type.STRING),
    "y": ("bytes", google.Type.BYTES),
    "p": ("bool", google.Type.BOOL),
    "ts": ("timestamp", google.Type.TIMESTAMP),
    "dur": ("duration", google.Type.DURATION),
    "n": ("null", google.Type.DYN),
    "li": ("ints", google.Type.DYN),
    "ls": ("strings", google.Type.DYN),
    "lx": ("list", google.Type.DYN),
    "m": ("map", google.Type.DYN),
}
_HOLE = re.compile(r"<(\w+)(!?)>|\$v:(\w+)")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


class Writer:
    """Write random expressions."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._loops = 0

    def expression(self) -> str:
        """Return one expression, most often a condition."""
        self._loops = 0
        kind = "bool" if self._chance.random() < 0.6 else "any"
        return self._write(kind, self._chance.randint(1, 4), {})

    def _write(self, kind: str, depth: int, scope: Mapping[str, str], strict: bool = False) -> str:
        chance = 1.0 if strict else self._chance.random()
        if kind == "any" or chance < 0.03:
            kind = self._chance.choice((*SCALARS, "ints", "list", "map"))
        elif chance < 0.06:
            return f"dyn({self._write(kind, depth, scope)})"
        names = [name for name, (of, _) in VARIABLES.items() if of == kind]
        names += [name for name, of in scope.items() if of == kind or (of == "any" and not strict)] * 3
        if depth == 0 or self._chance.random() < 0.15:
            leaves = [text for text in PRODUCTIONS[kind] if "<" not in text] + names * 2
            return self._chance.choice(leaves or ["missing"])
        return self._fill(self._chance.choice(PRODUCTIONS[kind]), depth - 1, scope)

    def _fill(self, template: str, depth: int, scope: Mapping[str, str]) -> str:
        parts, offset = [], 0
        for hole in _HOLE.finditer(template):
            parts.append(template[offset : hole.start()])
            offset = hole.end()
            if hole[3]:
                self._loops += 1
                name = f"v{self._loops}"
                scope = {**scope, name: hole[3]}
                parts.append(name)
            else:
                inner = self._write(hole[1], depth, scope, strict=bool(hole[2]))
                parts.append(inner if re.fullmatch(r"[\w.]+|'[^']*'", inner) else f"({inner})")
        return "".join((*parts, template[offset:]))


def activation(chance: random.Random) -> tuple[dict[str, object], dict[str, object]]:
    """Return the same random variables for us and for Google."""
    integers = (0, 1, -1, 5, 2**53 + 1, 2**63 - 1, -(2**63))
    texts = ("", "a", "Abc", "é😀é", "a,b,,c", " x\t", "12", "1e3", "true", "abcabc")
    doubles = (0.0, -0.0, 1.0, 1.5, -2.5, 1e17, 1e300, math.inf, -math.inf, math.nan, 9007199254740992.0)
    scalars: tuple[object, ...] = (*integers, *texts, *doubles, True, False, None, b"ab")

    def some(pool: tuple[Any, ...], most: int = 4) -> list[Any]:
        return [chance.choice(pool) for _ in range(chance.randint(0, most))]

    shared: dict[str, object] = {
        "i": chance.choice(integers),
        "j": chance.choice(integers),
        "d": chance.choice(doubles),
        "s": chance.choice(texts),
        "t": chance.choice(texts),
        "y": chance.choice((b"", b"ab", b"\xff", b"a")),
        "p": chance.choice((True, False)),
        "n": None,
        "li": some(integers),
        "ls": some(texts),
        "lx": some(scalars),
        "m": {key: chance.choice((*scalars, some(integers), {"a": 1})) for key in some(("a", "b", "c", "s", "l"), 6)},
    }
    unsigned = chance.choice((0, 1, 7, 2**64 - 1))
    moment = _EPOCH + datetime.timedelta(microseconds=chance.randint(-(10**15), 10**15))
    span = datetime.timedelta(microseconds=chance.choice((0, 1, -1, 90_000_000, -(10**12), 10**15)))
    ours = {
        "u": cel.UInt(unsigned),
        "ts": cel.Timestamp.from_datetime(moment),
        "dur": cel.Duration(span // _MICROSECOND * 1000),
    }
    return {**shared, **ours}, {**shared, "u": unsigned, "ts": moment, "dur": span}


# Google's wrapper gives back references to None that it never took; without spare ones CPython 3.11 aborts.
for _ in range(100_000):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))
ERROR, REJECTED = "error", "rejected"
_TYPE_NAMES = {
    "NULL": "null_type",
    "TIMESTAMP": "google.protobuf.Timestamp",
    "DURATION": "google.protobuf.Duration",
    "LIST<DYN>": "list",
    "MAP<DYN, DYN>": "map",
}
_ENVIRONMENT = google.NewEnv(
    variables={name: kind for name, (_, kind) in VARIABLES.items()},
    extensions=[ext_math.ExtMath(), ext_strings.ExtStrings(), ext_bindings.ExtBindings()],
)


def ours(expression: str, variables: Mapping[str, object]) -> object:
    """Evaluate with our CEL; the result is in a form that == compares."""
    try:
        program = cel.compile(expression, check=False)
        return _plain(program.evaluate(variables, cel.Budget(10**7)))
    except cel.CelError:
        return ERROR


def googles(expression: str, variables: dict[str, object]) -> object:
    """Evaluate with Google's C++ runtime; the result is in the same form."""
    try:
        program = _ENVIRONMENT.compile(expression, disable_check=True)
    except RuntimeError:
        return REJECTED
    try:
        result = program.eval(data=variables)
    except RuntimeError:
        return ERROR
    try:
        return _from_google(result)
    except TypeError:
        return REJECTED


def _plain(value: Any) -> object:
    match value:
        case bool() | None | str() | bytes():
            return (type(value).__name__, value)
        case cel.UInt() | int() | float():
            return (type(value).__name__.lower(), repr(float(value)) if isinstance(value, float) else int(value))
        case cel.Timestamp():
            return ("timestamp", value.nanos // 1000)
        case cel.Duration():
            return ("duration", int(math.copysign(abs(value.nanos) // 1000, value.nanos)))
        case cel.CelType():
            return ("type", value.name)
        case list() | tuple():
            return ("list", tuple(map(_plain, value)))
    return ("map", frozenset((_plain_key(key), _plain(item)) for key, item in value.items()))


def _plain_key(key: object) -> object:
    return (isinstance(key, bool), key)


def _from_google(result: Any) -> object:
    kind, value = result.type().name(), result.value()
    if kind == "ERROR":
        return ERROR
    if kind.startswith("LIST"):
        return ("list", tuple(map(_from_google, value)))
    if kind.startswith("MAP"):
        return ("map", frozenset((_plain_key(key), _from_google(item)) for key, item in value.items()))
    match value:
        case bool() | None | str():
            return (type(value).__name__, value)
        case bytes() | bytearray():
            return ("bytes", bytes(value))
        case datetime.datetime():
            return ("timestamp", (value - _EPOCH) // _MICROSECOND)
        case datetime.timedelta():
            return ("duration", value // _MICROSECOND)
        case float():
            return ("float", repr(value))
        case int():
            return ("uint" if kind == "UINT" else "int", value)
    return ("type", _TYPE_NAMES.get(value.name(), value.name().lower()))


class Disagreement(NamedTuple):
    """Hold one expression on which the two differ."""

    expression: str
    variables: dict[str, object]
    ours: object
    googles: object

    @property
    def outcome(self) -> str:
        """Name who fails, or say that both have a value."""
        return "ours fails" if self.ours == ERROR else "theirs fails" if self.googles == ERROR else "values"


class Difference(NamedTuple):
    """Explain one known disagreement: an expression that shows it, what it looks like in others, and why it stays."""

    example: str
    pattern: str
    outcome: str
    reason: str

    def explains(self, found: Disagreement) -> bool:
        """Tell if a disagreement is an instance of this one."""
        return self.outcome in ("any", found.outcome) and re.search(self.pattern, found.expression) is not None


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "timestamp('9999-12-31T23:59:59Z').getMonth('+05:30')",
        "9999-12-31|0001-01-01",
        "ours fails",
        "a local time outside the years 1 to 9999 has no calendar here",
    ),
    Difference(
        "cel.bind(w, 1 / 0, true)",
        r"cel\.bind",
        "ours fails",
        "a bound value is evaluated once, before the body: an error in it is never lost",
    ),
    Difference("int(true)", r"\bint\(", "ours fails", "the language definition has no conversion from bool to int"),
    Difference(
        "'%s'.format([b'\\xff'])", "format", "ours fails", "bytes that are not UTF-8 are no text, as in string(bytes)"
    ),
    Difference(
        "'%d'.format([1.5])",
        "format",
        "ours fails",
        "the strings extension: %d takes integers (NaN and infinity apart)",
    ),
    Difference(
        "'%s'.format([1234567.5])",
        "format",
        "values",
        "theirs rounds doubles to six digits; ours reads back as the same",
    ),
    Difference(
        "'ab'.substring(1, 2)", "substring", "theirs fails", "the strings extension allows an end at the text's own end"
    ),
    Difference("size(''.split(''))", "split", "any", "an empty text has no characters to split into, as in cel-go"),
)
if platform.machine() == "x86_64":
    DIFFERENCES += (
        Difference(
            "string(0.0 / 0.0)",
            r"string\(.*(?:/|-[a-z(])",
            "values",
            "theirs writes the sign that this processor gives to what is not a number",
        ),
    )


def explained(found: Disagreement) -> Difference | None:
    """Return the known difference that a disagreement is an instance of."""
    return next((known for known in DIFFERENCES if known.explains(found)), None)


def disagreements(expressions: int, seed: int) -> Iterator[Disagreement]:
    """Yield what differs, explained or not."""
    chance = random.Random(seed)  # noqa: S311  # repeatable, not secret
    writer = Writer(chance)
    for _ in range(expressions):
        expression, (mine, theirs) = writer.expression(), activation(chance)
        a, b = ours(expression, mine), googles(expression, theirs)
        if a != b and b != REJECTED:
            yield Disagreement(expression, mine, a, b)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--expressions", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    unexplained = 0
    for found in disagreements(options.expressions, options.seed):
        difference = explained(found)
        counts[f"{found.outcome}: {difference.reason if difference else 'NOT EXPLAINED'}"] += 1
        if difference is None:
            unexplained += 1
            print(found)
    print(f"{options.expressions} expressions, {unexplained} disagreements not explained")
    for reason, count in counts.most_common():
        print(f"{count:6} {reason}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
