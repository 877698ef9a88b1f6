"""Owns the proof of rules/retail: recorded dialogues walk through unhindered, those broken on purpose do not.

Run: python -m bench.retail [DATA], where DATA holds the folder tau-retail (default: $HANDRAIL_DATA). Every reply of the
assistant walks through the real hallway as the reply of a scripted provider; what a rule withheld is counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.retail_dialogues import FOLDER, Dialogue, messages, spoken, tasks
from bench.retail_variants import Broken, broken
from proxy.snapshot import Snapshot
from proxy.terms import Verdict
from tests.fakes import Script
from tests.walking import CONFIG, Walked, compiled

ROOT = Path(__file__).resolve().parent.parent
HINDERS = frozenset((Verdict.DENY, Verdict.ESCALATE, Verdict.REQUIRE_APPROVAL, Verdict.STRIP_TOOLS, Verdict.REDACT))
ALTERS = HINDERS | {Verdict.REWRITE}
HANDED_OVER = "handed-over"
"""The rule that only matches where the dialogue itself calls for a human."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A turn of the assistant that did not pass as it was."""

    dialogue: Dialogue
    at: int
    rules: frozenset[str]
    """Short names of the rules that matched and act; `policy_error` where some failed and none matched."""
    hinders: bool
    """Whether something was withheld; else only the words beside a call were."""


def snapshot() -> Snapshot:
    """Compile the pack."""
    return compiled(f"{CONFIG}\npolicies: [rules/retail/policy.yaml]\n", folder=ROOT)


def offered(data: Path) -> list[Any]:
    """Read the tools that the agent offers its model."""
    tools: list[Any] = json.loads((data / FOLDER / "tools.openai.json").read_text(encoding="utf-8"))
    return tools


class Desk:
    """One conversation with the agent, behind one Handrail."""

    def __init__(self, pack: Snapshot, tools: Sequence[Any]) -> None:
        self._walked = Walked(snapshot=pack)
        self._tools = tools

    async def answer(self, dialogue: Dialogue, at: int) -> Stop | None:
        """Let the assistant's turn walk as the reply to all turns before it."""
        written = messages(dialogue.turns[: at + 1])
        replies = max(number for number, message in enumerate(written) if message["role"] == "assistant")
        body = {"model": "large", "messages": written[:replies], "tools": self._tools}
        self._walked.upstream.scripts = [Script(headers=_JSON, chunks=(_completion(written[replies]),))]
        await self._walked.call(body)
        exchange = self._walked.seen[-1]
        if exchange.status != 200:
            raise RuntimeError(f"{dialogue.id}, turn {at}: status {exchange.status} {exchange.error}")
        acting = [decision for decision in exchange.decisions if decision.verdict in ALTERS]
        hits = [hit for decision in acting for hit in decision.rules if hit.action in ALTERS and not hit.error]
        rules = frozenset(hit.id.partition("/")[2].partition("@")[0] for hit in hits) or frozenset(("policy_error",))
        hinders = any(decision.verdict in HINDERS for decision in acting)
        return Stop(dialogue=dialogue, at=at, rules=rules, hinders=hinders) if acting else None


_JSON = {"content-type": "application/json"}


def _completion(message: dict[str, Any]) -> bytes:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    reply = {"id": "r", "object": "chat.completion", "created": 1, "model": "large", "choices": [choice]}
    return json.dumps(reply).encode()


async def replay(dialogue: Dialogue, pack: Snapshot, tools: Sequence[Any]) -> list[Stop]:
    """Walk a dialogue turn by turn, to its end or to where it is handed over."""
    desk = Desk(pack, tools)
    stops: list[Stop] = []
    for at, turn in enumerate(dialogue.turns):
        if turn.role != "assistant":
            continue
        stop = await desk.answer(dialogue, at)
        stops += [stop] if stop else []
        if stop and HANDED_OVER in stop.rules:
            break
    return stops


async def stopped(case: Broken, pack: Snapshot, tools: Sequence[Any]) -> bool:
    """Walk the one turn that has to be stopped, and tell whether a rule of its kind did."""
    stop = await Desk(pack, tools).answer(case.dialogue, case.at)
    return stop is not None and not stop.rules.isdisjoint(case.kind.rules)


def carried_out(stop: Stop) -> bool:
    """Tell whether the set's own tools carried out what was stopped here, or nothing was called."""
    return not any(call.result.startswith("Error") for call in stop.dialogue.turns[stop.at].calls)


class Tally(msgspec.Struct, kw_only=True):
    """What came of one set of dialogues."""

    dialogues: int = 0
    replies: int = 0
    calls: int = 0
    unread: int = 0
    stops: list[Stop] = msgspec.field(default_factory=list)

    @property
    def hindered(self) -> list[Stop]:
        """What did not pass although the set's own tools had carried it out, or nothing was called."""
        withheld = (stop for stop in self.stops if stop.hinders and HANDED_OVER not in stop.rules)
        return [stop for stop in withheld if carried_out(stop)]


async def tallied(dialogues: Iterable[Dialogue], pack: Snapshot, tools: Sequence[Any]) -> Tally:
    """Replay dialogues and count."""
    tally = Tally()
    for dialogue in dialogues:
        tally.dialogues += 1
        tally.replies += sum(turn.role == "assistant" for turn in dialogue.turns)
        tally.calls += sum(len(turn.calls) for turn in dialogue.turns if turn.recorded)
        tally.unread += dialogue.unread
        tally.stops += await replay(dialogue, pack, tools)
    return tally


def told(name: str, tally: Tally) -> str:
    """Say in words what came of a set of dialogues."""
    rules = Counter(rule for stop in tally.hindered for rule in stop.rules)
    hindered = len({stop.dialogue.id for stop in tally.hindered})
    handed = sum(HANDED_OVER in stop.rules for stop in tally.stops)
    rewritten = sum(not stop.hinders for stop in tally.stops)
    refused = [stop for stop in tally.stops if not carried_out(stop)]
    refusing = sorted({rule for stop in refused for rule in stop.rules})
    lines = [
        f"{name}: {tally.dialogues} dialogues, {tally.replies} replies, {tally.calls} recorded calls",
        f"  hindered       {hindered} dialogues, {len(tally.hindered)} replies",
        *(f"                 {count:4} {rule}" for rule, count in rules.most_common()),
        f"  rewritten      {rewritten} replies, whose words beside a call were dropped",
        f"  handed over    {handed}, as the dialogue itself asked",
        f"  refused        {len(refused)} calls that the set's own tools had refused: {', '.join(refusing) or 'none'}",
        f"  not read       {tally.unread} calls, of which the text does not tell what they were",
    ]
    return "\n".join(lines)


async def main(data: Path) -> int:
    """Print the proof; 1 if a dialogue that the set holds right was hindered, or a broken one was not stopped."""
    pack, tools = snapshot(), offered(data)
    right = await tallied(tasks(data), pack, tools)
    print(told("tasks, each call held right by the set", right))
    print(told("spoken, whose calls nobody judged", await tallied(spoken(data), pack, tools)))
    cases: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for case in (case for dialogue in tasks(data) for case in broken(dialogue)):
        cases[case.kind.name] += 1
        caught[case.kind.name] += await stopped(case, pack, tools)
    print(f"broken: {caught.total()} of {cases.total()} stopped by a rule of their kind")
    for name, count in cases.items():
        print(f"  {caught[name]:4} of {count:4}  {name}")
    return int(bool(right.hindered) or cases != caught)


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HANDRAIL_DATA", "")
    if not chosen:
        sys.exit("not run: name the folder of real data, or set HANDRAIL_DATA")
    sys.exit(asyncio.run(main(Path(chosen))))
