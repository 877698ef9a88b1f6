"""Owns the hand-over of finished exchanges to a thread that counts them and builds their spans.

In: exchanges, by an append that never waits. Out: the metrics page, statistics per rule, spans to a collector.
Never: work on the hot path, content, an unbounded queue: what does not fit is dropped and counted.
"""

from __future__ import annotations

import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final, Protocol

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family

from proxy.errors import ConfigError
from proxy.telemetry.log import log
from proxy.telemetry.tallies import Asked, RuleCounts, Tallies, alerts
from proxy.terms import Exchange

EVERY_S: Final = 0.2
"""How often the thread looks for work: waking it per exchange would cost the hot path more than the append does."""
CLOSE_S: Final = 1.0
"""For each of the two threads, once the last call has ended."""
SLICE: Final = 32
"""Exchanges between two offers of the interpreter to whoever else wants it."""


def _zero() -> int:
    return 0


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans go, and what to ask at every scrape for the gauges that no exchange tells."""

    otlp_endpoint: str = ""
    """Base URL of an OTLP/HTTP collector, e.g. `http://collector:4318`; empty: no spans. Headers, certificates and
    resource attributes come from the standard `OTEL_*` variables."""
    sample: float = 1.0
    """Share of traces of which spans are made, decided by trace id, so that all of a trace are made or none."""
    queue: int = 16_384
    """Exchanges that may wait."""
    in_flight: Callable[[], int] = _zero
    records_pending: Callable[[], int] = _zero
    tier_rows_pending: Callable[[], Mapping[str, int]] = dict
    ledger_away: Callable[[], bool] = bool
    conversations_away: Callable[[], bool] = bool
    budget_unheld: Callable[[], int] = _zero
    config_stale: Callable[[], bool] = bool
    records_unwritable: Callable[[], bool] = bool
    audit_unwritable: Callable[[], bool] = bool
    policy_digest: Callable[[], str] = str


class SpanSink(Protocol):
    """What takes exchanges to make spans of."""

    dropped: int

    def add(self, exchange: Exchange) -> None:
        """Make the spans of one exchange, or drop and count them."""

    def close(self, within_s: float) -> None:
        """Send what is left, for no longer than this."""


class Telemetry:
    """Metrics and spans of everything that was observed."""

    def __init__(self, settings: TelemetrySettings, spans: SpanSink | None) -> None:
        self._settings = settings
        self._spans = spans
        self._queue: deque[Exchange] = deque()
        self._room = settings.queue
        self._dropped = 0
        self._failed = 0
        self._tallies = Tallies()
        self._lock = threading.Lock()
        self._build = (version("handrail"), platform.python_version())

    def observe(self, exchange: Exchange) -> None:
        """Take a finished exchange; never waits, never raises."""
        if len(self._queue) < self._room:
            self._queue.append(exchange)
        else:
            self._dropped += 1

    def lagged(self, seconds: float) -> None:
        """Count how late the main loop was; called by it alone, and never waits."""
        self._tallies.spread("handrail_loop_lag_seconds", (), seconds * 1000)

    def rules(self) -> dict[str, RuleCounts]:
        """Return, by rule id, how often each rule matched, failed, or would have acted in shadow; never waits."""
        if self._lock.acquire(blocking=False):  # else another thread is counting, and this is a moment old
            try:
                self._work(len(self._queue))
            finally:
                self._lock.release()
        return {rule: counts.copy() for rule, counts in list(self._tallies.rules.items())}

    def render(self) -> tuple[bytes, str]:
        """Return the metrics page and its content type; takes milliseconds, so call it on a thread of its own."""
        with self._lock:
            self._work(len(self._queue))
            families = list(self._tallies.families(self._asked()))
        return generate_latest(_Page(families)), CONTENT_TYPE_PLAIN_0_0_4

    def drain(self) -> None:
        """Work through what was observed, in slices, so that nobody waits long for the interpreter or the lock."""
        while self._queue:
            with self._lock:
                self._work(min(len(self._queue), SLICE))
            time.sleep(0)

    def _work(self, count: int) -> None:
        for _ in range(count):
            self._take(self._queue.popleft())

    def _take(self, exchange: Exchange) -> None:
        try:
            self._tallies.add(exchange)
            for decision in filter(alerts, exchange.decisions):
                log("warning", "alert", decision=decision.id, rule=decision.rule, agent=exchange.caller.agent)
            if self._spans is not None:
                self._spans.add(exchange)
        except Exception as error:  # noqa: BLE001  # a bug in counting one exchange must not end the counting of all
            self._failed += 1
            log("error", "bug", error=type(error).__name__, where="telemetry")

    def _asked(self) -> Asked:
        ask = self._settings
        return {
            "handrail_in_flight": {(): ask.in_flight()},
            "handrail_records_pending": {(): ask.records_pending()},
            "handrail_tier_rows_pending": {(tier,): count for tier, count in ask.tier_rows_pending().items()},
            "handrail_ledger_away": {(): ask.ledger_away()},
            "handrail_conversations_away": {(): ask.conversations_away()},
            "handrail_budget_unheld_total": {(): ask.budget_unheld()},
            "handrail_config_stale": {(): ask.config_stale()},
            "handrail_records_unwritable": {(): ask.records_unwritable()},
            "handrail_audit_unwritable": {(): ask.audit_unwritable()},
            "handrail_policy_info": {(ask.policy_digest(),): 1},
            "handrail_build_info": {self._build: 1},
            "handrail_telemetry_dropped_total": {
                ("exchanges",): self._dropped + self._failed,
                ("spans",): self._spans.dropped if self._spans else 0,
                ("log",): log.dropped,
            },
        }


class _Page:
    """What the exposition needs to see of a registry."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


@contextmanager
def open_telemetry(settings: TelemetrySettings) -> Iterator[Telemetry]:
    """Start the thread; leaving works through what is waiting and ends within two seconds. Raises ConfigError."""
    spans = _spans(settings)
    telemetry = Telemetry(settings, spans)
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(telemetry, stop), name="handrail-telemetry", daemon=True)
    thread.start()
    try:
        yield telemetry
    finally:
        stop.set()
        thread.join(CLOSE_S)
        if spans is not None:
            spans.close(CLOSE_S)


def _run(telemetry: Telemetry, stop: threading.Event) -> None:
    while not stop.wait(EVERY_S):
        telemetry.drain()
    telemetry.drain()


def _spans(settings: TelemetrySettings) -> SpanSink | None:
    if not settings.otlp_endpoint:
        return None
    try:
        from proxy.telemetry.otlp import Spans  # late: it costs 80 ms and 10 MiB that most starts do not need
    except ModuleNotFoundError as error:
        raise ConfigError(["telemetry.otlp_endpoint: needs the extra otlp: pip install 'handrail[otlp]'"]) from error
    return Spans(settings.otlp_endpoint, settings.sample)
