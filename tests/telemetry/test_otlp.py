"""Owns the proof that spans reach a real OTLP/HTTP collector, and that a bad one costs spans and nothing else."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from proxy.telemetry.otlp import BATCH, ROOM, Spans, sampled
from proxy.tracing import trace_id_for
from tests.telemetry.samples import exchange

LOW, HIGH = "0" * 32, "f" * 32


class Collector:
    """An OTLP/HTTP receiver on this machine that keeps what it got, or answers as it is told."""

    def __init__(self, status: int) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.asked.set()
                collector.may_answer.wait()
                if self.path == "/v1/traces" and status == 200:
                    collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Span]:
        """Return all spans of all requests."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collector(status: int = 200) -> Iterator[Collector]:
    """Run a collector."""
    here = Collector(status)
    thread = threading.Thread(target=here.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield here
    finally:
        here.may_answer.set()
        here.server.shutdown()
        thread.join()
        here.server.server_close()


def test_a_collector_gets_the_trace_of_a_call() -> None:
    """Closing sends what waits: ids, times, kinds, attributes and the resource arrive as they were made."""
    with collector() as here:
        spans = Spans(here.url, 1.0)
        spans.add(exchange())
        spans.close(10.0)

    (request,) = here.requests
    resource = {item.key: item.value.string_value for item in request.resource_spans[0].resource.attributes}
    seen = {span.name: span for span in here.spans()}
    assert "handrail" == resource["service.name"]
    assert {"chat smart", "policy request", "attempt azure"} == set(seen)
    assert "4bf92f3577b34da6a3ce929d0e0e4736" == seen["chat smart"].trace_id.hex()
    assert seen["chat smart"].span_id == seen["attempt azure"].parent_span_id
    assert Span.SPAN_KIND_CLIENT == seen["attempt azure"].kind
    assert 1_000_000_000 == seen["chat smart"].end_time_unix_nano - seen["chat smart"].start_time_unix_nano
    tokens = {item.key: item.value.int_value for item in seen["chat smart"].attributes}
    assert 812 == tokens["gen_ai.usage.input_tokens"]


def test_a_full_batch_is_sent_without_waiting() -> None:
    """As soon as a batch is full it leaves, and none is larger than a batch."""
    with collector() as here:
        spans = Spans(f"{here.url}/", 1.0)
        for _ in range(BATCH):
            spans.add(exchange())
        here.asked.wait()
        spans.close(10.0)

    sizes = [len(scope.spans) for request in here.requests for scope in request.resource_spans[0].scope_spans]
    assert (3 * BATCH, True) == (sum(sizes), max(sizes) <= BATCH)


def test_a_full_address_is_taken_as_it_is() -> None:
    """An endpoint that already names the traces signal is not extended."""
    with collector() as here:
        spans = Spans(f"{here.url}/v1/traces", 1.0)
        spans.add(exchange())
        spans.close(10.0)

    assert 3 == len(here.spans())


def test_what_is_not_sampled_is_not_made() -> None:
    """A trace outside the share leaves no span, and is no loss."""
    with collector() as here:
        spans = Spans(here.url, 0.5)
        spans.add(exchange(trace_id=LOW))
        spans.add(exchange(trace_id=HIGH))
        spans.close(10.0)

    assert ({LOW}, 0) == ({span.trace_id.hex() for span in here.spans()}, spans.dropped)


def test_a_refusal_costs_the_batch() -> None:
    """Spans that the collector will not have are counted as dropped."""
    with collector(status=400) as here:
        spans = Spans(here.url, 1.0)
        spans.add(exchange())
        spans.close(10.0)

    assert 3 == spans.dropped


def test_a_slow_collector_costs_spans_beyond_the_bound() -> None:
    """While the collector takes its time, spans wait up to a bound; beyond it whole traces are dropped and counted,
    and closing does not wait longer than it was told."""
    with collector() as here:
        here.may_answer.clear()
        spans = Spans(here.url, 1.0)
        while not here.asked.is_set():
            spans.add(exchange())
        for _ in range(ROOM):
            spans.add(exchange())
        spans.close(0.05)

        assert spans.dropped >= ROOM
        assert 0 == spans.dropped % 3


def test_a_dead_collector_does_not_hold_up_the_end() -> None:
    """With nobody there, closing gives up within the time it was given, in the middle of a retry."""
    with collector() as gone:
        pass
    spans = Spans(gone.url, 1.0)
    spans.add(exchange())
    spans.close(0.2)

    assert 3 == settled(spans)


def settled(spans: Spans) -> int:
    """Return how many spans were dropped, once some were."""
    for _ in range(500):
        if spans.dropped:
            break
        time.sleep(0.02)
    return spans.dropped


@pytest.mark.parametrize(
    ("trace", "share", "expected"),
    [
        pytest.param(LOW, 0.0, False, id="none of the lowest"),
        pytest.param(HIGH, 1.0, True, id="all of the highest"),
        pytest.param(LOW, 0.001, True, id="a small share begins low"),
        pytest.param(HIGH, 0.999, False, id="and ends below the highest"),
        pytest.param("f" * 16 + "0" * 16, 0.1, True, id="by the low bits"),
    ],
)
def test_the_share_is_decided_by_trace(trace: str, share: float, expected: bool) -> None:
    """The low 64 bits of the trace id decide, as in every other process of the trace."""
    assert expected == sampled(trace, share)


@given(share=st.floats(0.05, 0.95))
def test_the_share_is_kept(share: float) -> None:
    """Of many traces about the configured share is sampled."""
    taken = sum(sampled(trace_id_for(str(number)), share) for number in range(2_000))

    assert abs(taken / 2_000 - share) < 0.06
