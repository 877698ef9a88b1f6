"""Owns the table of metrics: every name, type and label that dashboards and alerts may rely on."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric family."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds in seconds, without +Inf; histograms only."""


WHOLE_CALL: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
LATE: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
OUR_PART: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=f"handrail_{name}", kind="counter", help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=f"handrail_{name}", kind="gauge", help=text, labels=labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name=f"handrail_{name}", kind="histogram", help=text, labels=labels, buckets=buckets)


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        _counter("requests_total", "Finished calls, by HTTP status class.", "agent", "state", "status"),
        _counter("decisions_total", "Decisions of policy.", "phase", "verdict"),
        _counter("candidate_calls_total", "Calls that a candidate was asked about.", "agent"),
        _counter(
            "candidate_differences_total",
            "Decisions that a candidate would make otherwise.",
            "phase",
            "verdict",
            "would",
        ),
        _counter("rule_matches_total", "Rules that matched, in whichever mode.", "rule", "action", "mode"),
        _counter("alerts_total", "Decisions that somebody wants to be told of.", "rule"),
        _counter("policy_errors_total", "Rules whose evaluation failed; their onError answered.", "rule"),
        _counter("guard_not_run_total", "Guards that a rule needed and that gave no result.", "guard", "reason"),
        _counter("budget_denied_total", "Calls refused because a spend limit had no room.", "agent"),
        _counter("attempts_total", "Calls to providers, by how they ended.", "target", "provider", "state", "error"),
        _counter("fallback_total", "Attempts that were followed by another target's.", "target", "error"),
        _counter("tokens_total", "Tokens; input includes cached, output includes reasoning.", "kind", "target"),
        _counter(
            "usage_total",
            "Attempts, by who counted their tokens and what is wrong with that.",
            "target",
            "source",
            "doubt",
        ),
        _counter("cost_usd_total", "Cost of all attempts whose price is known.", "target"),
        _counter("cost_unknown_total", "Attempts whose price is not known.", "target"),
        _histogram("request_duration_seconds", "From the request read to the reply ended.", WHOLE_CALL, "stream"),
        _histogram(
            "time_to_first_byte_seconds", "From the request read to the first byte of the reply.", WHOLE_CALL, "target"
        ),
        _histogram("overhead_seconds", "Part of a call that was not spent with providers.", OUR_PART),
        _histogram("policy_seconds", "Time of a call spent in policy.", OUR_PART),
        _histogram("guard_seconds", "Time of a call spent in guards.", OUR_PART),
        _histogram("hold_seconds", "How long finished bytes waited for a decision.", OUR_PART),
        _histogram("loop_lag_seconds", "How late the main loop comes to what is due.", LATE),
        _gauge("in_flight", "Calls being handled now."),
        _gauge("records_pending", "Records that are not on disk yet."),
        _gauge("tier_rows_pending", "Records that are on disk and not in this tier yet.", "tier"),
        _gauge("ledger_away", "1 while the ledger that replicas share cannot be asked."),
        _gauge("conversations_away", "1 while the conversations that replicas share cannot be asked for."),
        _counter("budget_unheld_total", "Calls that went on without their spend limits while the ledger was away."),
        _gauge("config_stale", "1 while the newest configuration was refused and an older one is in force."),
        _gauge("records_unwritable", "1 while records cannot be written: the disk is full, or fails."),
        _gauge("audit_unwritable", "1 while the audit log cannot be written."),
        _gauge("policy_info", "The policies in force, by the digest of their bundle.", "digest"),
        _gauge("build_info", "What is running.", "version", "python"),
        _counter("telemetry_dropped_total", "Exchanges, spans and log lines that were given up.", "sink"),
    )
}
"""All metric families by name, in the order in which they are shown."""
