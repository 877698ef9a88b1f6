"""Owns calls that were kept, for the commands that read them: walked through the hallway, written where they look."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from proxy.sealing import PLAIN, Seal
from proxy.stores import sqlite
from proxy.terms import Exchange
from tests.fakes import Script
from tests.walking import CONFIG, Walked, compiled

TOOL = {"type": "function", "function": {"name": "issue_refund", "parameters": {"type": "object"}}}
ASKED = "Please refund order A1, I am ann@example.org."
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: refunds, version: 1.0.0}
spec:
  data:
    - {id: mail, direction: in, kinds: [email], action: tokenize}
  actions:
    - id: cap
      tools: [issue_refund]
      require: num(tool.args.amount_usd) <= CAP
      message: A refund of that amount needs a colleague.
  rules:
    - {id: keep, phase: post, when: "true", action: record}
"""


def refunding(amount: float) -> Script:
    """Script a reply that calls for a refund."""
    arguments = json.dumps({"amount_usd": amount})
    call = {"id": "c1", "type": "function", "function": {"name": "issue_refund", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body: dict[str, Any] = {"id": "c", "model": "large"}
    body["choices"] = [{"index": 0, "finish_reason": "tool_calls", "message": message}]
    body["usage"] = {"prompt_tokens": 9, "completion_tokens": 3}
    return Script(headers={"content-type": "application/json"}, chunks=(json.dumps(body).encode(),))


async def keep(
    folder: Path, *amounts: float, cap: str = "50.0", policy: str = POLICY, seal: Seal = PLAIN
) -> list[Exchange]:
    """Walk one call for each amount, and write what came of them into the folder, its configuration beside it."""
    (folder / "handrail.yaml").write_text(f"{CONFIG}\npolicies: [policy.yaml]\n")
    snapshot = await asyncio.to_thread(compiled, CONFIG, policy.replace("CAP", cap), folder)
    walked = Walked(*map(refunding, amounts), snapshot=snapshot)
    ask = {"model": "large", "messages": [{"role": "user", "content": ASKED}], "tools": [TOOL]}
    for _ in amounts:
        await walked.call(ask)
    path = str(folder / ".handrail" / "handrail.sqlite")
    async with sqlite.open(sqlite.Settings(path=path, seal=seal)) as store:
        for exchange in walked.seen:
            store.finish(exchange)
        for kept in walked.store.kept().values():
            store.keep(kept)
    return walked.seen
