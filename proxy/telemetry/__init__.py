"""Owns what Handrail tells about itself: metrics, spans and diagnostic lines, all made off the hot path.

In: finished Exchanges and events. Out: a metrics page, OTLP spans, JSON lines. Never: content, a wait, a decision.
"""

from proxy.telemetry.consumer import Telemetry, TelemetrySettings, open_telemetry
from proxy.telemetry.log import log, open_log
from proxy.telemetry.registry import METRICS, Metric
from proxy.telemetry.tallies import RuleCounts

__all__ = [
    "METRICS",
    "Metric",
    "RuleCounts",
    "Telemetry",
    "TelemetrySettings",
    "log",
    "open_log",
    "open_telemetry",
]
