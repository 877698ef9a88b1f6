"""Owns the proof that no rule stops the loop: hostile expressions, each on one rule's budget, and the loop's lag.

Run: python bench/cel_hostile.py [seconds of lag measurement]. Prints per case how it ends, what it charges and takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Mapping

import msgspec

from proxy import cel
from proxy.policy.evaluation import PHASE_BUDGET, RULE_BUDGET

SIZES = (8, 200, 8000, 1_000_000)
LENGTHS = (1000, 3000, 12_000)
REFERENCE = "n.all(a, a + 1 > a - 1 && a * 2 != 7)"
CASES = (
    # Regular expressions: more states than any cache holds, large counts, Unicode classes, optional parts, long words.
    "noise.matches('(x|y)*x(x|y){14}z')",
    "noise.matches('(x|y)*x(x|y){30}z')",
    "noise.matches('x[xy]{300}z')",
    "noise.matches('(x|y)*x(x|y){900}z')",
    "noise.matches('x.{0,80}y.{0,80}z')",
    "noise.matches('(?s).{0,999}z')",
    "noise.matches('(?:x?y?){500}z')",
    "noise.matches('(x+x+)+(y+y+)+z')",
    "wide.matches('é.{100}z')",
    "wide.matches('é\\\\pL{60}z')",
    "noise.matches('(?i)xy?x|yx?y z')",
    "n.all(a, noise.matches('(x|y)*x(x|y){30}z') || true)",
    "n.all(a, noise.matches(string(a) + '|(x|y)*x(x|y){9}z') || true)",
    "n.all(a, text.matches('(x|xx|xxx)(x|xx) z') || true)",
    "n.all(a, 'x'.matches('(((x*)*)*)*y') || true)",
    "n.all(a, glob(text, '*x*x*x*y*z') || true)",
    # Loops: errors in every row, loops in loops, maps of maps.
    "n.exists(a, 1 / 0 > 0)",
    "n.exists(a, a.b.c || a.d)",
    "n.all(a, default(a.b, 1) == 1)",
    "k.all(a, k.all(b, k.all(c, a + b >= c || c > 0)))",
    "k.all(a, k.exists(b, k.map(c, [a, b, c]).size() < 0))",
    "k.map(a, k.map(b, {'a': a, 'b': {'c': b}})).size() > 0",
    "n.exists_one(a, n.exists_one(b, a == b))",
    "n.map(a, n).map(b, b + b).size() > 0",
    "rows.all(r, rows.all(q, r == q) || true)",
    "rows == rows.map(r, r)",
    # Texts: doubling, copies, joins, formats, words.
    "cel.bind(a, text + text, cel.bind(b, a + a, cel.bind(c, b + b, c + c))).size() > 0",
    "n.map(a, text + text + text).join(text).size() > 0",
    "n.map(a, text.substring(1)).size() == 0",
    "n.all(a, text.replace('x', 'xx') != '')",
    "n.all(a, text.split('').size() >= 0)",
    "n.all(a, text.upperAscii().trim().reverse() != '')",
    "n.all(a, text.indexOf('xxxxxxxxy') < 0)",
    "n.all(a, text.contains('zzz') || true)",
    "n.all(a, text.contains(text.substring(0, 4) + 'y' + text.substring(0, 4)) || true)",
    "cel.bind(h, text.substring(0, text.size() / 4), n.all(a, text.lastIndexOf(h + 'y' + h) < 0))",
    "n.all(a, containsWord(text, 'xx') || true)",
    "n.all(a, containsAny(text, ['yy', 'zz']) || true)",
    "n.all(a, similar(text, 'hello') < 1.0)",
    "n.all(a, hash(text) != '')",
    "n.all(a, urls(text).size() == 0)",
    "n.all(a, hostIn('https://a.example.com/x', ['example.org', 'example.net']) || true)",
    "n.all(a, '%s %d %.3f'.format([a, a, 1.5]) != '')",
    "n.all(a, '%.1000f'.format([1.5]) != '')",
    "n.all(a, '%s'.format([n]) != '')",
    # Conversions, times, JSON, sets, sums.
    "n.all(a, string(double(a) / 3.0) != '')",
    "n.all(a, string(timestamp(a)) != '')",
    "n.all(a, timestamp(a).getHours('America/New_York') >= 0)",
    "n.all(a, duration(string(a) + 's') >= duration('0s'))",
    "n.all(a, json('[1, 2, {\"a\": 1.5}]').size() == 3)",
    "json(deep).size() > 0",
    "n.all(a, json('{\"a\": [[[[[[1]]]]]]}').size() > 0)",
    "n.all(a, a in n)",
    "sets.contains(n, n)",
    "sets.equivalent(rows, rows)",
    "n.all(a, sum(n) > 0)",
    "n.all(a, math.greatest(a, 3) > 0 && math.abs(a) >= 0)",
    # What is refused before it runs: deep nesting, long names, open quotes, long sources.
    "(" * 500 + "1" + ")" * 500,
    "!" * 3000 + "true",
    "[" * 60 + "]" * 60,
    "a" * 4000,
    "a" * 5000,
    "'" + "x" * 4000,
    '"""' + '\\"' * 1900,
    "1" + "+1" * 2000,
    "a" + ".b" * 2000,
    "'x'.matches('" + "(" * 1000 + "')",
    "'x'.matches('((((x{9}){9}){9}){9}){9}')",
    "true ? " * 600 + "1",
)


class Outcome(msgspec.Struct, frozen=True):
    """Hold how one evaluation ended: its value's or error's kind, the units charged, the CPU nanoseconds taken."""

    end: str
    units: int
    nanos: int


def activation(size: int, length: int) -> dict[str, object]:
    """Return hostile facts: texts of a size, lists of a length; repeatable."""
    chance, numbers = random.Random(1), list(range(1, length + 1))  # noqa: S311  # not secret
    return {
        "n": numbers,
        "k": numbers[:100],
        "rows": [{"a": {"b": [number, "x" * 50]}} for number in numbers[:1000]],
        "text": "x" * size,
        "noise": "".join(chance.choices("xy", k=size)),
        "wide": "".join(chance.choices("éß€", k=size)),
        "deep": "[" * min(size, 100_000) + "]" * min(size, 100_000),
    }


def outcome(source: str, facts: Mapping[str, object], units: int = RULE_BUDGET) -> Outcome:
    """Compile and evaluate an expression; anything raised but a typed error ends the program."""
    budget, began = cel.Budget(units), time.process_time_ns()
    try:
        program = cel.compile(source)
        began = time.process_time_ns()
        end = type(program.evaluate(facts, budget)).__name__
    except cel.CelSyntaxError:
        end = "refused"
    except cel.CelError as error:
        end = error.kind
    return Outcome(end, units - max(budget.left, 0), time.process_time_ns() - began)


def worst(source: str, facts: list[dict[str, object]]) -> Outcome:
    """Return the dearest of a case's outcomes; each is the better of two, the other was disturbed."""
    best = (min((outcome(source, fact) for _ in range(2)), key=lambda end: end.nanos) for fact in facts)
    return max(best, key=lambda end: end.nanos)


class Lags(msgspec.Struct, frozen=True):
    """Hold, each sorted, the milliseconds that a loop's timers came late, and the CPU milliseconds of its phases."""

    late: list[float]
    phases: list[float]


async def lags(seconds: float, facts: list[dict[str, object]], cases: tuple[str, ...] = CASES) -> Lags:
    """Judge hostile phases on a loop that has something else to do as well."""
    programs = [program for program in map(_compiled, cases) if program]
    ends = time.monotonic() + seconds
    late: list[float] = []
    phases: list[float] = []

    async def judge() -> None:
        chance = random.Random(2)  # noqa: S311  # not secret
        while time.monotonic() < ends and programs:
            began = time.process_time()
            _phase(chance.choice(programs), chance.choice(facts))
            phases.append((time.process_time() - began) * 1000)
            await asyncio.sleep(0.002)

    async def tick() -> None:
        while time.monotonic() < ends:
            due = time.monotonic() + 0.001
            await asyncio.sleep(0.001)
            late.append((time.monotonic() - due) * 1000)

    async with asyncio.TaskGroup() as group:
        group.create_task(judge())
        group.create_task(tick())
    return Lags(sorted(late), sorted(phases))


def _compiled(source: str) -> cel.Program | None:
    try:
        return cel.compile(source)
    except cel.CelSyntaxError:
        return None


def _phase(program: cel.Program, facts: dict[str, object]) -> None:
    """Judge one rule again and again until a phase's budget is used up, or five times."""
    left = PHASE_BUDGET
    for _ in range(5):
        budget = cel.Budget(min(RULE_BUDGET, left))
        given = budget.left
        with contextlib.suppress(cel.CelError):
            program.evaluate(facts, budget)
        left -= given - max(budget.left, 0)


def main(seconds: float) -> None:
    """Measure and print."""
    facts = [activation(size, length) for size in SIZES for length in LENGTHS]
    found = {source: worst(source, facts) for source in CASES}
    print("  units   CPU ms   ends as")
    for source, end in found.items():
        print(f"{end.units:7} {end.nanos / 1e6:8.2f}   {end.end:18} {source[:90]}")
    print(f"{len(CASES)} cases; the worst takes {max(end.nanos for end in found.values()) / 1e6:.1f} ms of CPU")
    idle, hostile = asyncio.run(lags(seconds / 4, facts, ())), asyncio.run(lags(seconds, facts))
    print(f"loop lag without hostile phases: {_tail(idle.late)}")
    print(f"loop lag, a hostile phase every 2 ms: {_tail(hostile.late)}")
    print(f"CPU of a hostile phase: {_tail(hostile.phases)}")


def _tail(milliseconds: list[float]) -> str:
    at = milliseconds[min(len(milliseconds) - 1, len(milliseconds) * 99 // 100)]
    return f"p99 {at:.1f} ms, max {milliseconds[-1]:.1f} ms of {len(milliseconds)}"


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
