"""Owns the OpenAI JSON shapes that dialects and providers share: reply trees to nouns, usage and errors both ways.

In: bytes or decoded trees of a reply, lenient: whatever a client could read, we read. Out: nouns. Never: an exception
because of what a provider sent, and never a tool call that a client would see and we would not.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from proxy.terms import ChoiceDelta, ToolCallDelta, Usage

Tree = dict[str, Any]

MOST_TOKENS = 100_000_000
"""No call has more tokens than this: what a provider claims beyond it is a lie."""
MOST_CALLS = 2**31
"""No call has a larger index."""
REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
"""The fields in which vendors send reasoning, as a text or as a list of parts."""
_REASONED = ("text", "summary", "thinking")
"""Where the parts of those lists have their words."""
ARGUMENTS = {"function": "arguments", "custom": "input"}
"""Where each kind of tool call has its arguments."""
LEGACY_CALL = -1
"""The index of a `function_call`, which has no number."""

_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
_NOTHING: Tree = {}


def parse(data: bytes) -> Tree | None:
    """Return the JSON object in `data`; None when there is none that any client could read.

    Clients differ: some replace broken UTF-8, some take NaN or half a surrogate pair. What the strict decoder refuses
    is therefore read again as the most lenient of them would.
    """
    try:
        tree = _DECODE(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        tree = _parse_leniently(data)
    return tree if type(tree) is dict else None


def _parse_leniently(data: bytes) -> Any:
    try:
        tree = json.loads(data.decode("utf-8-sig", "replace"), parse_int=_number)
        # Lone surrogates cannot be encoded again, nor given to a regular expression: each becomes a `?`.
        return json.loads(json.dumps(tree, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _number(digits: str) -> float:
    """Read an integer of any length, as JavaScript does: Python refuses very long ones."""
    return int(digits) if len(digits) < 20 else float(digits)


def dump(tree: Any) -> bytes:
    """Return the JSON text of a tree."""
    return _ENCODE(tree)


# --- replies --------------------------------------------------------------------------------------------------------


class CallNumbers:
    """Numbers the tool calls of one stream whose vendor leaves `index` out: a new id or a name begins a new call."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._known: dict[tuple[int, str], int] = {}

    def place(self, choice: int, index: Any, call_id: str, name: str) -> int:
        """Return the index of the call that a piece belongs to."""
        last = self._last.get(choice, -1)
        known = self._known.get((choice, call_id)) if call_id else None
        if _counts(index):
            number = int(index)
        elif known is not None:
            number = known
        elif call_id or name:
            number = last + 1
        else:
            number = max(last, 0)
        self._last[choice] = max(last, number)
        if call_id:
            self._known[choice, call_id] = number
        return number


def _counts(index: Any) -> bool:
    return type(index) in (int, float) and 0 <= index <= MOST_CALLS


def deltas(tree: Tree, numbers: CallNumbers) -> tuple[ChoiceDelta, ...]:
    """Read the choices of one streamed chunk."""
    listed = tree.get("choices")
    if type(listed) is not list:
        return ()
    return tuple([_choice(entry, "delta", place, numbers) for place, entry in enumerate(listed)])


def messages(tree: Tree) -> tuple[ChoiceDelta, ...]:
    """Read the choices of one unstreamed reply."""
    listed = tree.get("choices")
    if type(listed) is not list:
        return ()
    return tuple([_choice(entry, "message", place, None) for place, entry in enumerate(listed)])


def _choice(entry: Any, key: str, place: int, numbers: CallNumbers | None) -> ChoiceDelta:
    # One ChoiceDelta for each entry, whatever it is, so that the two lists can be walked side by side.
    if type(entry) is not dict:
        return ChoiceDelta(index=place)
    part = entry.get(key)
    if type(part) is not dict:
        part = _NOTHING
    index, reason = entry.get("index"), entry.get("finish_reason")
    if type(index) is not int or numbers is None:
        index = place  # of a whole reply clients read the list, whatever its entries say
    if type(reason) is not str:
        reason = ""
    content = part.get("content")
    if len(part) == 1 and type(content) is str:  # by far the most chunks
        return ChoiceDelta(index=index, text=content, finish_reason=reason)
    return ChoiceDelta(
        index=index,
        text=words(part),
        reasoning=reasoning(part),
        refusal=text(part.get("refusal")),
        tool_calls=_calls(part, index, numbers),
        finish_reason=reason,
    )


def text(value: Any) -> str:
    """Read a text that is a string, a list of parts, or nothing."""
    return value if type(value) is str else _parted(value, ("text",)) if type(value) is list else ""


def _parted(parts: list[Any], keys: tuple[str, ...]) -> str:
    """Read what parts say under these keys, each a text or a list of texts."""
    said = [part.get(key) for part in parts if type(part) is dict for key in keys]
    inner = [one if type(one) is list else [{"text": one}] for one in said]
    texts = [part.get("text") for some in inner for part in some if type(part) is dict]
    return "".join([words for words in texts if type(words) is str])


def words(part: Tree) -> str:
    """Read what a delta or message says, in writing and aloud."""
    return text(part.get("content")) + text(_object(part.get("audio")).get("transcript"))


def reasoning(part: Tree) -> str:
    """Read the reasoning of a delta or message, once where two fields say the same."""
    found = [part[key] for key in REASONING if key in part]
    content = part.get("content")
    if not found and type(content) is not list:
        return ""
    told = [_parted(one, _REASONED) if type(one) is list else text(one) for one in found]
    told += [_parted(content, ("thinking",))] if type(content) is list else []
    return "".join(dict.fromkeys(told))


def _calls(part: Tree, choice: int, numbers: CallNumbers | None) -> tuple[ToolCallDelta, ...]:
    listed, legacy = part.get("tool_calls"), part.get("function_call")
    if not listed and legacy is None:
        return ()
    calls = []
    for place, entry in enumerate(listed if type(listed) is list else ()):
        if type(entry) is not dict:
            continue
        call_id = text(entry.get("id"))
        name, said = _called(entry)
        index = numbers.place(choice, entry.get("index"), call_id, name) if numbers else place
        calls.append(ToolCallDelta(index=index, id=call_id, name=name, arguments=said, position=place))
    if type(legacy) is dict:
        name, said = text(legacy.get("name")), arguments(legacy.get("arguments"))
        calls.append(ToolCallDelta(index=LEGACY_CALL, name=name, arguments=said))
    return tuple(calls)


def _called(entry: Tree) -> tuple[str, str]:
    """Return name and arguments of a call. A kind that is not known is a call as well, named after its kind."""
    for kind, argument in ARGUMENTS.items():
        body = entry.get(kind)
        if type(body) is dict:
            return text(body.get("name")), arguments(body.get(argument))
    kind = text(entry.get("type"))
    return ("" if kind in ARGUMENTS else kind), arguments(entry.get(kind))


def arguments(value: Any) -> str:
    """Return the arguments of a call as text; some vendors send the object itself."""
    return value if type(value) is str else "" if value is None else dump(value).decode()


MOST_SPELLED = 2**17
"""Characters of the longest arguments that get one spelling: some 5 ms."""


def canonical(arguments: str) -> str:
    """Return arguments as JSON with sorted keys and no spaces, so that one call has one spelling; what is no JSON, or
    cannot be written as it would have to be, stays as it is, and so does what takes long to spell."""
    if len(arguments) > MOST_SPELLED:
        return arguments
    try:
        spelling = json.dumps(json.loads(arguments), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        spelling.encode()  # half a surrogate pair can be escaped, but not written
    except (ValueError, RecursionError):
        return arguments
    return spelling


# --- what every client reads alike ----------------------------------------------------------------------------------

# Names that we read, and those that usually stand beside them: what is written with these alone is quickly known.
_OF_REPLY = frozenset(
    {"choices", "error", "id", "object", "created", "model", "usage", "service_tier", "system_fingerprint"}
)
_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs"})
_OF_MESSAGE = frozenset({"role", "content", "refusal", "tool_calls", "function_call", *REASONING})
_OF_CALL = frozenset({"index", "id", "type", "name", *ARGUMENTS, *ARGUMENTS.values()})


class _Twice(ValueError):
    """A key appears twice in one object."""


def sure(data: bytes, tree: Tree) -> bool:
    """Tell whether every parser makes the same of these bytes: nothing is to be guessed, and no key comes twice."""
    return _utf8(data) and _once(data, tree)


def clear(data: bytes, tree: Tree, key: str) -> bool:
    """Tell whether every client finds in a chunk or a body what we do, whichever of two equal keys its parser keeps and
    whether or not it minds their case; `key` is where its choices have their message."""
    return (
        sure(data, tree)
        and spelt(tree, _OF_REPLY)
        and not tree.get("chunk")  # where some clients look for choices if there are none
        and _clear_choices(tree.get("choices") or [], key)
    )


def _utf8(data: bytes) -> bool:
    """Tell whether nothing has to be guessed of the text: some clients drop what is broken, some replace it."""
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _once(data: bytes, tree: Tree) -> bool:
    # Of two equal keys the tree has lost one with its colon; only an escaped colon could make up for it. A key with NUL
    # is another one for readers whose texts end there.
    if b"\\u003" not in data and b"\\u0000" not in data and data.count(b":") == _ENCODE(tree).count(b":"):
        return True
    try:
        json.loads(data.decode("utf-8-sig", "replace"), object_pairs_hook=_no_key_twice, parse_int=_number)
    except _Twice:
        return False
    return True


def _no_key_twice(pairs: list[tuple[str, Any]]) -> Tree:
    tree = dict(pairs)
    if len(tree) < len(pairs) or any("\0" in key for key in tree):
        raise _Twice
    return tree


def spelt(fields: Tree, known: frozenset[str]) -> bool:
    """Tell whether no key is one of those that are read, but for its case."""
    return known.issuperset(fields) or not any(key not in known and key.casefold() in known for key in fields)


def _clear_choices(choices: Any, key: str) -> bool:
    if type(choices) is not list:
        return False
    other = "delta" if key == "message" else "message"
    for entry in choices:
        # Some clients read what stands beside a delta, which nobody judges.
        if type(entry) is not dict or not spelt(entry, _OF_CHOICE) or entry.get(other):
            return False
        part = entry.get(key)
        if type(part) is dict and not (spelt(part, _OF_MESSAGE) and _clear_calls(part)):
            return False
    return True


def _clear_calls(part: Tree) -> bool:
    """Tell whether the calls are a list of objects that each say one thing."""
    listed, legacy = part.get("tool_calls"), part.get("function_call")
    if not listed and not legacy:
        return True
    listed = listed or []
    if type(listed) is not list or (legacy and type(legacy) is not dict) or (legacy and listed):
        return False
    calls = [*listed, *([legacy] if legacy else ())]
    return all(type(call) is dict and _clear_call(call) for call in calls)


def _clear_call(call: Tree) -> bool:
    bodies = [body for kind in ARGUMENTS if type(body := call.get(kind)) is dict]
    index = call.get("index")
    numbered = index is None or (_counts(index) and index == int(index))
    return numbered and len(bodies) <= 1 and all(spelt(body, _OF_CALL) for body in (call, *bodies))


# --- usage ----------------------------------------------------------------------------------------------------------


def usage(tree: Tree) -> Usage | None:
    """Read the usage of a chunk or a reply; None when it has none. A count that cannot be one is 0, with a doubt."""
    said = tree.get("usage")
    if said is None and "x_groq" in tree:
        said = _object(tree["x_groq"]).get("usage")
    if type(said) is not dict or not ("prompt_tokens" in said or "completion_tokens" in said):
        return None
    claims = said.get("prompt_tokens"), said.get("completion_tokens")
    sent, got = map(_count, claims)
    doubt = next(filter(None, map(_doubt, claims)), "") or ("" if sent or got else "zero")
    of_sent, of_got = _object(said.get("prompt_tokens_details")), _object(said.get("completion_tokens_details"))
    reasoning = _count(of_got.get("reasoning_tokens"))
    if reasoning and _count(said.get("total_tokens")) == sent + got + reasoning:
        got += reasoning  # a vendor that counts reasoning beside the completion, as its own total shows
    cached = next((said[key] for key in ("prompt_cache_hit_tokens", "cached_tokens") if key in said), 0)
    return Usage(
        input_tokens=sent,
        output_tokens=got,
        cache_read_tokens=min(sent, _count(of_sent.get("cached_tokens", cached))),
        cache_write_tokens=min(sent, _count(of_sent.get("cache_write_tokens"))),
        reasoning_tokens=min(got, reasoning),
        audio_input_tokens=min(sent, _count(of_sent.get("audio_tokens"))),
        audio_output_tokens=min(got, _count(of_got.get("audio_tokens"))),
        doubt=doubt,
    )


def usage_object(used: Usage) -> Tree:
    """Return the OpenAI usage object of our counts."""
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cache_read_tokens, "audio_tokens": used.audio_input_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": used.audio_output_tokens,
        },
    }


def _object(value: Any) -> Tree:
    return value if type(value) is dict else _NOTHING


def _count(value: Any) -> int:
    """Return a claimed count; what cannot be one is nothing."""
    number = _claimed(value)
    return 0 if number is None or not 0 < number <= MOST_TOKENS else int(number)


def _doubt(value: Any) -> str:
    """Say why a claimed count cannot be one; empty if it can."""
    number = _claimed(value)
    if number is None or number != number:
        return "missing" if value is None else "no_number"
    return "negative" if number < 0 else "huge" if number > MOST_TOKENS else ""


def _claimed(value: Any) -> int | float | None:
    if type(value) is str and value.isascii() and value.isdigit():
        value = int(value[:20])
    return value if type(value) in (int, float) else None


# --- errors ---------------------------------------------------------------------------------------------------------


def error_object(message: str, kind: str, code: str, param: str = "") -> bytes:
    """Return the JSON text of an OpenAI error object."""
    return dump({"error": {"message": message, "type": kind, "param": param or None, "code": code}})
