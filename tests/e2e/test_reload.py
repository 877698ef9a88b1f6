"""Owns the proof that a new policy is in force within seconds and that no open call notices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import pytest

from tests.e2e.endings import says, simulate
from tests.e2e.rig import LISTENERS, WAIT_S, Served, handrail, until

CONFIG = """\
providers: {model: {dialect: simulated, prices: openai}}
policies: [policy.yaml]
kill_switch: kill.yaml
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: request, when: 'request.user_text == "WORD"', action: deny, message: Not here.}]}
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Serve under a policy that denies nothing that is said here."""
    (tmp_path / "handrail.yaml").write_text(LISTENERS + CONFIG)
    (tmp_path / "policy.yaml").write_text(POLICY)
    with handrail(tmp_path / "handrail.yaml") as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    """Give the SDK."""
    with openai.OpenAI(base_url=served.base_url, api_key="placeholder", max_retries=0) as client:
        yield client


def create(client: openai.OpenAI, **more: object) -> Any:
    """Say hello."""
    ask: Any = client.chat.completions.create
    return ask(model="gpt-5-mini", messages=says("Hello"), **more)


def denied(client: openai.OpenAI) -> bool:
    """Say whether saying hello is denied now; whatever it is, it is a well-formed reply."""
    return bool("Not here." == create(client).choices[0].message.content)


def stale(served: Served) -> bool:
    """Say whether /metrics tells that the newest configuration was refused."""
    with urlopen(f"{served.health_url}/metrics", timeout=WAIT_S) as page:  # noqa: S310 - our own URL
        return b"handrail_config_stale 1" in page.read()


def test_an_open_stream_outlives_a_reload(served: Served, client: openai.OpenAI, tmp_path: Path) -> None:
    """A stream that began under the old policy goes on to its end, while new calls meet the new one."""
    stream = create(client, metadata=simulate(text="a b c d e f g h", gap_ms=500), stream=True)
    first = next(stream)

    (tmp_path / "policy.yaml").write_text(POLICY.replace("WORD", "Hello"))
    assert until(lambda: denied(client))
    assert [] == [exchange for exchange in served.records() if exchange.stream], "the stream was over too early"
    choices = [choice for chunk in (first, *stream) for choice in chunk.choices]

    assert "a b c d e f g h" == "".join(choice.delta.content or "" for choice in choices)
    assert "stop" == choices[-1].finish_reason


def test_a_broken_policy_changes_nothing(served: Served, client: openai.OpenAI, tmp_path: Path) -> None:
    """A policy that does not load is refused: calls go on under the last good one, and /metrics says so."""
    (tmp_path / "policy.yaml").write_text(POLICY.replace("WORD", "Hello").replace("user_text", "user_txt"))

    assert until(lambda: stale(served))
    assert not denied(client)


def refund(client: openai.OpenAI) -> Any:
    """Ask for what the model answers by calling a tool; return what the SDK makes of it, headers included."""
    ask: Any = client.chat.completions.with_raw_response.create
    call = {"name": "issue_refund", "arguments": {"amount_usd": 5}}
    return ask(model="gpt-5-mini", messages=says("Refund me"), metadata=simulate(tools=[call]))


def stopped(client: openai.OpenAI) -> bool:
    """Say whether the call is taken out, with the text of the switch in its place."""
    message = refund(client).parse().choices[0].message
    return bool("Later." == message.content and not message.tool_calls)


def test_the_kill_switch_stops_a_tool_and_lets_it_go_on(served: Served, client: openai.OpenAI, tmp_path: Path) -> None:
    """A tool that kill.yaml lists is denied by the switch's own policy, and works again when the file is gone."""
    assert not stopped(client)
    (tmp_path / "kill.yaml").write_text("{tools: [issue_*], message: Later.}")
    assert until(lambda: stopped(client))
    decision = served.record(refund(client).headers["x-handrail-decision"]).decisions[-1]
    (tmp_path / "kill.yaml").unlink()

    assert until(lambda: not stopped(client))
    assert decision.rule.startswith("kill-switch/tools")
