"""Owns what agents do to a conversation between two calls: the ways of bench/stitching.py to write one down."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import Any, TypeAlias

import msgspec

Message: TypeAlias = dict[str, Any]

OPENING: list[Message] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello! How can I help you today?"},
]
_ticks = count()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded conversation."""

    id: str
    messages: list[Message]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a conversation."""

    told: str
    body: dict[str, Any]
    reply: Message
    said: list[Message]
    """All that was said before, as the agent knows it, whatever of it the call shows."""
    kept: Message
    """What the agent makes of the reply."""
    who: str
    """What the call says of whose conversation it is."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which an agent keeps and sends its conversations."""

    name: str
    opening: bool = False
    """All customers open alike and are answered alike."""
    prompt: str = "fixed"
    """The system prompt: `fixed`, `customer` (names the customer), `clock` (new with each call), `agents` (in turn)."""
    user: bool = False
    """Calls name their user."""
    window: int = 0
    """How many of the newest messages are sent; 0: all."""
    summary: bool = False
    """A summary stands for the messages that are not sent."""
    edits: float = 0.0
    """How often a customer asks for another answer, or goes back and says something else."""
    numbered: bool = False
    """The ids of tool calls are numbers that come again in each conversation."""
    respelled: bool = False
    """The agent writes replies anew: arguments with other spaces, texts trimmed."""
    late: bool = False
    """Handrail is put in front of the agent while conversations are under way."""
    signed: bool = False
    """The agent puts something under each reply."""
    key: str = ""
    """The `prompt_cache_key` of calls: one for each `conversation`, one for each of ten `groups`, or one for `all`."""


VARIANTS = (
    Variant(name="plain"),
    Variant(name="arguments written anew, texts trimmed", respelled=True),
    Variant(name="system prompt changes with every call", prompt="clock"),
    Variant(name="agents with prompts of their own take turns", prompt="agents"),
    Variant(name="the last 6 messages only", window=6),
    Variant(name="the last 6 messages, call ids numbered", window=6, numbered=True),
    Variant(name="a summary and the last 6 messages", window=6, summary=True, prompt="clock"),
    Variant(name="regenerated and edited", edits=0.15),
    Variant(name="the agent signs each reply", signed=True),
    Variant(name="all open alike", opening=True),
    Variant(name="all open alike, the prompt names the customer", opening=True, prompt="customer"),
    Variant(name="all open alike, user named, prompt changes", opening=True, user=True, prompt="clock"),
    Variant(name="all open alike, regenerated and edited", opening=True, edits=0.15),
    Variant(name="all open alike, Handrail started in between", opening=True, late=True),
    Variant(name="all open alike, prompt changes", opening=True, prompt="clock"),
    Variant(name="the same, a cache key for each conversation", opening=True, prompt="clock", key="conversation"),
    Variant(name="the same, ten cache keys", opening=True, prompt="clock", key="groups"),
    Variant(name="the same, one cache key", opening=True, prompt="clock", key="all"),
    Variant(name="call ids numbered, a cache key for each", window=6, numbered=True, key="conversation"),
    Variant(name="call ids numbered, ten cache keys", window=6, numbered=True, key="groups"),
    Variant(name="Handrail started in between, a cache key for each", opening=True, late=True, key="conversation"),
    Variant(name="Handrail started in between, ten cache keys", opening=True, late=True, key="groups"),
    Variant(name="Handrail started in between, one cache key", opening=True, late=True, key="all"),
)


def steps(told: Told, variant: Variant, rng: Random) -> Iterator[Step]:
    """Give the calls of a conversation in their order."""
    marked = f"{rng.getrandbits(64):x}"
    messages = [_numbered(message, "" if variant.numbered else marked) for message in told.messages]
    said: list[Message] = []
    for number, message in enumerate([*(OPENING if variant.opening else ()), *messages]):
        if message["role"] != "assistant":
            said = [*said, message]
            continue
        step = _step(told, variant, said, message, number)
        yield step
        said = [*step.said, step.kept]
        if rng.random() < variant.edits and not message.get("tool_calls"):
            step = _again(told, variant, said, rng, number)
            yield step
            said = [*step.said, step.kept]


def _again(told: Told, variant: Variant, said: Sequence[Message], rng: Random, number: int) -> Step:
    """Ask for another answer, or say something else at a place after the first answer."""
    places = [place for place, message in enumerate(said[2:], 2) if message["role"] == "user"]
    place = rng.choice(places) if places and rng.random() < 0.5 else 0
    before = [*said[:place], {**said[place], "content": f"{said[place]['content']} No, wait."}] if place else said[:-1]
    reply = {"role": "assistant", "content": f"I see. {rng.getrandbits(32)}"}
    return _step(told, variant, list(before), reply, number)


def _step(told: Told, variant: Variant, said: list[Message], reply: Message, number: int) -> Step:
    body = {"model": "large", "messages": [_prompt(told, variant, number), *_sent(said, variant)]}
    named = variant.user or variant.prompt == "customer"
    return Step(
        told=told.id,
        body={**body, **({"user": told.id} if variant.user else {}), **_key(told, variant)},
        reply=reply,
        said=said,
        kept=_kept(reply, variant),
        who=told.id if named else "",
    )


def _key(told: Told, variant: Variant) -> dict[str, str]:
    groups = f"group {zlib.crc32(told.id.encode()) % 10}"
    keys = {"conversation": told.id, "groups": groups, "all": "the agent"}
    return {"prompt_cache_key": keys[variant.key]} if variant.key else {}


def _sent(said: list[Message], variant: Variant) -> list[Message]:
    if not variant.window or len(said) <= variant.window:
        return said
    summary = {"role": "user", "content": f"So far: {len(said)} messages about {said[0]['content']}"}
    return [*([summary] if variant.summary else ()), *said[-variant.window :]]


def _prompt(told: Told, variant: Variant, number: int) -> Message:
    text = {
        "fixed": "You help the customers of a shop.",
        "customer": f"You help {told.id}, a customer of a shop.",
        "clock": f"You help the customers of a shop. It is second {next(_ticks)} of the year.",
        "agents": f"You are agent {number // 3 % 3} of a shop.",
    }[variant.prompt]
    return {"role": "system", "content": text}


def _kept(reply: Message, variant: Variant) -> Message:
    if variant.signed and reply.get("content"):
        return {**reply, "content": f"{reply['content']}\n\nYour shop, {len(reply['content'])}"}
    return _mapped(reply, lambda call: {**call, "function": _spaced(call["function"])}) if variant.respelled else reply


def _spaced(function: Message) -> Message:
    return {**function, "arguments": json.dumps(json.loads(function["arguments"]), indent=1, sort_keys=True)}


def _mapped(message: Message, change: Any) -> Message:
    text = {"content": message["content"].strip()} if message.get("content") else {}
    calls = {"tool_calls": [change(call) for call in message["tool_calls"]]} if message.get("tool_calls") else {}
    return {**message, **text, **calls}


def _numbered(message: Message, mark: str) -> Message:
    """Write the ids of calls as a provider would make them; without a mark they stay numbers."""
    if message.get("tool_calls"):
        calls = [{**call, "id": f"{call['id']}{mark}"} for call in message["tool_calls"]]
        return {**message, "tool_calls": calls}
    return {**message, "tool_call_id": f"{message['tool_call_id']}{mark}"} if message["role"] == "tool" else message
