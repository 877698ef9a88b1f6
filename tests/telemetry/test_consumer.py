"""Owns the proof that observing is free of waiting, losing is counted, and what was observed is told."""

import sys
import threading
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import ConfigError
from proxy.telemetry import TelemetrySettings, open_telemetry
from proxy.telemetry.consumer import SLICE, Telemetry
from proxy.terms import Exchange, Obligation, Verdict
from tests.telemetry.samples import AT_MS, decision, exchange, hit
from tests.telemetry.test_otlp import collector


class Sink:
    """Takes exchanges as spans are made of them."""

    def __init__(self) -> None:
        self.dropped = 7
        self.taken: list[Exchange] = []
        self.closed = False

    def add(self, one: Exchange) -> None:
        """Keep it."""
        self.taken.append(one)

    def close(self, within_s: float) -> None:
        """Note it."""
        self.closed = True


def page(telemetry: Telemetry) -> dict[tuple[str, tuple[str, ...]], float]:
    """Render the page and read it back."""
    body, content_type = telemetry.render()
    assert "text/plain; version=0.0.4; charset=utf-8" == content_type
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_a_scrape_shows_everything_before_it() -> None:
    """Whatever was observed before the page was asked for is on it."""
    telemetry = Telemetry(TelemetrySettings(), None)
    for _ in range(3 * SLICE + 1):
        telemetry.observe(exchange())

    assert 3 * SLICE + 1 == page(telemetry)["handrail_requests_total", ("refunds", "complete", "2xx")]


def test_a_scrape_asks_whoever_knows() -> None:
    """Gauges that no exchange tells are asked for at the scrape."""
    telemetry = Telemetry(
        TelemetrySettings(
            in_flight=lambda: 4,
            records_pending=lambda: 5,
            ledger_away=lambda: True,
            conversations_away=lambda: True,
            tier_rows_pending=lambda: {"warm": 3},
            budget_unheld=lambda: 6,
            config_stale=lambda: True,
            records_unwritable=lambda: True,
            audit_unwritable=lambda: True,
            policy_digest=lambda: "abc",
        ),
        None,
    )
    seen = page(telemetry)

    asked = [
        f"handrail_{name}"
        for name in (
            "in_flight",
            "records_pending",
            "ledger_away",
            "conversations_away",
            "budget_unheld_total",
            "config_stale",
            "records_unwritable",
            "audit_unwritable",
        )
    ]
    assert [4, 5, 1, 1, 6, 1, 1, 1, 1] == [*(seen[name, ()] for name in asked), seen["handrail_policy_info", ("abc",)]]
    assert 1 == len([name for name, _ in seen if name == "handrail_build_info"])


def test_how_late_the_loop_is_shows_at_once() -> None:
    """It waits for no thread: whoever looks while the loop is late wants to see it."""
    telemetry = Telemetry(TelemetrySettings(), None)
    for seconds in (0.0005, 0.03, 0.03):
        telemetry.lagged(seconds)

    shown = page(telemetry)
    assert [1, 1, 3, 3] == [
        shown["handrail_loop_lag_seconds_bucket", (bound,)] for bound in ("0.001", "0.02", "0.05", "+Inf")
    ]


def test_nothing_is_asked_of_nobody() -> None:
    """Without callables the gauges say zero."""
    seen = page(Telemetry(TelemetrySettings(), None))

    assert [0, 0, 0] == [seen[f"handrail_{name}", ()] for name in ("in_flight", "records_pending", "config_stale")]


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    """A consumer that cannot keep up costs exchanges, never memory, and the page says how many."""
    telemetry = Telemetry(TelemetrySettings(queue=2), None)
    for _ in range(5):
        telemetry.observe(exchange())
    seen = page(telemetry)

    assert 2 == seen["handrail_requests_total", ("refunds", "complete", "2xx")]
    assert 3 == seen["handrail_telemetry_dropped_total", ("exchanges",)]


def test_rules_are_told_by_id() -> None:
    """The status page learns how often each rule matched and when it last did; what it gets is its own copy."""
    telemetry = Telemetry(TelemetrySettings(), None)
    telemetry.observe(exchange(decisions=(decision(verdict=Verdict.DENY, rules=(hit("a"), hit("b", error="e"))),)))
    telemetry.rules()["a"]["matched"] = 99

    expected = {
        "a": {"matched": 1, "errors": 0, "shadow": 0, "last_matched_ms": AT_MS},
        "b": {"matched": 0, "errors": 1, "shadow": 0, "last_matched_ms": 0},
    }
    assert expected == telemetry.rules()


def test_the_status_page_never_waits_for_a_scrape() -> None:
    """While a scrape is being put together, rules are told as they were a moment before."""
    scraping, told = threading.Event(), threading.Event()

    def slow() -> int:
        scraping.set()
        told.wait()
        return 0

    telemetry = Telemetry(TelemetrySettings(in_flight=slow), None)
    scrape = threading.Thread(target=telemetry.render)
    scrape.start()
    scraping.wait()
    telemetry.observe(exchange(decisions=(decision(rules=(hit("a"),)),)))
    during = telemetry.rules()
    told.set()
    scrape.join()

    assert ({}, ["a"]) == (during, list(telemetry.rules()))


def test_spans_are_made_of_what_is_counted() -> None:
    """Each exchange goes to the spans once, and what they lost is on the page."""
    sink = Sink()
    telemetry = Telemetry(TelemetrySettings(), sink)
    telemetry.observe(exchange())
    telemetry.drain()

    assert ([exchange()], 7) == (sink.taken, page(telemetry)["handrail_telemetry_dropped_total", ("spans",)])


def test_one_bad_exchange_does_not_end_the_counting(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug met in one exchange is said and counted, and the next exchange is counted as ever."""
    telemetry = Telemetry(TelemetrySettings(), None)
    telemetry.observe(cast(Exchange, object()))
    telemetry.observe(exchange())
    seen = page(telemetry)

    assert 1 == seen["handrail_requests_total", ("refunds", "complete", "2xx")]
    assert 1 == seen["handrail_telemetry_dropped_total", ("exchanges",)]
    assert '"event":"bug","error":"AttributeError"' in capsys.readouterr().err


def test_the_thread_works_through_what_is_observed() -> None:
    """Spans are made without anybody asking for a page, and at closing nothing is left behind."""
    with collector() as here, open_telemetry(TelemetrySettings(otlp_endpoint=here.url)) as telemetry:
        telemetry.observe(exchange())
        here.asked.wait()
        telemetry.observe(exchange(id="ex_2"))

    assert 6 == len(here.spans())


def test_observing_and_scraping_at_once_lose_nothing() -> None:
    """Threads that observe while others scrape: every exchange is counted exactly once."""

    def observe() -> None:
        for _ in range(500):
            telemetry.observe(exchange())

    def scrape() -> None:
        for _ in range(10):
            telemetry.render()

    with open_telemetry(TelemetrySettings()) as telemetry:
        threads = [threading.Thread(target=work) for work in (observe, observe, scrape, scrape)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 1_000 == page(telemetry)["handrail_requests_total", ("refunds", "complete", "2xx")]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for spans without the exporter says what to install, before anything is served."""
    missing = cast(Any, None)
    monkeypatch.setitem(sys.modules, "proxy.telemetry.otlp", missing)

    with (
        pytest.raises(ConfigError, match=r"telemetry\.otlp_endpoint: .*pip install 'handrail\[otlp\]'"),
        open_telemetry(TelemetrySettings(otlp_endpoint="http://127.0.0.1:1")),
    ):
        pass


def test_an_alert_is_a_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever watches the log reads which rule alerts, of which agent, and where to look it up."""
    telemetry = Telemetry(TelemetrySettings(), None)
    telemetry.observe(exchange(decisions=(decision(rule="p/a@1", obligations=(Obligation.ALERT,)), decision())))

    telemetry.drain()

    lines = [line for line in capsys.readouterr().err.splitlines() if '"alert"' in line]
    assert 1 == len(lines)
    assert '"decision":"ex_1-request","rule":"p/a@1","agent":"refunds"' in lines[0]
