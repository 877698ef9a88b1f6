"""Proves that bounds are never too low and estimates are what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounting import IMAGE_TOKENS, estimate, input_bound, upper_bound
from proxy.accounting.bounds import REPLY_TOKENS, TOOL_PROMPT_TOKENS
from proxy.terms import Json, Message, Request, ToolSpec

BODY: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": "héllo"}]}


def ask(body: dict[str, Json] | None = None, *messages: Message, **fields: Any) -> Request:
    """Build a request around a body; its raw bytes are empty unless given."""
    return Request(
        dialect="chat", model="m", messages=messages, body=BODY if body is None else body, **{"raw": b"", **fields}
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param("abc", 3, id="ascii"),
        pytest.param("é€😀", 2 + 3 + 4, id="utf-8"),
        pytest.param("\ud800", 3, id="lone-surrogate"),
    ],
)
def test_upper_bound_is_the_length_in_utf8(text: str, expected: int) -> None:
    """A byte-level tokenizer can use one token per byte of UTF-8 and no more."""
    assert expected == upper_bound(text)


@given(st.text())
def test_estimate_is_a_quarter_of_the_bound_rounded_up(text: str) -> None:
    """Four bytes make one token, and a started group of four counts."""
    tokens = estimate(text)

    assert 4 * tokens - 4 < upper_bound(text) <= 4 * tokens


def test_a_text_request_is_bounded_by_its_bytes() -> None:
    """Without media every token of the prompt stands somewhere in the body."""
    raw = b'{"model": "m", "messages": []}'

    assert REPLY_TOKENS + len(raw) == input_bound(ask(raw=raw))
    assert REPLY_TOKENS + len(msgspec.json.encode(BODY)) == input_bound(ask())


def test_tools_add_the_providers_hidden_prompt() -> None:
    """A provider that instructs its model about tools bills those instructions."""
    tools = (ToolSpec(name="refund"),)

    assert TOOL_PROMPT_TOKENS == (input_bound(ask(tools=tools)) or 0) - (input_bound(ask()) or 0)


def test_images_count_as_the_dearest_image_and_not_as_their_bytes() -> None:
    """A data URL of a megabyte is one image; everything else of the request still counts byte by byte."""
    image: Json = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    text: Json = {"type": "text", "text": "what is é?"}
    schema: Json = {"type": ["string", "null"], "maxLength": 12.5}
    body: dict[str, Json] = {"messages": [{"role": "user", "content": [text, image], "reasoning": None}], "x": schema}

    words = "messages role user content type text text what is é? reasoning None x type string null maxLength 12.5"
    words += " type image_url"
    expected = upper_bound(words) - words.count(" ") + words.count("what is é?") * 2

    assert expected + IMAGE_TOKENS + REPLY_TOKENS == input_bound(ask(body, Message(role="user", media=("image_url",))))


@pytest.mark.parametrize(
    "hide",
    [
        pytest.param(lambda image: {"tools": [{"parameters": {"default": image}}]}, id="in a tool's schema"),
        pytest.param(lambda image: {"messages": [{"role": "user", "content": [image]}]}, id="beside the picture"),
        pytest.param(lambda image: {"messages": [image, {"content": image}]}, id="where no part is"),
    ],
)
def test_words_do_not_pass_for_an_image(hide: Callable[[Json], dict[str, Json]]) -> None:
    """What only calls itself an image is counted byte by byte."""
    body = hide({"type": "image_url", "text": "A" * 1_000_000})

    assert 1_000_000 < (input_bound(ask(body, Message(role="user", media=("image_url",)))) or 0)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"previous_response_id": "resp_1"}, id="stored-response"),
        pytest.param({"conversation": {"id": "conv_1"}}, id="stored-conversation"),
        pytest.param({"prompt": {"id": "pmpt_1"}}, id="stored-prompt"),
        pytest.param({"web_search_options": {}}, id="web-search-option"),
        pytest.param({"tools": [{"type": "function"}, {"type": "file_search"}]}, id="hosted-tool"),
        pytest.param({"tools": [{"type": ["function"]}]}, id="nonsense-tool"),
    ],
)
def test_what_the_provider_adds_itself_has_no_bound(extra: dict[str, Json]) -> None:
    """Text that the provider fetches is billed as input and appears nowhere in the request."""
    assert input_bound(ask({**BODY, **extra})) is None


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"previous_response_id": None, "prompt": "text", "tools": None}, id="nulls"),
        pytest.param({"tools": [{"type": "function"}, {"type": "custom"}, {"name": "anthropic"}, 7]}, id="own-tools"),
    ],
)
def test_own_content_has_a_bound(extra: dict[str, Json]) -> None:
    """Null fields, text prompts and the caller's own tools are bounded by the body."""
    body = {**BODY, **extra}

    assert REPLY_TOKENS + len(msgspec.json.encode(body)) == input_bound(ask(body))


def test_media_without_a_documented_maximum_have_no_bound() -> None:
    """Audio and files can be any number of tokens."""
    assert input_bound(ask(None, Message(role="user", media=("image_url", "input_audio")))) is None
