"""Owns the proof of the provider OpenAI: what was judged is sent, with its credential."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.providers import openai
from proxy.terms import ProviderSettings, Secret, Target
from tests.streams import PROVIDER, decoded, request

TARGET = Target(alias="m", provider="primary", model="m")


def test_a_call_carries_what_is_allowed() -> None:
    """The call goes to the configured URL with the configured headers; the key stays in its Secret."""
    settings_ = ProviderSettings(
        name="primary", base_url="https://api.example.invalid/v1/", key=Secret("sk-1"), headers={"x-team": "a"}
    )

    call = openai.create(settings_).encode(request(stream=False), TARGET)

    assert ("POST", "https://api.example.invalid/v1/chat/completions") == (call.method, call.url)
    assert ["content-type", "accept", "user-agent", "x-team"] == list(call.headers)
    assert "application/json" == call.headers["accept"]
    assert call.headers["user-agent"].startswith("handrail/")
    assert call.auth is not None
    assert ("authorization", "Bearer sk-1") == (call.auth_header, call.auth.reveal())
    assert "sk-1" not in repr(call)


def test_a_stream_asks_for_events() -> None:
    """A streamed call accepts server-sent events; without a key there is no credential."""
    call = PROVIDER.encode(request(), TARGET)

    assert ("text/event-stream", None) == (call.headers["accept"], call.auth)


def test_the_clients_own_bytes_are_sent() -> None:
    """Where nothing had to change, the provider gets the very bytes of the client."""
    unstreamed, counted = request(stream=False), request(usage_asked=True)

    assert unstreamed.raw == PROVIDER.encode(unstreamed, TARGET).body
    assert counted.raw == PROVIDER.encode(counted, TARGET).body


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, {"include_usage": True}, id="none"),
        pytest.param({"stream_options": None}, {"include_usage": True}, id="null"),
        pytest.param({"stream_options": {"include_usage": False}}, {"include_usage": True}, id="not wanted"),
        pytest.param({"stream_options": {"x": 1}}, {"x": 1, "include_usage": True}, id="other options stay"),
    ],
)
def test_a_stream_always_reports_its_usage(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Money is counted from the provider's usage, whether the client wants to see it or not."""
    asked = request()
    asked = replace(asked, body={**asked.body, **options})

    body = json.loads(PROVIDER.encode(asked, TARGET).body)

    assert {**asked.body, "stream_options": expected} == body


def test_the_model_is_the_targets() -> None:
    """The target's model is asked for, in a body that says everything else as before."""
    asked = request(stream=False)

    body = json.loads(PROVIDER.encode(asked, replace(TARGET, model="other")).body)

    assert {**asked.body, "model": "other"} == body
    assert "m" == asked.body["model"]


def test_a_changed_body_is_written_anew() -> None:
    """A request without raw bytes is encoded from its body."""
    changed = replace(request(stream=False), raw=b"", body={"model": "m", "x": 1})

    assert b'{"model":"m","x":1}' == PROVIDER.encode(changed, TARGET).body


@pytest.mark.parametrize(
    ("base", "options", "expected"),
    [
        pytest.param("https://api.openai.com/v1", None, True, id="OpenAI"),
        pytest.param("https://api.example.invalid/v1", None, False, id="another"),
        pytest.param("https://api.example.invalid/v1", openai.Options(responses=True), True, id="that does"),
        pytest.param("https://api.openai.com/v1", openai.Options(responses=False), False, id="as configured"),
    ],
)
def test_who_serves_the_responses_api(base: str, options: openai.Options | None, expected: bool) -> None:
    """OpenAI itself, and whoever is said to: elsewhere it is said as chat completions."""
    provider = openai.create(ProviderSettings(name="primary", base_url=base, options=options))

    assert expected == ("responses" in provider.dialects)
    assert "chat" in provider.dialects


def test_a_response_is_asked_for_where_it_is() -> None:
    """And read as one."""
    provider = openai.create(ProviderSettings(name="primary", base_url="https://api.openai.com/v1"))
    asked = replace(request(stream=False), dialect="responses")

    assert "https://api.openai.com/v1/responses" == provider.encode(asked, TARGET).url
    (delta,), _ = decoded(b'{"id":"resp_1","output":[]}', provider.decoder(asked, {}, 0))
    assert "resp_1" == delta.reply_id
