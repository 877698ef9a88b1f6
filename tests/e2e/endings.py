"""Owns the table of how a call can end other than well, and what an unchanged OpenAI client makes of each ending.

Each row: what the model is asked, and what the client returns or raises, unstreamed and streamed, where policy denies
by `onDeny: reply` and by `onDeny: error`. The Python and the Node SDK are held against the same rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.rig import LISTENERS

PRICE = "{input_usd_per_mtok: 2, output_usd_per_mtok: 10}"
CONFIG = """\
providers: {model: {dialect: openai, base_url: "PROVIDER"}}
models:
MODELS
unlisted_models: deny
policies: ["*-policy.yaml"]
limits: {drain_s: 2, grace_s: 2}
"""

POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: ON_DENY, version: 1.0.0}
spec:
  selector: {models: ["ON_DENY", "ON_DENY-unpriced"]}
  onDeny: ON_DENY
  spend:
    - {id: one-call, scope: request, limitUSD: 0.05, message: That is too much at once.}
  rules:
    - id: poems
      phase: request
      when: request.user_text.contains("poem")
      action: deny
      message: Ask me about orders.
    - id: refunds
      phase: tool_call
      when: tool.name == "issue_refund"
      action: deny
      message: I may not refund.
---
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: ON_DENY-held, version: 1.0.0}
spec:
  selector: {models: ["ON_DENY-held"]}
  onDeny: ON_DENY
  rules:
    - id: secrets
      phase: response
      when: response.text.contains("secret")
      action: deny
      message: I cannot say that.
"""
ON_DENY = ("reply", "error")


def configure(folder: Path, provider_url: str) -> Path:
    """Write the configuration under which every row can happen; no policy is about the model `plain`."""
    priced = ["plain", *(f"{how}{suffix}" for how in ON_DENY for suffix in ("", "-held"))]
    lines = [f"  {name}: {{provider: model, price: {PRICE}}}" for name in priced]
    lines += [f"  {how}-unpriced: {{provider: model, model: nobody-knows-it}}" for how in ON_DENY]
    for how in ON_DENY:
        (folder / f"{how}-policy.yaml").write_text(POLICY.replace("ON_DENY", how))
    text = CONFIG.replace("PROVIDER", provider_url).replace("MODELS", "\n".join(lines))
    (folder / "handrail.yaml").write_text(LISTENERS + text)
    return folder / "handrail.yaml"


def simulate(**directives: Any) -> dict[str, str]:
    """Return the metadata that make the simulated provider do something."""
    return {"simulate": json.dumps(directives)}


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One way to end: the call, and its four outcomes; `stream` and `error` ones are the plain one unless given."""

    ask: dict[str, Any]
    suffix: str = ""
    """Of the model's name, after `reply` or `error`."""
    whole: dict[str, Any] = {}
    """What is asked besides, unstreamed."""
    stream: dict[str, Any] = {}
    """What is asked besides, streamed."""
    gives: str
    gives_streamed: str = ""
    gives_error: str = ""
    gives_error_streamed: str = ""

    def request(self, how: str, streamed: bool) -> dict[str, Any]:
        """Return the arguments of `chat.completions.create`."""
        more = {"stream": True, **self.stream} if streamed else self.whole
        return {"model": f"{how}{self.suffix}", "messages": says("Hello"), **self.ask, **more}

    def outcome(self, how: str, streamed: bool) -> str:
        """Return what the client must make of it."""
        streamed_one = self.gives_streamed or self.gives
        if how == "reply":
            return streamed_one if streamed else self.gives
        whole = self.gives_error or self.gives
        return (self.gives_error_streamed or self.gives_error or streamed_one) if streamed else whole


def says(text: str) -> list[dict[str, str]]:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


CALLS = [{"name": "issue_refund", "arguments": {"amount": 900}}, {"name": "lookup_order", "arguments": {}}]

KINDS: dict[str, Kind] = {
    "policy denies the request": Kind(
        ask={"messages": says("Write a poem")},
        gives="content_filter: Ask me about orders.",
        gives_error="PermissionDeniedError 403 policy_violation error/poems@1.0.0",
    ),
    "policy denies the only tool call": Kind(
        ask={"metadata": simulate(tools=CALLS[:1])},
        gives="stop: I may not refund.",
        gives_error="PermissionDeniedError 403 policy_violation error/refunds@1.0.0",
        gives_error_streamed="APIError policy_violation error/refunds@1.0.0 while streaming",
    ),
    "policy denies one of two tool calls": Kind(
        ask={"metadata": simulate(tools=CALLS)},
        gives="tool_calls: lookup_order({})",
        gives_error="PermissionDeniedError 403 policy_violation error/refunds@1.0.0",
        gives_error_streamed="APIError policy_violation error/refunds@1.0.0 while streaming",
    ),
    "policy denies the reply": Kind(
        ask={"metadata": simulate(text="The secret is 42")},
        suffix="-held",
        gives="content_filter: I cannot say that.",
        gives_error="PermissionDeniedError 403 policy_violation error-held/secrets@1.0.0",
    ),
    "a spend limit has no room": Kind(
        ask={"max_completion_tokens": 1_000_000},
        gives="content_filter: That is too much at once.",
        gives_error="RateLimitError 429 insufficient_quota insufficient_quota",
    ),
    "no price is known": Kind(ask={}, suffix="-unpriced", gives="InternalServerError 503 server_error price_unknown"),
    "the request makes no sense": Kind(
        ask={"messages": [{"role": "user", "content": 7}]},
        gives="BadRequestError 400 invalid_request_error invalid_value",
    ),
    "there is no such model": Kind(
        ask={}, suffix="-gone", gives="NotFoundError 404 invalid_request_error model_not_found"
    ),
    "the provider says 400": Kind(
        ask={"metadata": simulate(error=400)}, gives="BadRequestError 400 invalid_request_error simulated"
    ),
    "the provider says 401": Kind(
        ask={"metadata": simulate(error=401)}, gives="InternalServerError 502 upstream_error provider_auth"
    ),
    "the provider says 429": Kind(
        ask={"metadata": simulate(error=429)}, gives="RateLimitError 429 rate_limit_error simulated"
    ),
    "the provider says 500": Kind(
        ask={"metadata": simulate(error=500)}, gives="InternalServerError 502 server_error simulated"
    ),
    "the provider's reply is cut": Kind(
        ask={},
        whole={"metadata": simulate(text="Hello there", cut_after=10)},
        stream={"metadata": simulate(text="Hello there", cut_after=2)},
        gives="InternalServerError 502 upstream_error stream_cut",
        gives_streamed="Hello, then APIError upstream_error stream_cut while streaming",
    ),
}


CELLS = [(kind, how, streamed) for kind in KINDS for how in ON_DENY for streamed in (False, True)]
"""Every cell of the table: (kind, how policy denies, streamed)."""
