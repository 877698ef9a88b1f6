"""Owns the measurement of which calls are joined to the right conversation when nothing names it.

Run: python -m bench.stitching [DATA], where DATA holds the recordings (default: $HANDRAIL_DATA). All conversations of
several turns in tau-retail, abcd and the cassettes walk through one real hallway, call by call in a random order
(seed 1), once for each way in which agents keep their conversations. A call with a history is

- right if its session holds the call before it, and nothing that is not part of its history;
- wrong if its session holds a call of another conversation that says anything else than its own history;
- split if it began a session of its own.

Two conversations that have said the same so far are one history: whichever goes on in which session is right.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from bench.retail_dialogues import messages, spoken, tasks
from bench.stitching_variants import VARIANTS, Message, Step, Told, Variant, steps
from tests.fakes import Script
from tests.walking import Walked

SEED = 1
_JSON = {"content-type": "application/json"}
_ROLES = {"agent": "assistant", "customer": "user", "action": "assistant"}


class Tally(msgspec.Struct, kw_only=True):
    """What came of one variant."""

    calls: int = 0
    """Calls with a history of which Handrail saw the newest reply."""
    right: int = 0
    wrong: int = 0
    split: int = 0

    @property
    def share(self) -> float:
        """Return how many of a hundred calls were joined right."""
        return 100 * self.right / max(1, self.calls)


class Judge:
    """Knows what each session holds, and so whose it is."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._seen: set[str] = set()
        self._held: dict[str, list[tuple[Step, int, str]]] = defaultdict(list)
        """Session -> its calls, each with how much was said after it, and what."""

    def judge(self, step: Step, session: str) -> None:
        """Count one call that was joined to a session."""
        trail = _trail([*step.said, step.kept])
        held, answers = (
            self._held[session],
            [n for n, message in enumerate(step.said) if message["role"] == "assistant"],
        )
        alien = any(
            other.told != step.told and (other.who != step.who or length >= len(trail) or trail[length - 1] != whole)
            for other, length, whole in held
        )
        self.tally.wrong += alien
        if answers and step.told in self._seen:
            before = trail[answers[-1]]
            self.tally.calls += 1
            self.tally.right += not alien and any(whole == before for _, _, whole in held)
            self.tally.split += not held
        held.append((step, len(trail), trail[-1]))
        self._seen.add(step.told)


def _trail(said: Sequence[Message]) -> list[str]:
    """Return for each message what was said up to it."""
    trail, so_far = [], 0
    for message in said:
        so_far = hash((so_far, json.dumps(message, sort_keys=True)))
        trail.append(f"{so_far:x}")
    return trail


async def measured(conversations: Sequence[Told], variant: Variant, seed: int = SEED) -> Tally:
    """Walk all conversations in a random order of their calls."""
    rng, walked, judge = Random(seed), Walked(), Judge()  # noqa: S311 - the order has to be the same each time
    running = [
        islice(steps(told, variant, rng), rng.randrange(5) if variant.late else 0, None) for told in conversations
    ]
    while running:
        place = rng.randrange(len(running))
        step = next(running[place], None)
        if step is None:
            running[place] = running[-1]
            running.pop()
            continue
        walked.upstream.scripts = [Script(headers=_JSON, chunks=(_completion(step.reply),))]
        await walked.call(step.body)
        exchange = walked.seen.pop()
        if exchange.status != 200:
            raise RuntimeError(f"{step.told}: status {exchange.status} {exchange.error}")
        judge.judge(step, exchange.session.id)
    return judge.tally


def _completion(message: Message) -> bytes:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps(
        {"id": "r", "object": "chat.completion", "created": 1, "model": "large", "choices": [choice]}
    ).encode()


# --- the recordings ---------------------------------------------------------------------------------------------------


def conversations(data: Path) -> list[Told]:
    """Read every recorded conversation with at least two replies."""
    dialogues = [*tasks(data), *spoken(data)]
    retail = [Told(id=dialogue.id, messages=messages(dialogue.turns)) for dialogue in dialogues]
    told = [*retail, *_chats(data), *_recorded(data)]
    return [one for one in told if sum(message["role"] == "assistant" for message in one.messages) > 1]


def _chats(data: Path) -> Iterator[Told]:
    for chat in json.loads((data / "abcd" / "abcd_sample.json").read_text(encoding="utf-8")):
        turns = [(_ROLES[who], text) for who, text in chat["original"]]
        told = [
            {"role": role, "content": "\n".join(text for _, text in some)}
            for role, some in groupby(turns, key=lambda turn: turn[0])
        ]
        yield Told(id=f"abcd-{chat['convo_id']}", messages=told[told[0]["role"] == "assistant" :])


def _recorded(data: Path) -> Iterator[Told]:
    """Give the longest form of each conversation in OpenAI's own format, with its last reply."""
    with gzip.open(data / "cassettes" / "openai.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [record for record in map(json.loads, lines) if record["endpoint"] == "chat.completions"]
    found: dict[str, Told] = {}
    for record in sorted(records, key=lambda record: len(record["request"]["body"] or ""), reverse=True):
        if said := _said(record):
            trail = _trail(said)
            if not found.keys() & {trail[-1]}:
                found |= dict.fromkeys(trail, Told(id=record["id"], messages=said))
    yield from {told.id: told for told in found.values()}.values()


def _said(record: dict[str, Any]) -> list[Message]:
    try:
        said = json.loads(record["request"]["body"])["messages"]
    except (TypeError, ValueError, KeyError):
        return []
    reply = {"role": "assistant", "content": (record["expect"] or {}).get("text") or "Done."}
    plain = [_plain(message) for message in said if message["role"] in ("user", "assistant", "tool")]
    return [*plain, reply] if any(message["role"] == "assistant" for message in plain) else []


def _plain(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": "\n".join(part["text"] for part in content if "text" in part)}


async def _main(data: Path) -> int:
    told = conversations(data)
    replies = sum(message["role"] == "assistant" for one in told for message in one.messages)
    print(f"{len(told)} conversations, {replies} replies, ids removed, in one random order")
    print(f"{'':52}{'calls':>7}{'right %':>9}{'wrong':>7}{'split':>7}")
    wrong = 0
    for variant in VARIANTS:
        tally = await measured(told, variant)
        wrong += tally.wrong
        print(f"{variant.name:52}{tally.calls:7}{tally.share:9.2f}{tally.wrong:7}{tally.split:7}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HANDRAIL_DATA", "")
    if not given:
        sys.exit("name the folder with the recordings, or set HANDRAIL_DATA")
    sys.exit(asyncio.run(_main(Path(given))))
