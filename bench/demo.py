"""Owns `make demo`: a short support conversation through a real Handrail, with what was decided about each call.

Starts `handrail serve` as anybody would, points the unchanged `openai` SDK at it by OPENAI_BASE_URL and nothing else,
and prints for each call what was decided and why, where it went, what it cost and what was recorded. Without
OPENAI_API_KEY the model is the built-in simulated one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from proxy.accounting import format_usd
from proxy.cli.paint import paint, rows
from proxy.stores.sqlite import Reader
from proxy.terms import Decision, Exchange

ROOT = Path(__file__).resolve().parent.parent
PORTS = {"listen": 8421, "health_listen": 8422, "admin_listen": 8423}
READY_S = 20.0

CONFIG = """\
agent: {{id: support-web, level: execute}}
providers:
  model: {provider}
models:
  support-large: {{provider: model, model: gpt-5, tags: [tools, json, vision], context: 400000}}
  support-small: {{provider: model, model: gpt-5-nano, tags: [tools, json, vision, cheap], context: 400000}}
pools:
  cheap: [support-small, support-large]
default_model: support-large
policies: [{policies}]
"""
SIMULATED = "{dialect: simulated, prices: openai}"
REAL = "{dialect: openai, base_url: https://api.openai.com/v1, api_key_env: OPENAI_API_KEY}"

SYSTEM = "You are the support agent of a small online shop. Use the tools; never invent the state of an order."
ORDERS = {"A1001": {"order_id": "A1001", "status": "shipped", "total_usd": 84.5, "arrives": "2026-01-09"}}


def tool(name: str, description: str, **parameters: str) -> ChatCompletionToolParam:
    """Describe a tool to the model."""
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    tool("lookup_order", "Find an order.", order_id="string"),
    tool("issue_refund", "Give money back for an order.", order_id="string", amount_usd="number", reason="string"),
    tool("search_faq", "Search the help pages.", query="string"),
    tool("delete_account", "Delete a customer's account for good.", customer_id="string"),
]


def run_tool(name: str, arguments: dict[str, Any]) -> object:
    """Do what a tool does; this is the agent's own code, of which Handrail knows nothing."""
    if name == "lookup_order":
        return ORDERS.get(str(arguments.get("order_id")), {"error": "no such order"})
    if name == "issue_refund":
        return {"refunded_usd": arguments["amount_usd"], "order_id": arguments["order_id"]}
    return {"answer": "Returns are free within 30 days of delivery."}


class Agent:
    """A plain support agent on the OpenAI SDK: it asks the model, runs the tools it is told to, and asks again."""

    def __init__(self) -> None:
        self.client = openai.OpenAI()
        self.messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": SYSTEM}]
        self.calls: list[str] = []

    def says(self, text: str, *, stream: bool) -> str:
        """Answer one message of the customer."""
        self.messages.append({"role": "user", "content": text})
        while True:
            message = self._streamed() if stream else self._whole()
            self.messages.append(cast("ChatCompletionMessageParam", message))
            if not message.get("tool_calls"):
                return str(message.get("content"))
            for call in message["tool_calls"]:
                name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
                result = run_tool(name, arguments)
                print(paint(f"   tool     {name}({arguments}) → {result}", "dim"))
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)})

    def _whole(self) -> dict[str, Any]:
        raw = self.client.chat.completions.with_raw_response.create(
            model="support-large", messages=self.messages, tools=TOOLS
        )
        self.calls.append(raw.headers["x-handrail-decision"])
        return raw.parse().choices[0].message.model_dump(exclude_none=True)

    def _streamed(self) -> dict[str, Any]:
        with self.client.chat.completions.with_streaming_response.create(
            model="support-large", messages=self.messages, tools=TOOLS, stream=True
        ) as raw:
            self.calls.append(raw.headers["x-handrail-decision"])
            text, calls = "", cast("dict[int, dict[str, Any]]", {})
            for chunk in raw.parse():
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    for piece in choice.delta.tool_calls or []:
                        call = calls.setdefault(
                            piece.index, {"id": piece.id, "type": "function", "function": {"name": "", "arguments": ""}}
                        )
                        if piece.function:
                            call["function"]["name"] += piece.function.name or ""
                            call["function"]["arguments"] += piece.function.arguments or ""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        return message | ({"tool_calls": list(calls.values())} if calls else {})


SCENES = (
    ("An everyday question goes to the cheap model.", False, ["What is your return policy?"]),
    (
        "An order is looked up with a tool, then a small refund is within the agent's level.",
        True,
        ["Where is my order A1001?", "Please refund $30 for order A1001, it arrived damaged."],
    ),
    (
        "A refund above the limit never reaches the agent's tools.",
        False,
        ["Where is my order A1001?", "I want a refund of $400 for order A1001."],
    ),
    ("A refund for an order that nobody has looked up.", True, ["Refund $20 for order A1001."]),
    ("A question that is none of this agent's business.", True, ["Which party should I vote for in the election?"]),
)


def main() -> int:
    """Run the demo; return 0 if every scene played."""
    real = bool(os.environ.get("OPENAI_API_KEY"))
    with tempfile.TemporaryDirectory(prefix="handrail-demo-") as folder:
        config = Path(folder) / "handrail.yaml"
        listeners = "".join(f"{name}: 127.0.0.1:{port}\n" for name, port in PORTS.items())
        policies = ROOT / "rules" / "support"
        config.write_text(listeners + CONFIG.format(provider=REAL if real else SIMULATED, policies=policies))
        with handrail(config):
            os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{PORTS['listen']}/v1"
            os.environ.setdefault("OPENAI_API_KEY", "any-placeholder")
            who = "OpenAI" if real else "the built-in simulated model (set OPENAI_API_KEY to use the real one)"
            print(f"The model is {who}.")
            with Reader(str(Path(folder) / ".handrail" / "handrail.sqlite")) as records:
                for scene in SCENES:
                    play(*scene, records)
    print(paint("\nDone. `make serve` leaves a proxy running; the README says how to point an agent at it.", "green"))
    return 0


def play(title: str, stream: bool, said: list[str], records: Reader) -> None:
    """Play one conversation, and show the record of each of its calls."""
    print(paint(f"\n── {title}", "bold"))
    agent = Agent()
    for text in said:
        print(f"   customer {text}")
        answer = agent.says(text, stream=stream)
        print(f"   agent    {answer}")
    for number, decision in enumerate(agent.calls, 1):
        print(f"   call {number}\n{brief(record(records, decision.partition('-')[0]))}")


def brief(exchange: Exchange) -> str:
    """Say in five lines what `handrail explain` says in full."""
    decided, why = zip(*map(decision_in_words, exchange.decisions), strict=True)
    route = exchange.route
    saved = f", saves {format_usd(route.saved_nanousd)}" if route and route.saved_nanousd > 0 else ""
    tokens = sum(attempt.usage.input_tokens + attempt.usage.output_tokens for attempt in exchange.attempts)
    cost = "unknown" if exchange.cost.nanousd is None else format_usd(exchange.cost.nanousd)
    return rows(
        [
            ("decided", "; ".join(decided)),
            ("why", "\n".join(filter(None, why)) or "no rule matched"),
            ("routed", f"{route.targets[0].alias} ({route.reason}{saved})" if route else "nowhere: it never left"),
            ("cost", f"{cost} for {tokens} tokens"),
            ("recorded", f"{exchange.state}, HTTP {exchange.status}; handrail explain {exchange.id}"),
        ],
        indent="     ",
    )


def decision_in_words(decision: Decision) -> tuple[str, str]:
    """Say what a decision was, and which rules led to it."""
    what = f"{decision.phase}: {paint(decision.verdict, 'yellow' if decision.verdict == 'deny' else 'green')}"
    return what, ", ".join(f"{hit.id}{f' ({hit.error})' if hit.error else ''}" for hit in decision.rules)


def record(records: Reader, exchange_id: str) -> Exchange:
    """Return the finished record of a call; it is written just after the reply has left."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        found = records.find(exchange_id)
        if found is not None and found.state != "dispatched":
            return found
        time.sleep(0.02)
    raise SystemExit(f"{exchange_id} was never recorded")


@contextmanager
def handrail(config: Path) -> Iterator[None]:
    """Run `handrail serve` with a config until the block ends."""
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            wait_ready(process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(READY_S)


def wait_ready(process: subprocess.Popen[bytes]) -> None:
    """Return when /readyz says so; fail when the process ends first."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"handrail ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORTS['health_listen']}/readyz", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise SystemExit("handrail was not ready in time")


if __name__ == "__main__":
    sys.exit(main())
