"""Owns the proof of the provider that rows call: it charges what its seed says before it answers, and does as told."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.chaos.provider import Charge, Ending, FakeProvider, Script


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    """Start one for this file."""
    with FakeProvider(tmp_path_factory.mktemp("provider"), seed=3) as running:
        yield running


def body(user: str, script: Script | None = None, **more: Any) -> bytes:
    """Make a request."""
    metadata = {"provider": msgspec.json.encode(script).decode()} if script else {}
    return json.dumps({"model": "m", "messages": [], "user": user, "metadata": metadata, **more}).encode()


def call(provider: FakeProvider, request: bytes) -> tuple[int, str, bytes]:
    """Send a request; return status, content type and all that came, raising what a client raises."""
    connection = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", request)
        response = connection.getresponse()
        return response.status, response.headers["content-type"], response.read()
    finally:
        connection.close()


def billed(provider: FakeProvider, user: str) -> tuple[Charge, Ending]:
    """Return what was charged for a caller's one call, and how it ended, which is written once the reply is."""
    (charge,) = [charge for charge in provider.charges() if charge.user == user]
    for _ in range(1_000):
        for line in provider.lines():
            if isinstance(line, Ending) and line.call == charge.call:
                return charge, line
        time.sleep(0.01)
    raise AssertionError(f"the call of {user} never ended")


def test_a_reply_reports_what_was_charged(provider: FakeProvider) -> None:
    """Usage and bill agree, and the money is the tokens at the provider's prices."""
    status, _, data = call(provider, body("plain"))
    reply, (charge, ending) = json.loads(data), billed(provider, "plain")

    assert (200, "Hello there") == (status, reply["choices"][0]["message"]["content"])
    assert charge.nanousd == reply["usage"]["prompt_tokens"] * 1000 + reply["usage"]["completion_tokens"] * 2000 > 0
    assert ending == Ending(call=charge.call, end="whole", pieces=2, output_tokens=charge.output_tokens)


def test_a_stream_has_an_event_per_text(provider: FakeProvider) -> None:
    """Role, texts, finish, usage and the end marker, in events."""
    _, kind, data = call(provider, body("streamed", stream=True))
    events = data.decode().split("\n\n")

    assert ("text/event-stream", 7 + 1, "data: [DONE]", "") == (kind, len(events), *events[-2:])
    assert "usage" in json.loads(events[-3].removeprefix("data: "))


def test_the_same_request_costs_the_same(provider: FakeProvider, tmp_path: Path) -> None:
    """By seed and bytes, not by when it arrives; another seed charges otherwise."""
    costs = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / folder).mkdir()
        with FakeProvider(tmp_path / folder, seed=seed) as other:
            if folder == "b":
                call(other, body("first"))
            call(other, body("same"))
            costs.append(billed(other, "same")[0].nanousd)

    assert costs[0] == costs[1] != costs[2]


def test_the_bill_goes_on(tmp_path: Path) -> None:
    """A provider that was stopped and started adds to its bill, at the same place."""
    provider = FakeProvider(tmp_path)
    urls = []
    for name in ("one", "two"):
        with provider:
            urls.append(provider.url)
            call(provider, body(name))

    assert urls[0] == urls[1]
    assert ["one", "two"] == [charge.user for charge in provider.charges()]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        pytest.param("close", http.client.IncompleteRead, id="closed"),
        pytest.param("reset", ConnectionResetError, id="reset"),
        pytest.param("stall", TimeoutError, id="silent"),
    ],
)
def test_a_reply_that_does_not_end_is_charged_whole(provider: FakeProvider, end: Any, error: type[Exception]) -> None:
    """The bill was written before; it also knows how much was said."""
    script = Script(texts=("a", "b", "c", "d"), tokens=(10, 40), end=end, after=4)
    request = body(f"ends by {end}", script, stream=True)
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(request), request))
        response = http.client.HTTPResponse(raw)
        response.begin()
        raw.settimeout(1 if end == "stall" else 60)
        with pytest.raises(error):
            response.read()
    charge, ending = billed(provider, f"ends by {end}")

    assert (10, 40) == (charge.input_tokens, charge.output_tokens)
    assert ending == Ending(call=charge.call, end=end, pieces=4, output_tokens=20)


def test_who_leaves_is_noted(provider: FakeProvider) -> None:
    """A caller that is gone in the middle is charged, and the bill says how far it got."""
    request = body("leaves", Script(gap_ms=20, tokens=(1, 30)), stream=True)
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(request), request))
        raw.recv(1)
    charge, ending = billed(provider, "leaves")

    assert (30, "gone") == (charge.output_tokens, ending.end)
    assert ending.output_tokens < 30


def test_a_failure_costs_nothing(provider: FakeProvider) -> None:
    """With the status, headers and body that were asked for."""
    script = Script(status=429, headers={"content-type": "text/html", "retry-after": "2"}, body="<p>no</p>")
    answer = call(provider, body("fails", script))

    assert (429, "text/html", b"<p>no</p>") == answer
    assert 0 == billed(provider, "fails")[0].nanousd


def test_what_is_reported_can_differ_from_what_is_charged(provider: FakeProvider) -> None:
    """No usage, or another."""
    said = [json.loads(call(provider, body(f"u{n}", script))[2]).get("usage") for n, script in enumerate(
        [Script(no_usage=True), Script(usage={"prompt_tokens": -1})]
    )]  # fmt: skip

    assert [None, {"prompt_tokens": -1}] == said


def test_a_script_for_all_calls(tmp_path: Path) -> None:
    """Calls that say nothing themselves go as the newest script says."""
    with FakeProvider(tmp_path) as provider:
        provider.script(Script(status=503))
        status, _, _ = call(provider, body("a"))
        own, _, _ = call(provider, body("b", Script(texts=("x",), slice=1, pace_ms=1)))

    assert (503, 200) == (status, own)
