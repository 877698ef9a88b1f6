"""Owns the price of telling about a call: observing on the loop, counting and tracing on the thread, one scrape.

Run: python bench/telemetry_cost.py [exchanges]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from msgspec.structs import replace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource

from proxy.telemetry import Telemetry, TelemetrySettings
from proxy.telemetry.spans import Trace
from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Decision,
    Exchange,
    Level,
    Mode,
    Phase,
    RuleHit,
    Session,
    State,
    Target,
    Usage,
    Verdict,
)

CALL = Exchange(
    id="ex_1",
    started_ms=1_767_225_600_000,
    endpoint="/v1/chat/completions",
    caller=Caller(agent="refunds", level=Level.EXECUTE, principal="key"),
    session=Session(id="se_1"),
    stream=True,
    model_asked="smart",
    state=State.COMPLETE,
    status=200,
    attempts=(
        Attempt(
            number=1,
            reservation_id="ex_1:1",
            target=Target(alias="smart", provider="openai", model="gpt-5-mini"),
            started_ms=1_767_225_600_005,
            state=State.COMPLETE,
            usage=Usage(input_tokens=812, output_tokens=164, cache_read_tokens=512),
            cost=Cost(nanousd=531_000),
            total_ms=900.0,
        ),
    ),
    decisions=(
        Decision(
            id="ex_1-request",
            phase=Phase.REQUEST,
            verdict=Verdict.ANNOTATE,
            rules=(RuleHit(id="pack/rule@1", action=Verdict.ANNOTATE, mode=Mode.ENFORCE),),
        ),
        Decision(id="ex_1-response0", phase=Phase.RESPONSE, verdict=Verdict.ALLOW),
    ),
    ttft_ms=240.0,
    total_ms=1000.0,
)


def cpu_us(work: Callable[[], object], times: int) -> float:
    """Return CPU microseconds per exchange of some work on `times` of them."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / times * 1e6


def main(times: int) -> None:
    """Print the price of each part."""
    telemetry = Telemetry(TelemetrySettings(queue=times), None)
    calls = [replace(CALL, caller=replace(CALL.caller, agent=f"agent-{number % 100}")) for number in range(times)]

    def observe() -> None:
        for call in calls:
            telemetry.observe(call)

    print(f"observe {cpu_us(observe, times):.2f} us, count {cpu_us(telemetry.drain, times):.1f} us per exchange")
    trace = Trace(Resource({}), "0")
    spans = [span for call in calls for span in trace.of(call)]
    print(f"spans: make {cpu_us(lambda: [trace.of(call) for call in calls], times):.1f} us", end=", ")
    print(f"encode {cpu_us(lambda: encode_spans(spans).SerializeToString(), times):.1f} us per exchange of 4 spans")
    lines = telemetry.render()[0].count(b"\n")
    print(f"scrape of {lines} lines {cpu_us(telemetry.render, 1) / 1000:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
