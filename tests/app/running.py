"""Owns a whole Handrail in a test: its folder, how it is asked, and what is waited for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from proxy import app

WAIT_S = 60.0

CONFIG = """
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {model: {dialect: simulated, prices: openai}}
"""

POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: request, when: 'request.user_text.contains("WORD")', action: deny, message: No.}]}
"""

ASK = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "one two"}]}


def options(folder: Path, more: str = "", *, watch_s: float = 0.02) -> app.Options:
    """Start with the folder's config and more keys."""
    path = folder / "handrail.yaml"
    path.write_text(path.read_text() + more)
    return app.Options(path=path, environment={}, watch_s=watch_s)


async def get(url: str, token: str = "") -> tuple[int, Any]:
    """Fetch a page; return its status and its text or JSON."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        text = await reply.text()
        return reply.status, json.loads(text) if reply.content_type == "application/json" else text


async def ask(here: app.Running, body: object = ASK, key: str = "") -> Any:
    """Send one call; return what the model is said to have said."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{here.base_url}/chat/completions", json=body, headers=headers) as reply,
    ):
        tree = await reply.json()
        return tree["choices"][0]["message"]["content"] if reply.status == 200 else tree


async def token_of(here: app.Running) -> str:
    """Read the admin token."""
    return (await asyncio.to_thread(here.admin_token_path.read_text)).strip()


async def until(claim: Any) -> bool:
    """Wait until an async claim is true."""
    async with asyncio.timeout(WAIT_S):
        while not await claim():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.02)
    return True


async def differs(here: app.Running, revision: str) -> bool:
    return here.house.snapshot.revision != revision


async def status_of(here: app.Running) -> Any:
    """Fetch /status."""
    return (await get(f"http://{here.admin_listen}/status", await token_of(here)))[1]
