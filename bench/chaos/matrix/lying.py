"""Owns row 23 of the fault matrix: providers that claim what cannot be, of tokens and of models."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bench.chaos.matrix.cell import DONE, HE, LLO, ROLE, STOP, Billed, Cell, Expected, Play, chunked, event, sized

COUNTED = "The counts can be read, whatever else is said."
DOUBTED = "It cannot be so: what is booked is never less than nothing, has a bound, and is flagged as an estimate."
MISSING = "Nothing was counted, which is not the same as nothing: an estimate is booked."
HUGE = 10**18

CLAIMS: dict[str, tuple[object, Billed, str]] = {
    "no usage": (None, "estimate", MISSING),
    "an empty usage": ({}, "estimate", MISSING),
    "a usage that is a list": ([7, 5], "estimate", MISSING),
    "a usage that is a text": ("12", "estimate", MISSING),
    "only a total": ({"total_tokens": 12}, "estimate", MISSING),
    "counts that are null": ({"prompt_tokens": None, "completion_tokens": None}, "estimate", MISSING),
    "counts that are words": ({"prompt_tokens": "seven", "completion_tokens": "five"}, "estimate", MISSING),
    "counts that are booleans": ({"prompt_tokens": True, "completion_tokens": True}, "estimate", MISSING),
    "negative counts": ({"prompt_tokens": -7, "completion_tokens": -5}, "estimate", DOUBTED),
    "a negative input": ({"prompt_tokens": -7, "completion_tokens": 5}, "estimate", DOUBTED),
    "a negative output": ({"prompt_tokens": 7, "completion_tokens": -5}, "estimate", DOUBTED),
    "an input that is a word": ({"prompt_tokens": "many", "completion_tokens": 5}, "estimate", DOUBTED),
    "a huge input": ({"prompt_tokens": HUGE, "completion_tokens": 5}, "estimate", DOUBTED),
    "a huge output": ({"prompt_tokens": 7, "completion_tokens": HUGE}, "estimate", DOUBTED),
    "a huge fraction": ({"prompt_tokens": 1e300, "completion_tokens": 1e300}, "estimate", DOUBTED),
    "counts that are texts": ({"prompt_tokens": "7", "completion_tokens": "5"}, "exact", COUNTED),
    "counts that are fractions": ({"prompt_tokens": 7.0, "completion_tokens": 5.0}, "exact", COUNTED),
    "a wrong total": ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 99}, "exact", COUNTED),
    "details that are null": (
        {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": None, "completion_tokens_details": None},
        "exact",
        COUNTED,
    ),
    "more cached than sent": (
        {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 900}},
        "exact",
        "No more can be cached than was sent, and this model has no price of its own for that.",
    ),
    "more thought than said": (
        {"prompt_tokens": 7, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 900}},
        "exact",
        "Thinking is a part of what was said, and this model has no price of its own for that.",
    ),
}


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    for fault, (usage, billed, why) in CLAIMS.items():
        yield from _claims(fault, why, {"usage": usage} if usage is not None else {}, billed)
    renamed = "What is charged follows from the target that was asked, whatever it calls itself; the record has both."
    counted = {"usage": {"prompt_tokens": 7, "completion_tokens": 5}}
    for fault, model in (("another model's name", "other"), ("no name", None), ("a name of 1 MB", "x" * 1_000_000)):
        yield from _claims(fault, renamed, {**counted, "model": model}, "exact")


def _claims(fault: str, why: str, claim: dict[str, object], billed: Billed) -> Iterator[Cell]:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "Héllo"}, "finish_reason": "stop"}]
    document = msgspec.json.encode({"id": "c", "model": "m", "choices": choices, **claim})
    whole = Expected(body=document, billed=billed)
    yield Cell(row=23, fault=fault, why=why, play=Play(pieces=sized(document)), expected=whole)
    events = (ROLE, HE, LLO, STOP, event({"choices": [], **claim}), DONE)
    streamed = Expected(body=b"".join(events), billed=billed)
    yield Cell(row=23, fault=fault, why=why, stream=True, play=Play(pieces=chunked(events)), expected=streamed)
