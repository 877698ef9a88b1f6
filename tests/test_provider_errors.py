"""Owns the proof of what is said of a call that its provider did not answer as it should."""

from __future__ import annotations

import pytest

from proxy.providers import openai
from proxy.terms import ProviderSettings, Secret
from tests.streams import (
    PROVIDER,
)

SAID = b'{"error":{"message":"Too fast.","type":"requests","code":"rate_limit_exceeded","param":null}}'


@pytest.mark.parametrize(
    ("theirs", "ours", "retryable"),
    [
        (400, 400, False),
        (402, 402, False),
        (404, 404, False),
        (408, 408, True),
        (409, 409, True),
        (413, 413, False),
        (422, 422, False),
        (425, 425, True),
        (429, 429, True),
        (500, 502, True),
        (503, 502, True),
        (504, 504, True),
        (529, 502, True),
        (302, 502, False),
        (100, 502, False),
    ],
    ids=str,
)
def test_status(theirs: int, ours: int, retryable: bool) -> None:
    """What is the caller's fault keeps its status; the provider's own is 502 or 504; some may be tried again."""
    fault = PROVIDER.error(theirs, {}, SAID)

    assert (ours, retryable, SAID, "rate_limit_exceeded") == (fault.status, fault.retryable, fault.body, fault.code)
    assert ("Too fast.", "requests") == (fault.message, fault.type)


@pytest.mark.parametrize("status", [401, 403])
def test_our_own_key_is_not_the_clients(status: int) -> None:
    """A refused credential is Handrail's trouble: the client is told neither that its key is wrong, nor any of ours."""
    fault = PROVIDER.error(status, {"x-request-id": "r"}, b'{"error":{"message":"Bad key sk-1***9"}}')

    assert (502, "provider_auth", b"", False) == (fault.status, fault.code, fault.body, fault.retryable)
    assert ({"x-request-id": "r", "x-should-retry": "false"}, False) == (fault.headers, "sk-1" in fault.message)


def test_a_code_is_short() -> None:
    """Of a provider's error code no more is taken over than a code may be long; its body passes whole."""
    body = b'{"error":{"code":"%b"}}' % (b"c" * 1000)

    fault = PROVIDER.error(400, {}, body)

    assert (64, body) == (len(fault.code), fault.body)


def test_a_key_that_is_repeated_stays_here() -> None:
    """Of an error that repeats Handrail's key to the provider, only the status is passed on."""
    settings_ = ProviderSettings(name="primary", base_url="https://api.example.invalid/v1", key=Secret("sk-1"))

    fault = openai.create(settings_).error(400, {}, b'{"error":{"message":"Bad key sk-1","code":"sk-1"}}')

    assert (400, "upstream_error", b"") == (fault.status, fault.code, fault.body)
    assert "sk-1" not in fault.message


def test_headers_that_tell_when_to_come_back_are_kept() -> None:
    """Rate limits and the request id pass; nothing else of the provider's head does."""
    kept = {"retry-after": "2", "retry-after-ms": "1500", "x-request-id": "r", "x-ratelimit-reset-tokens": "8ms"}

    assert kept == PROVIDER.error(429, {**kept, "set-cookie": "a=b", "server": "x"}, SAID).headers


@pytest.mark.parametrize(
    ("body", "message", "kept"),
    [
        pytest.param(b'{"error":{"message":"No."}}', "No.", True, id="an error object"),
        pytest.param(b'{"error":"No."}', "No.", False, id="a string"),
        pytest.param(b'{"object":"error","message":"No."}', "No.", False, id="without the object around it"),
        pytest.param(
            b'{"error":{"message":5,"type":5,"code":5}}', "The provider answered with status 400.", True, id="types"
        ),
        pytest.param(b"<html>", "The provider answered with status 400.", False, id="HTML"),
        pytest.param(b"", "The provider answered with status 400.", False, id="nothing"),
        pytest.param(b"[" * 100_000, "The provider answered with status 400.", False, id="too deep"),
    ],
)
def test_what_a_refusal_says(body: bytes, message: str, kept: bool) -> None:
    """An OpenAI error object passes as it is; from anything else the message is taken where there is one."""
    fault = PROVIDER.error(400, {}, body)

    assert (message, body if kept else b"") == (fault.message, fault.body)
    assert ("invalid_request_error", "upstream_error") == (fault.type, fault.code)


def test_a_failure_of_the_provider_is_not_the_callers() -> None:
    """Without a type of its own, a 5xx is an upstream error."""
    assert "upstream_error" == PROVIDER.error(500, {}, b"").type
