"""Owns the race for small budgets: what is spent beyond them and how much of them is used, by the way they are kept.

Usage: python -m bench.overspend [tenants] [seed]. Three Handrail processes share a Redis; of every tenant 128 agents
ask at once, each for some replies one after the other, whose lengths are log-normal; every tenant may spend 20,000
tokens.
`count after` asks a rule whether the tenant has spent its budget, as most gateways do; `hold all` holds the most that
each call can cost; `fit` does that too, but has calls wait for each other and shortens the last ones. What was spent is
read from the provider's own bill.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp import web

from tests.redis_servers import RedisServer, whichever

BUDGET = 20_000
"""Tokens of each tenant. A token costs a millionth of a dollar, into the model and out of it."""
AGENTS = 128
CALLS = 3
"""Replies that each agent asks for, one after the other."""
ASKED = 1024
"""Output tokens that each call asks for at most."""
MEDIAN, SIGMA = 180, 1.0
"""Of the log-normal distribution that reply lengths are drawn from."""
PROMPT = 14
"""Input tokens that the provider counts: as many as the prompt has."""
TOKENS_PER_S = 500.0
PROCESSES = 3
WAYS = {
    "count after": "rules: [{id: r, phase: request, when: 'spend.tenant.usd >= 0.02', action: deny, onDeny: error}]",
    "hold all": "spend: [{id: day, scope: tenant, window: day, limitUSD: 0.02}]",
    "fit": "spend: [{id: day, scope: tenant, window: day, limitUSD: 0.02, fit: {leastTokens: 16, wait: 60s}}]",
}
POLICY = """apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: race, version: 1.0.0}}
spec:
  {way}
"""
CONFIG = """
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
agent: {{id: a, tenant: {tenant}}}
providers: {{p: {{dialect: openai, base_url: "{provider}/{tenant}/v1", api_key_env: PROVIDER_KEY}}}}
models: {{m: {{provider: p, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}}}}}
policies: [policy.yaml]
budgets: {{redis: {{url: "{redis}", ledger: "{ledger}", timeout_ms: 5000}}}}
telemetry: {{log_level: error}}
limits: {{max_connections: 4096}}
"""


class Provider:
    """A provider that says so many tokens as it is told to and may, at some speed, and keeps its own bill."""

    def __init__(self) -> None:
        self.bill: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream one reply, billed before it begins: what is generated is paid for, read or not."""
        body = json.loads(await request.read())
        tokens = min(int(body["metadata"]["tokens"]), body.get("max_completion_tokens", ASKED))
        self.bill[request.match_info["tenant"]] += PROMPT + tokens
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        await asyncio.sleep(tokens / TOKENS_PER_S)
        usage = {"prompt_tokens": PROMPT, "completion_tokens": tokens, "total_tokens": PROMPT + tokens}
        for choices, counted in ((_said("word"), None), (_said("", "stop"), None), ([], usage)):
            event = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": choices, "usage": counted}
            await reply.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await reply.write_eof(b"data: [DONE]\n\n")
        return reply


def _said(text: str, finish: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]


@asynccontextmanager
async def _provider(provider: Provider) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{tenant}/v1/chat/completions", provider.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def _handrail(folder: Path) -> AsyncIterator[str]:
    """Run one process and yield its base URL."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--config", str(folder / "handrail.yaml"),
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PROVIDER_KEY": "none"},
    )  # fmt: skip
    try:
        async for line in cast("asyncio.StreamReader", program.stdout):
            if b"OPENAI_BASE_URL" in line:
                yield line.decode().partition("OPENAI_BASE_URL=")[2].split()[0]
                break
    finally:
        program.terminate()
        await program.wait()


@contextmanager
def _redis() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(whichever(), Path(folder)) as server,
    ):
        yield server.url


async def _agent(http: aiohttp.ClientSession, urls: list[str], number: int, chance: random.Random) -> Counter[str]:
    """Ask for some replies, one after the other; return how many there were and how many refusals."""
    seen: Counter[str] = Counter()
    for _ in range(CALLS):
        tokens = max(1, round(chance.lognormvariate(0, SIGMA) * MEDIAN))
        body = {
            "model": "m", "stream": True, "max_completion_tokens": ASKED, "metadata": {"tokens": str(tokens)},
            "messages": [{"role": "user", "content": "What is the state of my order?"}],
        }  # fmt: skip
        async with http.post(f"{urls[number % len(urls)]}/chat/completions", json=body) as reply:
            await reply.read()
            seen[{200: "answered", 429: "refused", 403: "refused"}.get(reply.status, f"status {reply.status}")] += 1
    return seen


async def race(way: str, tenants: int, seed: int, redis_url: str, folder: Path) -> dict[str, Any]:
    """Let every tenant's agents race for its budget; return how its bill compares with it."""
    provider, seen = Provider(), Counter[str]()
    async with _provider(provider) as url, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for tenant in (f"t{number}" for number in range(tenants)):
            async with AsyncExitStack() as stack:
                urls = []
                for process in range(PROCESSES):
                    home = folder / f"{way.replace(' ', '-')}-{tenant}-{process}"
                    ledger = f"{way.replace(' ', '-')}-{tenant}"
                    _write(home, way, provider=url, tenant=tenant, redis=redis_url, ledger=ledger)
                    urls.append(await stack.enter_async_context(_handrail(home)))
                agents = (_agent(http, urls, n, random.Random(f"{seed}{tenant}{n}")) for n in range(AGENTS))  # noqa: S311 - a race, no secret
                for counted in await asyncio.gather(*agents):
                    seen += counted
    spent = [provider.bill[f"t{number}"] for number in range(tenants)]
    return {
        "over": max(0, *(bill - BUDGET for bill in spent)),
        "used": sum(min(bill, BUDGET) for bill in spent) / tenants / BUDGET,
        **seen,
    }


def _write(home: Path, way: str, **values: str) -> None:
    home.mkdir(parents=True)
    (home / "handrail.yaml").write_text(CONFIG.format(**values))
    (home / "policy.yaml").write_text(POLICY.format(way=WAYS[way]))


def main() -> None:
    """Run every way and print the table."""
    tenants, seed = (int(given or usual) for given, usual in zip([*sys.argv[1:3], "", ""][:2], ("3", "1"), strict=True))
    print(f"{tenants} tenants, seed {seed}: {AGENTS} agents each, {PROCESSES} processes, {BUDGET} tokens per tenant")
    print(f"{'':12}  beyond the budget  budget used  answered  refused  other")
    with tempfile.TemporaryDirectory() as folder, _redis() as redis_url:
        for way in WAYS:
            told = asyncio.run(race(way, tenants, seed, redis_url, Path(folder)))
            over, used, answered, refused = (told.pop(key, 0) for key in ("over", "used", "answered", "refused"))
            print(f"{way:12}  {over:10,} tokens  {used:11.1%}  {answered:8}  {refused:7}  {told or ''}")


if __name__ == "__main__":
    main()
