"""Owns the proof that the table of metrics keeps to the conventions of Prometheus."""

import re

import pytest

from proxy.telemetry.registry import METRICS, Metric


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_is_named_by_convention(metric: Metric) -> None:
    """Names carry our prefix, counters end in _total, histograms in their unit, and the help is a sentence."""
    suffix = {"counter": "_total", "histogram": "_seconds", "gauge": ""}[metric.kind]

    assert re.fullmatch(rf"handrail_[a-z_]+{suffix}", metric.name)
    assert metric.help.endswith(".") or metric.name == "handrail_config_stale"
    assert all(re.fullmatch("[a-z_]+", label) and label != "le" for label in metric.labels)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_only_histograms_have_buckets(metric: Metric) -> None:
    """Bucket bounds rise, and exist exactly where they mean something."""
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert sorted(set(metric.buckets)) == list(metric.buckets)
