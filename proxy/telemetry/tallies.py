"""Owns the counting: what one finished exchange adds to every metric and to its rules' statistics.

Plain dictionaries, because a label lookup of the client library costs ten times as much; every label is bounded, so
that no caller can make the process, or the server that scrapes it, grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final, TypedDict

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from proxy.recording import changes
from proxy.telemetry.registry import METRICS, Metric
from proxy.terms import Attempt, Decision, Exchange, GuardResult, Mode, Obligation, RuleHit, Verdict

OTHER: Final = "other"
MOST_AGENTS: Final = 100
MOST_RULES: Final = 500
MOST_TARGETS: Final = 100
MOST_ERRORS: Final = 50
MOST_SERIES: Final = 1_000
"""Of one metric. Labels are bounded one by one, and this bounds what they make together."""

NANO: Final = 1_000_000_000

Labels = tuple[str, ...]
Asked = Mapping[str, Mapping[Labels, float]]
"""Values that are asked for at the scrape instead of counted, by metric and labels."""


_FAMILIES: Final = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def alerts(decision: Decision) -> bool:
    """Say whether somebody is to be told of a decision: a rule says so, or one failed after the reply."""
    return decision.verdict is Verdict.ALERT or Obligation.ALERT in decision.obligations


class RuleCounts(TypedDict):
    """How often a rule acted, failed, or would have acted, since the start; `last_matched_ms` is wall-clock time."""

    matched: int
    errors: int
    shadow: int
    last_matched_ms: int


class Names:
    """Label values of one kind: once `limit` different ones are known, every new one is `other`."""

    def __init__(self, limit: int) -> None:
        self._known: dict[str, str] = {}
        self._limit = limit

    def get(self, value: str) -> str:
        """Return the value to use as a label."""
        if value not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known[value] = value
        return value


class Spread:
    """One histogram series: how many values fell into each bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, metric: Metric) -> None:
        self.counts = [0] * (len(metric.buckets) + 1)
        self.total = 0.0


class Tallies:
    """All counters since the start."""

    def __init__(self) -> None:
        self._agents = Names(MOST_AGENTS)
        self._rules = Names(MOST_RULES)
        self._guards = Names(MOST_RULES)
        self._targets = Names(MOST_TARGETS)
        self._providers = Names(MOST_TARGETS)
        self._errors = Names(MOST_ERRORS)
        self._counts: dict[str, dict[Labels, int]] = {
            name: ({} if metric.labels else {(): 0}) for name, metric in METRICS.items() if metric.kind == "counter"
        }
        self._spreads: dict[str, dict[Labels, Spread]] = {
            name: ({} if metric.labels else {(): Spread(metric)})
            for name, metric in METRICS.items()
            if metric.kind == "histogram"
        }
        self.rules: dict[str, RuleCounts] = {}

    def add(self, exchange: Exchange) -> None:
        """Count one finished exchange."""
        agent = self._agents.get(exchange.caller.agent)
        self.count("handrail_requests_total", (agent, exchange.state, _status_class(exchange.status)))
        for decision in exchange.decisions:
            self._decision(decision, exchange.started_ms)
        if exchange.candidate_digest:
            self.count("handrail_candidate_calls_total", (agent,))
        for before, after in changes(exchange):
            self.count("handrail_candidate_differences_total", (after.phase, before.verdict, after.verdict))
        for guard in exchange.guards:
            self._guard(guard)
        for attempt in exchange.attempts:
            self._attempt(attempt)
        for failed in exchange.attempts[:-1]:
            labels = (self._targets.get(failed.target.alias), self._errors.get(failed.error))
            self.count("handrail_fallback_total", labels)
        if any(decision.reason == "budget" for decision in exchange.decisions):
            self.count("handrail_budget_denied_total", (agent,))
        self._durations(exchange)

    def _decision(self, decision: Decision, at_ms: int) -> None:
        self.count("handrail_decisions_total", (decision.phase, decision.verdict))
        if alerts(decision):
            self.count("handrail_alerts_total", (self._rules.get(decision.rule),))
        for hit in decision.rules:
            self._rule(hit, at_ms)

    def _rule(self, hit: RuleHit, at_ms: int) -> None:
        rule = self._rules.get(hit.id)
        counts = self.rules.setdefault(rule, {"matched": 0, "errors": 0, "shadow": 0, "last_matched_ms": 0})
        if hit.error:
            counts["errors"] += 1
            self.count("handrail_policy_errors_total", (rule,))
            return
        counts["shadow" if hit.mode is Mode.SHADOW else "matched"] += 1
        counts["last_matched_ms"] = max(counts["last_matched_ms"], at_ms)
        self.count("handrail_rule_matches_total", (rule, hit.action, hit.mode))

    def _guard(self, guard: GuardResult) -> None:
        if guard.error or not guard.ran:
            labels = (self._guards.get(guard.name), "failed" if guard.error else "not_run")
            self.count("handrail_guard_not_run_total", labels)

    def _attempt(self, attempt: Attempt) -> None:
        target, usage = self._targets.get(attempt.target.alias), attempt.usage
        provider = self._providers.get(attempt.target.provider)
        labels = (target, provider, attempt.state, self._errors.get(attempt.error))
        self.count("handrail_attempts_total", labels)
        for kind, tokens in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cache_read", usage.cache_read_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                self.count("handrail_tokens_total", (kind, target), tokens)
        self.count("handrail_usage_total", (target, usage.source, usage.doubt))
        if attempt.cost.nanousd is None:
            self.count("handrail_cost_unknown_total", (target,))
        else:
            self.count("handrail_cost_usd_total", (target,), attempt.cost.nanousd)

    def _durations(self, exchange: Exchange) -> None:
        with_providers = sum(attempt.total_ms for attempt in exchange.attempts)
        stream = "true" if exchange.stream else "false"
        if exchange.ttft_ms and exchange.attempts:
            target = self._targets.get(exchange.attempts[-1].target.alias)
            self.spread("handrail_time_to_first_byte_seconds", (target,), exchange.ttft_ms)
        self.spread("handrail_request_duration_seconds", (stream,), exchange.total_ms)
        self.spread("handrail_overhead_seconds", (), max(0.0, exchange.total_ms - with_providers))
        self.spread("handrail_policy_seconds", (), exchange.policy_ms)
        self.spread("handrail_guard_seconds", (), exchange.guard_ms)
        self.spread("handrail_hold_seconds", (), exchange.hold_ms)

    def count(self, name: str, labels: Labels, by: int = 1) -> None:
        """Add to a counter; money is counted in nano-dollars and shown in dollars."""
        series = self._counts[name]
        if labels not in series and len(series) >= MOST_SERIES:
            labels = (OTHER,) * len(labels)
        series[labels] = series.get(labels, 0) + by

    def spread(self, name: str, labels: Labels, ms: float) -> None:
        """Add a duration to a histogram."""
        series, metric = self._spreads[name], METRICS[name]
        if labels not in series:
            series[labels] = Spread(metric)
        seconds = ms / 1000
        spread = series[labels]
        spread.counts[bisect_left(metric.buckets, seconds)] += 1
        spread.total += seconds

    def families(self, asked: Asked) -> Iterator[Family]:
        """Yield every metric of the registry."""
        for metric in METRICS.values():
            if metric.kind == "histogram":
                yield self._histogram(metric)
            else:
                family = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
                unit = NANO if metric.name == "handrail_cost_usd_total" else 1
                for labels, value in asked.get(metric.name, self._counts.get(metric.name, {})).items():
                    family.add_metric(labels, value / unit)
                yield family

    def _histogram(self, metric: Metric) -> Family:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = (*(str(bound) for bound in metric.buckets), "+Inf")
        for labels, spread in self._spreads[metric.name].items():
            family.add_metric(labels, list(zip(bounds, accumulate(spread.counts), strict=True)), spread.total)
        return family


def _status_class(status: int) -> str:
    return f"{status // 100}xx" if status else "none"
