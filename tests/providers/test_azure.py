"""Owns the proof of the provider Azure OpenAI: where its deployments are, and how it is shown who calls."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from proxy.providers import azure
from proxy.terms import End, ProviderSettings, Secret, Target
from tests.streams import DONE, TEXT, decoded, request

BASE = "https://resource.example.invalid"
TARGET = Target(alias="m", provider="azure", model="deployed")


def provider(base: str = BASE, **options: object) -> azure.Azure:
    """Return the provider with these options."""
    chosen = azure.Options(**options)  # type: ignore[arg-type] # by name
    return azure.create(ProviderSettings(name="azure", base_url=base, key=Secret("k-1"), options=chosen))


@pytest.mark.parametrize(
    ("base", "options", "url"),
    [
        pytest.param(BASE, {}, f"{BASE}/openai/v1/chat/completions", id="v1"),
        pytest.param(f"{BASE}/openai/v1/", {}, f"{BASE}/openai/v1/chat/completions", id="v1 in the base"),
        pytest.param(
            BASE,
            {"api_version": "2024-10-21"},
            f"{BASE}/openai/deployments/deployed/chat/completions?api-version=2024-10-21",
            id="a version",
        ),
        pytest.param(
            f"{BASE}/openai",
            {"api_version": "2024-10-21"},
            f"{BASE}/openai/deployments/deployed/chat/completions?api-version=2024-10-21",
            id="a version, openai in the base",
        ),
    ],
)
def test_where_a_deployment_is(base: str, options: dict[str, object], url: str) -> None:
    """The target's model names the deployment."""
    call = provider(base, **options).encode(request(), TARGET)

    assert (url, "deployed") == (call.url, json.loads(call.body)["model"])


def test_responses_are_asked_of_the_resource() -> None:
    """Deployments are older than they are: the body names the model."""
    asked = replace(request(stream=False), dialect="responses")

    assert [f"{BASE}/openai/v1/responses", f"{BASE}/openai/responses?api-version=2025-04-01-preview"] == [
        one.encode(asked, TARGET).url for one in (provider(), provider(api_version="2025-04-01-preview"))
    ]


@pytest.mark.parametrize(
    ("entra", "expected"), [(False, ("api-key", "k-1")), (True, ("authorization", "Bearer k-1"))], ids=["key", "Entra"]
)
def test_who_calls(entra: bool, expected: tuple[str, str]) -> None:
    """A key of the resource, or a token of Entra ID."""
    call = provider(entra=entra).encode(request(), TARGET)

    assert call.auth is not None
    assert expected == (call.auth_header, call.auth.reveal())


def test_without_a_key_nothing_is_shown() -> None:
    """As for whoever adds a header of their own."""
    settings = ProviderSettings(name="azure", base_url=BASE, options=azure.Options())

    assert azure.create(settings).encode(request(), TARGET).auth is None


def test_replies_are_chat_completions() -> None:
    """Streams begin with what the filter said of the prompt, which passes."""
    first = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}\n\n'

    deltas, ended = decoded(first + TEXT + DONE, provider().decoder(request(), {}, 0))

    assert (End(), first + TEXT + DONE) == (ended, b"".join(delta.frame for delta in deltas))


def test_a_refusal_by_the_filter() -> None:
    """Its error object is the client's."""
    body = b'{"error":{"message":"Filtered.","code":"content_filter","status":400,"innererror":{}}}'

    fault = provider().error(400, {}, body)

    assert (400, "content_filter", body) == (fault.status, fault.code, fault.body)
