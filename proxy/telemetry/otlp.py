"""Owns the sending of spans: sampled by trace, batched, sent by a thread to an OTLP/HTTP collector, dropped when full.

The SDK's batch processor is not used: it does not say how many spans it lost, and ends only when the collector does.
"""

from __future__ import annotations

import threading
from collections import deque
from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from proxy.telemetry.spans import Trace, trace_id
from proxy.terms import Exchange

ROOM: Final = 8_192
"""Spans that may wait for the collector."""
BATCH: Final = 512
EVERY_S: Final = 1.0
TIMEOUT_S: Final = 10.0
"""For one batch with all its retries."""
_LOW_64: Final = (1 << 64) - 1


def sampled(trace: str, share: float) -> bool:
    """Say whether a trace is one of the given share; every process that uses the low 64 bits says the same.

    Source: OpenTelemetry specification, Trace SDK, TraceIdRatioBased.
    """
    return int(trace, 16) & _LOW_64 < round(share * (1 << 64))


class Spans:
    """Takes exchanges, sends spans."""

    def __init__(self, endpoint: str, share: float) -> None:
        release = version("handrail")
        self.dropped = 0
        self._share = share
        self._trace = Trace(Resource.create({SERVICE_NAME: "handrail", SERVICE_VERSION: release}), release)
        self._exporter = OTLPSpanExporter(endpoint=_traces(endpoint), timeout=TIMEOUT_S)
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closing = self._given_up = False
        self._thread = threading.Thread(target=self._run, name="handrail-otlp", daemon=True)
        self._thread.start()

    def add(self, exchange: Exchange) -> None:
        """Make the spans of an exchange whose trace is sampled; without room for all of them none is kept."""
        if not sampled(trace_id(exchange), self._share):
            return
        spans = self._trace.of(exchange)
        if len(self._waiting) + len(spans) > ROOM:
            self.dropped += len(spans)
            return
        self._waiting.extend(spans)
        if len(self._waiting) >= BATCH:
            self._wake.set()

    def close(self, within_s: float) -> None:
        """Send what is left for no longer than this, then give it up."""
        self._closing = True
        self._wake.set()
        self._thread.join(within_s)
        self._given_up = True
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # ends a retry that is waiting

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            self._send()
        self._send()

    def _send(self) -> None:
        while self._waiting and not self._given_up:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
                self.dropped += len(batch)


def _traces(endpoint: str) -> str:
    """Return the address of the traces signal below a collector's base URL."""
    return endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
