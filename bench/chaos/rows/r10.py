"""Owns row R10: how late the loop comes to what is due, while agents send prompts of one MiB under hostile rules.

Agents call without a break, each with the next of `hostile.SHAPES` and by the next expression of `hostile.SOURCES`,
streamed and unstreamed in turn, under the packs `support` and `pii` besides. Handrail itself measures fifty times a
second how late its loop is (`handrail_loop_lag_seconds`); beside that a light call is made again and again.
"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable

from bench.chaos.clients import Steady, body
from bench.chaos.durable import quantile
from bench.chaos.hostile import ASKS, SOURCES, asked, policy, prompts
from bench.chaos.provider import FakeProvider, Script
from bench.chaos.report import ROOT
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.chaos.serving import WAIT_S, Served, serving, until

TITLE = "loop lag p99/max under hostile policy + 1 MiB prompts"
GATE = "at most 20/50 ms"
STRETCH = "at most 10/50 ms"

AGENTS = 4
PRICE = "{input_usd_per_mtok: 0.01, output_usd_per_mtok: 0.02}"
CONFIG = """\
providers: {raw: {dialect: openai, base_url: "URL"}}
models:
  support-small: {provider: raw, price: PRICE}
MODELS
pools: {cheap: [support-small]}
policies: [ROOT/rules/support, ROOT/rules/pii, hostile/*.yaml]
state: {path: state.sqlite}
telemetry: {log_level: error}
"""
REPLY = Script(
    texts=tuple(f"Returns are free for {number} days. " if number % 150 else ASKS for number in range(300)), gap_ms=2
)
SILENT = Script(texts=("Returns are free. ",), no_usage=True)
LAG = "handrail_loop_lag_seconds"


def run(plan: Plan) -> Outcome:
    """Serve hostile calls for a while."""
    seconds = 120.0 if plan.full else 6.0
    (plan.folder / "hostile").mkdir(exist_ok=True)
    for number, source in enumerate(SOURCES):
        (plan.folder / "hostile" / f"{number}.yaml").write_text(policy(number, source))
    with FakeProvider(plan.folder, seed=plan.seed) as provider, serving(plan.folder, config(provider.url)) as here:
        at_start = lags(here)
        provider.script(SILENT)
        counted = until(lambda: _counts(here))
        provider.script(REPLY)
        loaded = lags(here)
        figures = asyncio.run(_served(here, plan, seconds))
        served = lags(here)
        here.stop()
        ended = Counter(record.state.value for record in here.records())
    if not counted:
        raise RuntimeError("no tokenizer was loaded")
    found: dict[str, Figure] = {
        "later than 20 ms, %": _later_share(loaded, served, "0.02"),
        "later than 50 ms": _later(loaded, served, "0.05"),
        "later than 10 ms, %": _later_share(loaded, served, "0.01"),
        "later than 100 ms": _later(loaded, served, "0.1"),
        "measured": served["+Inf"] - loaded["+Inf"],
        **figures,
        **{f"of all that ended: {state}": count for state, count in sorted(ended.items())},
        "later than 50 ms while the tokenizer was loaded": _later(at_start, loaded, "0.05"),
    }
    most = {"later than 20 ms, %": 1, "later than 50 ms": 0, "calls not answered": 0}
    met = within(found, most=most, least={"measured": seconds * 10, "calls": AGENTS})
    return Outcome(
        figures=found,
        met=met,
        stretch=met and within(found, most={"later than 10 ms, %": 1}),
        notes=(
            "The lag is how late a timer of the main loop fires; p99 is met where at most 1 % of them are later.",
            "The tokenizer is loaded once, by the first call whose provider reports no usage; that is done before, for "
            "its constructor holds the interpreter for some 0.2 s.",
        ),
    )


def config(url: str) -> str:
    """Return the configuration: each expression is chosen by a model of its own."""
    models = "\n".join(f"  hostile-{number}: {{provider: raw, price: PRICE}}" for number in range(len(SOURCES)))
    text = CONFIG.replace("MODELS", models).replace("PRICE", PRICE)
    return text.replace("ROOT", str(ROOT)).replace("URL", url)


def lags(here: Served) -> dict[str, int]:
    """Return how many measurements were at most so late, by the bound in seconds."""
    with urllib.request.urlopen(f"{here.health_url}/metrics", timeout=WAIT_S) as page:  # noqa: S310 - our own page
        found = re.findall(rf'(?m)^{LAG}_bucket{{le="([^"]+)"}} (\S+)$', page.read().decode())
    return {bound: int(float(count)) for bound, count in found}


def _later(before: dict[str, int], after: dict[str, int], bound: str) -> int:
    """Return how many measurements between two looks were later than a bound."""
    return after["+Inf"] - after[bound] - before["+Inf"] + before[bound]


def _later_share(before: dict[str, int], after: dict[str, int], bound: str) -> float:
    return round(100 * _later(before, after, bound) / max(after["+Inf"] - before["+Inf"], 1), 3)


def _counts(here: Served) -> bool:
    """Make a call whose provider reports no usage; say whether a tokenizer has counted one by now."""
    one = Steady(here.port, 1, lambda _: body("support-small"), connections=1)
    asyncio.run(one.run(0.2))
    with urllib.request.urlopen(f"{here.health_url}/metrics", timeout=WAIT_S) as page:  # noqa: S310 - our own page
        return b'source="tokenizer"' in page.read()


async def _served(here: Served, plan: Plan, seconds: float) -> dict[str, Figure]:
    made = [prompt for _, prompt in prompts(plan.dice())]

    def called(first: int) -> Callable[[int], bytes]:
        def call(number: int) -> bytes:
            model = f"hostile-{(first * 13 + number * 7) % len(SOURCES)}"
            stream = bool((number + number // len(made)) % 2)
            return asked(model, made[(first * 2 + number) % len(made)], stream=stream)

        return call

    agents = [Steady(here.port, 1e6, called(number), connections=1) for number in range(AGENTS)]
    async with asyncio.TaskGroup() as group:
        light = group.create_task(_light(here.port, seconds))
        for agent in agents:
            group.create_task(agent.run(seconds))
    got = [one for agent in agents for one in agent.got]
    return {
        "calls": len(got),
        "calls not answered": sum(one.status != 200 for one in got),
        "a light call beside them, p50/p99/max ms": "/".join(
            f"{quantile(light.result(), at):.0f}" for at in (0.5, 0.99, 1)
        ),
    }


async def _light(port: int, seconds: float) -> list[float]:
    """Ask for the models again and again; return how long that took."""
    took, ends = list[float](), time.monotonic() + seconds
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < ends:
        began = time.monotonic()
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        took.append((time.monotonic() - began) * 1000)
        await asyncio.sleep(0.01)
    writer.close()
    return took
