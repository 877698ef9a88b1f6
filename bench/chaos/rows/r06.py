"""Owns row R6: SIGTERM while streams are open, some of which fit the grace and some of which do not."""

from __future__ import annotations

import asyncio
import time

from bench.chaos.clients import body, opened, rests
from bench.chaos.provider import FakeProvider, Script
from bench.chaos.rows_api import Figure, Outcome, Plan, within
from bench.chaos.serving import Served, serving
from proxy.terms import State

TITLE = "SIGTERM: truncated streams that fit the grace; durable flush"
GATE = "0; at most 1 s"
STRETCH = "at most 200 ms"

CONFIG = """\
providers: {raw: {dialect: openai, base_url: "URL"}}
models: {m: {provider: raw, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}
policies: [policy.yaml]
state: {path: state.sqlite}
limits: {grace_s: GRACE}
telemetry: {log_level: error}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: budget, version: 1.0.0}
spec:
  spend: [{id: cap, scope: agent, window: day, limitUSD: 100000}]
"""
ENDED = b"data: [DONE]\n\n\r\n0\r\n\r\n"


def run(plan: Plan) -> Outcome:
    """Open streams, send SIGTERM, read what comes, and look at what is on record."""
    streams, grace_s = (200, 30.0) if plan.full else (20, 4.0)
    (plan.folder / "policy.yaml").write_text(POLICY)
    with FakeProvider(plan.folder, seed=plan.seed) as provider:
        config = CONFIG.replace("URL", provider.url).replace("GRACE", str(grace_s))
        with serving(plan.folder, config) as here:
            figures = asyncio.run(_ended(here, streams, grace_s))
            charged = sum(charge.nanousd for charge in provider.charges())
            figures |= _recorded(here, charged)
    zero = ("truncated that fit the grace", "untold that did not fit", "not on record", "still held", "exit code")
    most = dict.fromkeys(zero, 0)
    return Outcome(
        figures=figures,
        met=within(figures, most={**most, "durable part ms": 1000}, least={"streams that fit": 1, "that did not": 1}),
        stretch=within(figures, most={**most, "durable part ms": 200}),
        notes=(
            "The durable part is the time from the last stream's end to the end of the process: settling, recording, "
            "syncing, and the interpreter's own end.",
        ),
    )


async def _ended(here: Served, streams: int, grace_s: float) -> dict[str, Figure]:
    """Three of four streams end within half of the grace; of the others the provider never says the end."""
    gap_ms = int(grace_s * 1000 / 2 / 6)
    short, long = Script(gap_ms=gap_ms), Script(gap_ms=gap_ms, texts=("and so on ",) * 10_000)
    fit = await opened(here.port, [body("m", stream=True, provider=short)] * (streams * 3 // 4))
    unfit = await opened(here.port, [body("m", stream=True, provider=long)] * (streams // 4))
    here.process.terminate()
    whole, cut = await asyncio.gather(rests(fit), rests(unfit))
    code = await asyncio.to_thread(here.process.wait, 60)
    exited = time.monotonic()
    last = max(stream.ended_s for stream in (*fit, *unfit))
    return {
        "truncated that fit the grace": sum(not reply.endswith(ENDED) for reply in whole),
        "durable part ms": round((exited - last) * 1000),
        "untold that did not fit": sum(b'"code":"shutting_down"' not in reply or b"[DONE]" in reply for reply in cut),
        "streams that fit": len(fit),
        "that did not": len(unfit),
        "exit code": code,
    }


def _recorded(here: Served, charged: int) -> dict[str, Figure]:
    records = here.records()
    totals = here.totals()
    whole = sum(record.cost.nanousd or 0 for record in records if record.state is State.COMPLETE)
    return {
        "not on record": here.open_calls() + sum(not record.cost.nanousd for record in records),
        "still held": sum(total.reserved_nanousd for total in totals.values()),
        "records": len(records),
        "charged by the provider, nano-dollars": charged,
        "booked for whole streams, nano-dollars": whole,
    }
