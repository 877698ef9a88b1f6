"""Owns row R11: providers that refuse every call, and how many attempts are made of the calls that clients make."""

from __future__ import annotations

import asyncio
from collections import Counter

from bench.chaos.clients import Steady, body
from bench.chaos.provider import FakeProvider, Script
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.chaos.serving import serving
from proxy.routing import RETRIES_AT_ONCE

TITLE = "retry amplification in a 100 % 429 storm; attempts per request"
GATE = "at most 1.2 x; at most 4"
STRETCH = "at most 1.1 x"

STORM = Script(status=429, headers={"retry-after": "7"})
CONFIG = """\
providers:
  first: {dialect: openai, base_url: "URL"}
  second: {dialect: openai, base_url: "URL"}
  third: {dialect: openai, base_url: "URL"}
models:
  a: {provider: first, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  b: {provider: second, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  c: {provider: third, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
pools: {all: [a, b, c]}
state: {path: state.sqlite}
telemetry: {log_level: error}
"""


def run(plan: Plan) -> Outcome:
    """Let the storm blow, then let it end."""
    rate, seconds = (200, 60.0) if plan.full else (100, 5.0)
    data = body("all")
    with (
        FakeProvider(plan.folder, seed=plan.seed) as provider,
        serving(plan.folder, CONFIG.replace("URL", provider.url)) as here,
    ):
        provider.script(STORM)
        load = Steady(here.port, rate, lambda _: data)
        asyncio.run(load.run(seconds))
        attempts = len(provider.charges())
        provider.script(Script())
        after = Steady(here.port, 20, lambda _: data)
        asyncio.run(after.run(3.0))
        here.stop()
        most = max(len(record.attempts) for record in here.records())
    calls, passed = len(load.got), Counter((got.status, b"retry-after: 7\r\n" in got.head.lower()) for got in load.got)
    figures: dict[str, Figure] = {
        "amplification": attempts / calls if calls else float("nan"),
        "most attempts of a request": most,
        "not refused as the provider refused": calls - passed[429, True],
        "not answered well after the storm": sum(got.status != 200 for got in after.got),
        "calls": calls,
        "calls per second": calls / seconds,
        "attempts": attempts,
    }
    bounds = {
        "most attempts of a request": 4,
        "not refused as the provider refused": 0,
        "not answered well after the storm": 0,
    }
    # In a short storm the retries that a provider may get at once weigh more than in a long one.
    allowed = 1.2 if plan.full else 1.0 + 2 * (RETRIES_AT_ONCE + seconds) / max(calls, 1)
    return Outcome(
        figures=figures,
        met=within(figures, most={"amplification": allowed, **bounds}, least={"calls": rate * seconds / 2}),
        stretch=plan.full and within(figures, most={"amplification": 1.1, **bounds}),
        notes=(
            "Handrail never waits between attempts, so there is no jitter and no total wait: when to ask again is the "
            "client's to decide, and Retry-After is passed on.",
        ),
    )
