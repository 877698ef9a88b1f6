"""Owns the proof that a total holds across two Handrails that share their state, however their calls race."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import openai

from tests.e2e.endings import simulate
from tests.e2e.rig import LISTENERS, Provider, handrail

CALLS = 16
CONFIG = """\
agent: {id: desk}
providers: {model: {dialect: openai, base_url: "PROVIDER"}}
models: {small: {provider: model, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 10}}}
policies: [policy.yaml]
state: {path: STATE}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  actions:
    - id: refunds
      tools: [refund]
      totals: {refund_usd: {value: tool.args.amount, limit: 100, window: month, per: agent}}
"""
TOOL = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}


def refunded(base_url: str, number: int) -> int:
    """Ask for two refunds of 30 in a conversation of its own; return how many the agent may make."""
    call = {"name": "refund", "arguments": {"amount": 30}}
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
        reply = client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "refund both"}],
            tools=[TOOL],  # type: ignore[list-item]  # one of many shapes
            metadata={"session_id": str(number), **simulate(tools=[call, call])},
        )
    return len(reply.choices[0].message.tool_calls or ())


def test_two_handrails_share_one_total(tmp_path: Path) -> None:
    """Whatever calls race through two processes on one state file, only what the total has room for leaves."""
    with ExitStack() as stack:
        provider, urls = stack.enter_context(Provider().running()), list[str]()
        for number in range(2):
            home = tmp_path / str(number)
            home.mkdir()
            (home / "policy.yaml").write_text(POLICY)
            text = CONFIG.replace("PROVIDER", provider.url).replace("STATE", str(tmp_path / "shared.sqlite"))
            (home / "handrail.yaml").write_text(LISTENERS + text)
            urls.append(stack.enter_context(handrail(home / "handrail.yaml")).base_url)
        with ThreadPoolExecutor(CALLS) as pool:
            counts = list(pool.map(lambda number: refunded(urls[number % 2], number), range(CALLS)))

    assert 3 == sum(counts)
