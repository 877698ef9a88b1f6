"""Owns row R9: the memory of a Handrail with a thousand open streams, and how it goes on under load."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from statistics import linear_regression

from bench.chaos.clients import Steady, body, opened
from bench.chaos.provider import FakeProvider, Script
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.chaos.serving import Served, serving, until

TITLE = "RSS at 1,000 streams; per stream; soak slope"
GATE = "at most 160 MB; at most 64 KiB; at most 1 MB/h"
STRETCH = "at most 110 MB; at most 40 KiB"

CONFIG = """\
providers: {raw: {dialect: openai, base_url: "URL"}}
models: {m: {provider: raw, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}
state: {path: state.sqlite}
telemetry: {log_level: error}
"""
SAMPLE_S = 2.0
MB = 1_000_000


def run(plan: Plan) -> Outcome:
    """Open streams and look; let them end; then soak."""
    streams, warm_s, soak_s = (1000, 60.0, 600.0) if plan.full else (50, 1.0, 6.0)
    with (
        FakeProvider(plan.folder, seed=plan.seed) as provider,
        serving(plan.folder, CONFIG.replace("URL", provider.url)) as here,
    ):
        figures = asyncio.run(_opened(here, streams))
        figures |= asyncio.run(_soaked(here, warm_s, soak_s))
        here.stop()
    most: dict[str, int] = {"soak slope MB/h": 1, "files more after the soak": 0}
    gate = {"RSS MB with all streams open": 160, "KiB per stream": 64, **most}
    stretch = {"RSS MB with all streams open": 110, "KiB per stream": 40, **most}
    judged = gate if plan.full else {"RSS MB with all streams open": 160, "files more after the soak": 0}
    return Outcome(
        figures=figures,
        met=within(figures, most=judged, least={"streams": streams}),
        stretch=plan.full and within(figures, most=stretch, least={"streams": streams}),
        notes=(
            f"The soak is {soak_s:.0f} s, its slope is extrapolated to an hour; a short slice does not judge it.",
            "Slow readers with prompts of 1 MiB, and the number of tasks, are not measured here.",
        ),
    )


async def _opened(here: Served, streams: int) -> dict[str, Figure]:
    idle = _rss(here)
    script = Script(texts=("word ",) * 60, gap_ms=2_000)
    held = await opened(here.port, [body("m", stream=True, provider=script)] * streams)
    await asyncio.sleep(5)
    full = _rss(here)
    for stream in held:
        stream.leave()
    await asyncio.to_thread(until, lambda: not here.open_calls(), 60)
    return {
        "RSS MB with all streams open": full / MB,
        "KiB per stream": (full - idle) / 1024 / streams,
        "RSS MB idle": idle / MB,
        "streams": len(held),
        "RSS MB after": _rss(here) / MB,
    }


async def _soaked(here: Served, warm_s: float, soak_s: float) -> dict[str, Figure]:
    """Call, unstreamed, with faults among them; take samples once it is warm."""
    refused, reset = Script(status=429), Script(end="reset", after=1)
    mix = [body("m"), body("m", provider=refused), body("m"), body("m", provider=reset)]
    load = Steady(here.port, 50, lambda number: mix[number % len(mix)], connections=8)
    times, sizes = [], []
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(load.run(warm_s + soak_s))
        await asyncio.sleep(warm_s)
        files = _files(here)
        while not calling.done():
            times.append(time.monotonic() / 3600)
            sizes.append(_rss(here) / MB)
            await asyncio.sleep(SAMPLE_S)
    fit = linear_regression(times, sizes)
    rest = sum((size - fit.slope * at - fit.intercept) ** 2 for at, size in zip(times, sizes, strict=True))
    spread = sum((at - sum(times) / len(times)) ** 2 for at in times)
    await asyncio.sleep(2)
    return {
        "soak slope MB/h": fit.slope,
        "95 % of the slope, MB/h either way": 1.96 * (rest / max(len(times) - 2, 1) / spread) ** 0.5,
        "files more after the soak": max(0, _files(here) - files),
        "soak seconds": soak_s,
        "soak calls": len(load.got),
    }


def _rss(here: Served) -> int:
    pages = Path(f"/proc/{here.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _files(here: Served) -> int:
    return len(os.listdir(f"/proc/{here.process.pid}/fd"))
