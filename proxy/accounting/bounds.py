"""Owns what can be said of token counts without a tokenizer: proofs for reservations, guesses for routing.

In: texts and requests. Out: token counts. Never: an under-count where a bound is promised.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.terms import Json, Request

MESSAGE_TOKENS = 3
"""What OpenAI's chat format adds to each message (OpenAI cookbook, "How to count tokens with tiktoken")."""
NAME_TOKENS = 1
"""What a message's `name` adds beyond the tokens of the name itself (same source)."""
REPLY_TOKENS = 3
"""What primes every reply (same source)."""
TOOL_PROMPT_TOKENS = 600
"""More than any provider's hidden instructions when tools are offered (Anthropic's tool use page: at most 530)."""
IMAGE_TOKENS = 48_169
"""The dearest documented image: gpt-4o-mini, high detail, 2833 + 8 tiles of 5667 (OpenAI's images and vision page)."""

# Tuples, not sets: what is looked up is any JSON value, lists and objects too.
_IMAGE_KINDS = ("image_url", "input_image", "image")
_PICTURES = ("image_url", "image", "source", "file_id", "detail")
"""Where such a part has its picture; what else it has may be words."""
_PLAIN_TOOLS = ("", "function", "custom")
_STORED_CONTEXT = ("previous_response_id", "conversation", "web_search_options")


def upper_bound(text: str) -> int:
    """Return a count that no byte-level tokenizer exceeds: each token covers at least one byte of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimate(text: str) -> int:
    """Return the usual guess of one token for four bytes, rounded up."""
    return -(-upper_bound(text) // 4)


def input_bound(request: Request) -> int | None:
    """Return the most input tokens a request can be billed for, or None when the request itself does not bound them
    (stored conversations, hosted tools, audio, files): hold the target's whole context window then."""
    kinds = {kind for message in request.messages for kind in message.media}
    if _reads_stored_context(request.body) or not kinds <= set(_IMAGE_KINDS):
        return None
    own = _body_bound(request.body) if kinds else len(request.raw or msgspec.json.encode(request.body))
    return own + REPLY_TOKENS + (TOOL_PROMPT_TOKENS if request.tools else 0)


def _body_bound(body: Mapping[str, Json]) -> int:
    """Bound a body in which images are parts of messages; what calls itself an image elsewhere is words."""
    messages = body.get("messages")
    parts = [
        part
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict) and isinstance(content := message.get("content"), list)
        for part in content
        if isinstance(part, dict) and part.get("type") in _IMAGE_KINDS
    ]
    pictures = sum(_words_bound({key: part[key]}) for part in parts for key in part if key in _PICTURES)
    return _words_bound(dict(body)) - pictures + IMAGE_TOKENS * len(parts)


def _words_bound(value: Json) -> int:
    """Bound words by their bytes, keys included: they outweigh the tokens that frame a message."""
    if isinstance(value, dict):
        return sum(upper_bound(key) + _words_bound(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(_words_bound, value))
    return upper_bound(str(value))


def _reads_stored_context(body: Mapping[str, Json]) -> bool:
    if any(body.get(key) is not None for key in _STORED_CONTEXT) or isinstance(body.get("prompt"), dict):
        return True
    tools = body.get("tools")
    return isinstance(tools, list) and any(
        isinstance(tool, dict) and tool.get("type", "") not in _PLAIN_TOOLS for tool in tools
    )
