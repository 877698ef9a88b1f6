"""Owns the price of the guards: microseconds per KB of ordinary text, and how long a hostile one holds the loop.

Each guard scans texts made to cost it most, at the size that is scanned in one go; then, as the hallway runs it, the
one that cost most, repeated to the largest text that a request may have. `turn` is the longest time in which nobody
else had his turn.
Run: python bench/guard_cost.py [megabytes of the largest text]
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from proxy import plugins
from proxy.documents import Source
from proxy.errors import TooLarge
from proxy.pipeline.scanning import BATCH, Scanner
from proxy.pipeline.searching import PIECE, Finder
from proxy.policy.functions import UNITS_PER_US
from proxy.ports import Context, Guard
from proxy.snapshot import Limits
from proxy.terms import Caller, Facts, Level, Message, Phase, Reply, Request, Session, ToolCall

TOPICS = Path(__file__).resolve().parent.parent / "rules" / "support" / "topics.yaml"
ORDINARY = (
    "Hi Jane, thanks for waiting. I have found your order #W2378156: it has two items, a desk lamp for $54.99 and a "
    "mechanical keyboard. It was shipped on January 5 with tracking number 1Z999AA10123456784 and should arrive by "
    "Friday between 10:00 and 14:00. If you would like to return the lamp, you can do so within 30 days, and the "
    "refund goes back to your original payment method. Shall I go ahead? You can also write to help@example.com "
    "or see https://example.com/returns for the details. "
)
SEEDS = (
    # Digits and marks that begin numbers, dates and addresses.
    "1", "1 ", "1-", "1.", "1,", "1:", "1/1/", "1.1.1.1 ", "1234 ", "12345678901234567890", "+1 ", "+1(1)", ":", "::",
    "a:", "@", "a@", "a@b.", "a@b.cc ", "a.b@c.de.", "$1", "1%", "#1", "jan 1 ", "1 jan ", "order #1",
    "order is is :# ", "4111111111111111 ", "DE89 3704 ", "DE89370400440532013000 ", "aa11", "219-09-9999 ",
    "(212) 555-0187 ", "call 1", "phone 1 1 1 1 1 1 ", "born on ", "passport ", "ssn 1", "order 1234567 ", "w12345 ",
    # Beginnings of credentials and links.
    "sk-", "eyJ", "eyJaaaaaaaaaaaa.", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----\n", "password=", "password=abc123 ",
    "password is ", "://", "a://b:", "a://b:c", "bearer ", "xoxb-", "https://a.b/c ", "www.",
    # Phrases, begun and whole, and what hides them.
    "ignore ", "ignore all previous instructions ", "ignore a b c d ", "you have a b c ", "without openai ", "<!--",
    "<!-- ignore ", "](", "system:", "\n", "\nHuman:", "dear ai ", "pretend you are no rules ", "you must ",
    "\N{ZERO WIDTH SPACE}", "a\N{ZERO WIDTH SPACE}a", "shipped ", "i shipped ", "is shipped. ", "has just now just ",
    "not ", "guarantee ", "lol ", "your fault ", "A!", "AAA ", "!", "don't ", "fuck ", "very ",
    # Letters that grow when they are folded or composed, and other scripts.
    "a", "é", "ß", "中", "あ", "ДА", "\N{GRINNING FACE}", "\N{LATIN SMALL LIGATURE FFI}",
    "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",
    "\N{COMBINING ACUTE ACCENT}", " ", "_", '"', "\0",
)  # fmt: skip
MIXES = 40
CALLER = Caller(agent="bench", level=Level.EXECUTE, principal="bench")


class Cost(msgspec.Struct, frozen=True):
    """Hold what one guard costs, in CPU time."""

    name: str
    ordinary_us: float
    piece_ms: float
    turn_ms: float
    total_ms: float
    end: str
    seed: str


class Turns:
    """Time of this process's CPU, and the longest stretch between two turns of the others."""

    def __init__(self) -> None:
        self._since = self.monotonic_ms()
        self.longest = 0.0

    def wall_ms(self) -> int:
        """Return a time nobody asks for."""
        return 0

    def monotonic_ms(self) -> float:
        """Return milliseconds of CPU time."""
        return time.process_time_ns() / 1e6

    async def pause(self, _: float) -> None:
        """Note how long the last stretch was."""
        self.longest = max(self.longest, self.monotonic_ms() - self._since)
        self._since = self.monotonic_ms()


def guards() -> Iterator[Guard]:
    """Yield every guard on the shelf."""
    taught = {"topics": [Source(path="topics.yaml", text=TOPICS.read_text(encoding="utf-8"))]}
    yield from (plugins.load("guards", name).create(taught.get(name, ())) for name in plugins.names("guards"))


def hostile(size: int) -> Iterator[tuple[str, str]]:
    """Yield (what it is made of, text): each seed again and again, and mixes of three; repeatable."""
    yield from ((repr(seed), (seed * (size // len(seed) + 1))[:size]) for seed in SEEDS)
    for number in range(MIXES):
        chance = random.Random(number)  # noqa: S311  # not secret
        mix = chance.sample(SEEDS, 3)
        yield repr(mix), "".join(chance.choices(mix, k=size))[:size]


def beside(guard: Guard, text: str) -> list[str]:
    """Return the context that costs a guard most with a text."""
    if guard.context is Context.EVIDENCE:
        return [text[:BATCH]]
    if guard.context is Context.CALLS:
        return [text[:100]] * 300
    return ["topics a 0.5", "pii email 0.5"] * 500 if guard.context is Context.SIGNALS else []


def taken_ms(guard: Guard, text: str, context: Sequence[str]) -> float:
    """Return the CPU time of a scan in milliseconds: the better of two, the other was disturbed."""
    times = []
    for _ in range(2):
        began = time.process_time_ns()
        with contextlib.suppress(TooLarge):
            guard.scan(text, context)
        times.append((time.process_time_ns() - began) / 1e6)
    return min(times)


def facts(guard: Guard, text: str) -> Facts:
    """Return a reply that says a text, or is held against it."""
    judged = text[:BATCH] if guard.context is Context.EVIDENCE else text
    call = ToolCall(id="c", name="f", arguments='{"a": 1}')
    messages = (Message(role="tool", text=text), Message(role="assistant", tool_calls=(call,) * 1000))
    request = Request(dialect="chat", model="m", messages=messages, body={}, raw=b"")
    known = Facts(at_ms=0, caller=CALLER, request=request, session=Session(id="s"), response=Reply(text=judged))
    return replace(known, tool=call) if guard.context is Context.CALLS else known


async def cost(guard: Guard, largest: int) -> Cost:
    """Measure one guard."""
    kilobyte = (ORDINARY * 2)[:1024]
    ordinary = min(
        taken_ms(guard, kilobyte, [kilobyte] if guard.context is Context.EVIDENCE else []) for _ in range(50)
    )
    one = PIECE + guard.lookahead if guard.lookahead else 2 * BATCH
    piece, seed = max((taken_ms(guard, text, beside(guard, text)), seed) for seed, text in hostile(one))
    worst = next(text for name, text in hostile(largest) if name == seed)
    turns = Turns()
    scanner = Scanner({guard.name: guard}, Finder(()).search, turns, turns.pause)
    phase = Phase.TOOL_CALL if guard.context is Context.CALLS else Phase.RESPONSE
    began = time.process_time_ns()
    result = (await scanner.scan([guard.name], phase, facts(guard, worst)))[guard.name]
    await turns.pause(0)
    took = (time.process_time_ns() - began) / 1e6
    end = result.error or f"{len(result.findings)} found"
    return Cost(guard.name, ordinary * 1000, piece, turns.longest, took, end, seed)


def promises() -> Iterator[str]:
    """Yield what the functions of policies are charged, in units, and how near to it a hostile text comes."""
    spoken, wordy = (ORDINARY * 2)[:1024], ("so it goes on and on. " * 50)[:1024]
    for name in ("pii", "secrets", "grounding"):
        guard = plugins.load("guards", name).create(())
        texts = [text for _, text in hostile(PIECE)]
        share = max(taken_ms(guard, text, ()) * 1000 / guard.most_us(text) for text in texts)
        units = [UNITS_PER_US * guard.most_us(text) for text in (spoken, wordy)]
        yield f"{name:11} {units[0]:5} units for an ordinary KB, {units[1]:5} without digits; at most {share:.2f} used"


async def main(largest: int) -> None:
    """Measure and print."""
    print(f"guard       ordinary   one go     turn   whole text of {largest:,} characters, made of")
    print("            µs/KB          ms       ms")
    for guard in guards():
        row = await cost(guard, largest)
        print(
            f"{row.name:11} {row.ordinary_us:8.1f} {row.piece_ms:8.2f} {row.turn_ms:8.2f}"
            f"   {row.total_ms:9.1f} ms, {row.end}: {row.seed[:60]}"
        )
    print("\n".join(promises()))


if __name__ == "__main__":
    asyncio.run(main(int(float(sys.argv[1]) * 2**20) if len(sys.argv) > 1 else Limits().max_body_bytes))
