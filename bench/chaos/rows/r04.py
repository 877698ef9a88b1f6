"""Owns row R4: agents that leave at every instant of a reply, and what their calls are booked at.

A Handrail stands in front of a provider that writes token by token and charges for what it has written
(`bench/chaos/writing.py`). Agents leave as soon as they have asked, before the head, after every event, at the end
marker; of replies in words and in tool calls, streamed and not; under `onDisconnect: drain` and `abort`. Then each
line of the bill is looked for in the records, and what it says compared with what was booked.

With $HANDRAIL_DATA the calls are those of recorded conversations (tau-bench's retail desk with its tools and policy,
ABCD), and besides recorded calls to OpenAI, charged for their requests as OpenAI has charged; else some invented ones.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.chaos.writing import LAG_TOKENS, LAST_EVENTS, Call, Charge, Told, Writer
from proxy.stores.sqlite import Reader
from proxy.terms import Exchange, State, UsageSource

TITLE = "disconnect at any chunk: records missing; cost error against the provider's bill"
GATE = "0; drain 0 %, abort at most 5 % in the median and never below -10 %"
STRETCH = "abort at most 2 % in the median"

INPUT_NANOUSD, OUTPUT_NANOUSD = 250, 2_000
"""Per token: what a small model of 2026 charges, output eight times as dear as input."""
AT_ONCE = 12
BATCH = 400
FULL, SHORT = 4_000, 48
"""Calls."""
READY_S = 60.0
ASKED, HEADLESS = -1, 0
"""Places to leave: as soon as it is asked, and when the provider has the call but has not answered."""
CONFIG = """\
listen: "unix:SOCKET"
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {bench: {dialect: openai, base_url: "http://127.0.0.1:PORT/v1"}}
models:
  drain: {provider: bench, model: m, price: PRICE}
  abort: {provider: bench, model: m, price: PRICE}
policies: [policy.yaml]
state: {path: state.sqlite}
limits: {drain_s: 300}
"""
"""Replies of thousands of tokens take longer than the default allows a drain."""
PRICE = "{input_usd_per_mtok: 0.25, output_usd_per_mtok: 2}"
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: leaving, version: 1.0.0}
spec: {onDisconnect: abort, selector: {models: [abort]}}
"""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\nconnection: close\r\n"
PROMPT = {"role": "system", "content": "You help the customers of a shop. Be brief and kind."}


class Leave(msgspec.Struct, frozen=True, kw_only=True):
    """One call, and when its agent leaves: after so many events are written; None: after the end marker."""

    told: Told
    model: str
    stream: bool
    after: int | None
    kind: str
    """`said` or `recorded`: whose count of the request is charged."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was charged for a call, and what was booked; None: there is no record."""

    model: str
    stream: bool
    kind: str
    ended: bool
    """Its agent had got the end marker."""
    charged: int
    booked: int | None
    state: str = ""
    records: int = 0

    @property
    def error(self) -> float:
        """Return by how much of the bill it is booked too high."""
        return (self.booked or 0) / self.charged - 1


# --- the calls ------------------------------------------------------------------------------------------------------


def invented() -> list[tuple[str, Told]]:
    """Return calls that need no recordings."""
    tool = {
        "name": "look_up_order",
        "description": "Look up an order by its number.",
        "parameters": {"type": "object", "properties": {"order": {"type": "string", "description": "Its number."}}},
    }
    call = {"id": "c1", "type": "function", "function": {"name": "look_up_order", "arguments": '{"order": "A-20117"}'}}
    asked = {"role": "user", "content": "Where is my order A-20117? It should have been here on Monday."}
    text = "I am sorry that it is late. I will look into it at once, and tell you when it will be with you. " * 3
    rules = "\n".join(
        f"{n}. Answer in {n} sentences, and promise nothing that the shop does not do." for n in range(160)
    )
    prompt = {"role": "system", "content": rules}
    words = Told(body={"messages": [prompt, asked]}, reply={"role": "assistant", "content": text})
    calls = Told(
        body={"messages": [prompt, asked], "tools": [{"type": "function", "function": tool}]},
        reply={"role": "assistant", "content": None, "tool_calls": [call]},
    )
    return [("said", words), ("said", calls)]


def recorded(data: Path) -> list[tuple[str, Told]]:
    """Return the replies of recorded conversations, and recorded calls with their own bill."""
    from bench.stitching import conversations  # It needs the recordings.

    retail = data / "tau-retail"
    tools = json.loads((retail / "tools.openai.json").read_text(encoding="utf-8"))
    desk = [{"role": "system", "content": (retail / "policy.md").read_text(encoding="utf-8")}]
    found = []
    for one in conversations(data):
        if one.id.startswith("abcd"):
            found += [("said", told) for told in _replies(one.messages, [PROMPT], {})]
        elif any(message.get("tool_calls") for message in one.messages):
            found += [("said", told) for told in _replies(one.messages, desk, {"tools": tools})]
    return [*found, *(("recorded", told) for told in _billed(data))]


def _replies(messages: Sequence[dict[str, Any]], before: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Told]:
    for number, message in enumerate(messages):
        if message["role"] == "assistant" and number:
            yield Told(body={"messages": [*before, *messages[:number]], **body}, reply=message)


def _billed(data: Path) -> Iterator[Told]:
    """Yield recorded calls to OpenAI whose replies show all that was charged for them."""
    with gzip.open(data / "cassettes" / "openai.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            with suppress(TypeError, KeyError, ValueError, IndexError):
                asked, said = json.loads(record["request"]["body"]), json.loads(record["response"]["body"])
                message, usage = said["choices"][0]["message"], said["usage"]
                thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
                kept = {
                    key: asked[key] for key in ("messages", "tools", "functions", "response_format") if asked.get(key)
                }
                if not thought and len(said["choices"]) == 1 and _plain(kept["messages"]):
                    reply = {key: message[key] for key in ("role", "content", "tool_calls") if message.get(key)}
                    yield Told(body=kept, reply=reply, input_tokens=usage["prompt_tokens"])


def _plain(messages: Sequence[dict[str, Any]]) -> bool:
    return all(isinstance(message.get("content", ""), str) or message.get("content") is None for message in messages)


def leaves(told: Sequence[tuple[str, Told]], count: int, dice: random.Random) -> list[Leave]:
    """Return so many calls: every third unstreamed, the rest left at any place of their reply, the first, the last
    content and the end marker among them; one in five with a recorded bill."""
    made = []
    kinds = {kind: [one for of, one in told if of == kind] for kind, _ in told}
    for number in range(count):
        kind = "recorded" if dice.random() < 0.2 and "recorded" in kinds else "said"
        one = dice.choice(kinds[kind])
        model, stream = ("drain", "abort")[number % 2], number % 6 < 4
        events = len(Call(one).events)
        places = (
            [ASKED, HEADLESS, 1, events, events + LAST_EVENTS - 1, None] if number % 3 == 0 else [*range(1, events)]
        )
        after = dice.choice(places or [1]) if stream else dice.choice((ASKED, HEADLESS, None))
        made.append(Leave(told=one, model=model, stream=stream, after=after, kind=kind))
    return made


# --- leaving --------------------------------------------------------------------------------------------------------


async def leave(socket: Path, leaving: Leave, user: str, call: Call) -> None:
    """Make one call and leave it."""
    asked = {**leaving.told.body, "model": leaving.model, "stream": leaving.stream, "user": user}
    body = msgspec.json.encode(asked)
    reader, writer = await asyncio.open_unix_connection(str(socket))
    writer.write(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    if leaving.after is None:
        await reader.read()
    elif leaving.after >= HEADLESS:
        async with asyncio.timeout(READY_S):
            await call.reached(leaving.after)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def batch(folder: Path, calls: Mapping[str, Leave], dice: random.Random) -> list[Charge]:
    """Make calls through a Handrail of their own, in this folder; return the provider's bill."""
    provider = Writer(dice)
    with tempfile.TemporaryDirectory() as short:  # The path of a socket must not be long.
        socket = Path(short) / "h.sock"
        async with provider.serving() as port:
            config = folder / "handrail.yaml"
            config.write_text(CONFIG.replace("SOCKET", str(socket)).replace("PORT", str(port)).replace("PRICE", PRICE))
            (folder / "policy.yaml").write_text(POLICY)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve", "--config", config, stdout=DEVNULL, stderr=DEVNULL
            )
            try:
                await _up(socket)
                await _warm(socket, provider, folder / "state.sqlite")
                await _all(socket, provider, calls)
                await _quiet(folder / "state.sqlite")
            finally:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                await process.wait()
    return provider.bill


async def _all(socket: Path, provider: Writer, calls: Mapping[str, Leave]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(user: str, leaving: Leave) -> None:
        async with gate:
            await leave(socket, leaving, user, provider.expect(user, leaving.told))

    async with asyncio.TaskGroup() as group:
        for user, leaving in calls.items():
            group.create_task(one(user, leaving))


async def _up(socket: Path) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_unix_connection(str(socket))
                writer.close()
                return
            await asyncio.sleep(0.05)


async def _warm(socket: Path, provider: Writer, records: Path) -> None:
    """Leave calls until the tokenizer is loaded, which Handrail does when it first needs it."""
    _, told = invented()[0]
    leaving = Leave(told=told, model="abort", stream=True, after=2, kind="warm")
    async with asyncio.timeout(READY_S):
        while not _counted(records):
            await leave(socket, leaving, "warm", provider.expect("warm", told))
            await asyncio.sleep(0.5)


def _counted(path: Path) -> bool:
    with Reader(str(path)) as reader:
        tries = [attempt for record in reader.between(0, 1 << 62) for attempt in record.attempts]
    return any(attempt.usage.source is UsageSource.TOKENIZER for attempt in tries)


async def _quiet(path: Path) -> None:
    """Wait until no call is in flight."""
    async with asyncio.timeout(READY_S):
        while True:
            await asyncio.sleep(0.3)
            with Reader(str(path)) as reader:
                if not reader.in_flight():
                    return


# --- the comparison -------------------------------------------------------------------------------------------------


def compared(path: Path, bill: Sequence[Charge], calls: Mapping[str, Leave]) -> list[Seen]:
    """Return what was charged and booked for each call that was billed."""
    with Reader(str(path)) as reader:
        records = list(reader.between(0, 1 << 62))
    found: dict[str, list[Exchange]] = {}
    for record in records:
        found.setdefault(record.sent_digest, []).append(record)
    return [_seen(calls[charge.user], charge, found.get(charge.digest, [])) for charge in bill if charge.user in calls]


def _seen(leaving: Leave, charge: Charge, records: Sequence[Exchange]) -> Seen:
    record = records[0] if records else None
    return Seen(
        model=leaving.model,
        stream=leaving.stream,
        kind=leaving.kind,
        ended=leaving.after is None,
        charged=charge.input_tokens * INPUT_NANOUSD + charge.output_tokens * OUTPUT_NANOUSD,
        booked=record.cost.nanousd if record else None,
        state=record.state if record else "",
        records=len(records),
    )


def figures(seen: Sequence[Seen]) -> dict[str, Figure]:
    """Return what the row asks for, and what else is worth knowing."""
    booked = [one for one in seen if one.booked is not None]
    cut = [
        one for one in booked if one.model == "abort" and one.stream and not one.ended and one.state != State.COMPLETE
    ]
    drained = [abs(one.error) for one in booked if one.model == "drain" or not one.stream]
    told: dict[str, Figure] = {
        "calls billed": len(seen),
        "records missing": sum(one.booked is None for one in seen),
        "records doubled": sum(one.records > 1 for one in seen),
        "drained": len(drained),
        "worst error of a drained call, %": _percent(max(drained, default=9.0)),
        "whole replies taken for left ones": sum(one.ended and one.state != State.COMPLETE for one in seen),
    }
    for kind, name in (("said", ""), ("recorded", "recorded bills: ")):
        errors = sorted(one.error for one in cut if one.kind == kind)
        if errors:
            told |= {
                f"{name}aborted": len(errors),
                f"{name}median error, %": _percent(median(map(abs, errors))),
                f"{name}lowest error, %": _percent(errors[0]),
                f"{name}highest error, %": _percent(errors[-1]),
                f"{name}below -10 %": sum(error < -0.1 for error in errors),
                f"{name}sum of all, %": _percent(_sum(cut, kind)),
            }
    return told


def _sum(cut: Sequence[Seen], kind: str) -> float:
    of_kind = [one for one in cut if one.kind == kind]
    return sum(one.booked or 0 for one in of_kind) / sum(one.charged for one in of_kind) - 1


def _percent(share: float) -> float:
    return round(100 * share, 2)


def run(plan: Plan) -> Outcome:
    """Leave calls at every place, and compare."""
    data = os.environ.get("HANDRAIL_DATA", "")
    told = recorded(Path(data)) if data and plan.full else invented()
    whole = FULL if plan.full else SHORT
    path = plan.folder / "seen.jsonl"
    done = plan.done
    while done < whole:
        size = min(BATCH, whole - done)
        calls = {f"call {n}": one for n, one in enumerate(leaves(told, size, plan.dice(done)), done)}
        folder = plan.folder / f"{done}-{os.getpid()}"
        folder.mkdir()
        bill = asyncio.run(batch(folder, calls, plan.dice(f"lag {done}")))
        seen = compared(folder / "state.sqlite", bill, calls)
        with path.open("ab") as lines:
            lines.writelines(msgspec.json.encode(one) + b"\n" for one in seen)
        done += size
        plan.note(done, {})
    found = [msgspec.json.decode(line, type=Seen) for line in path.read_bytes().splitlines()]
    shown = figures(found)
    none = dict.fromkeys(
        ("records missing", "records doubled", "worst error of a drained call, %", "whole replies taken for left ones"),
        0,
    )
    met = within(shown, most={**none, "median error, %": 5}, least={"lowest error, %": -10})
    return Outcome(
        figures=shown, met=met, stretch=met and within(shown, most={"median error, %": 2}), notes=_notes(shown, data)
    )


def _notes(shown: dict[str, Figure], data: str) -> tuple[str, ...]:
    model = (
        f"The provider notices 0 to {LAG_TOKENS} tokens after the connection has ended, and charges for them: at a "
        "hundred tokens a second that is up to 80 ms. One that notices later charges more than is booked."
    )
    unstreamed = "A reply that is not streamed is drained under `abort` as well: nothing is seen of it before its end."
    unseen = "Replies with tokens that are charged and not shown (reasoning) are left out: `abort` cannot know of them."
    real = (
        "recorded bills: requests charged as OpenAI has charged them, with tools that it writes in ways it does not "
        f"publish; {shown.get('recorded bills: below -10 %', 0)} of {shown.get('recorded bills: aborted', 0)} cut "
        "replies were booked more than 10 % below. What may be written unseen weighs more than a short call: such are "
        "booked above. The gate goes by the calls charged by the published formulas."
    )
    without = "HANDRAIL_DATA is not set or the slice is short: invented calls instead of recorded ones."
    return (model, unstreamed, unseen, real if "recorded bills: aborted" in shown else without)
