"""Owns the proof of what an exchange adds to every metric, and that nothing a caller sends can make them grow."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.registry import METRICS
from proxy.telemetry.tallies import MOST_AGENTS, MOST_RULES, MOST_SERIES, Labels, Names, Tallies
from proxy.terms import (
    Caller,
    Cost,
    Decision,
    Exchange,
    GuardResult,
    Level,
    Mode,
    Obligation,
    Phase,
    State,
    Target,
    Usage,
    Verdict,
)
from tests.telemetry.samples import AT_MS, FAST, attempt, decision, exchange, hit

ASKED: dict[str, dict[Labels, float]] = {
    "handrail_in_flight": {(): 3},
    "handrail_policy_info": {("abc",): 1},
}


def families(*exchanges: Exchange) -> list[Family]:
    """Count exchanges and return the metrics."""
    tallies = Tallies()
    for one in exchanges:
        tallies.add(one)
    return list(tallies.families(ASKED))


def samples(*exchanges: Exchange) -> dict[str, float]:
    """Count exchanges and return every sample as the exposition format shows it, read back by its own parser."""

    class Page:
        def collect(self) -> list[Family]:
            return families(*exchanges)

    text = generate_latest(Page()).decode()
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def check_counts(expected: dict[str, float], *exchanges: Exchange) -> None:
    """Compare some samples, and let all others be."""
    seen = samples(*exchanges)

    assert expected == {name: seen.get(name) for name in expected}


def test_a_call_is_counted_once_in_every_respect() -> None:
    """One finished call adds one request, one attempt, its tokens by kind, its cost and its decisions."""
    check_counts(
        {
            "handrail_requests_total{agent=refunds,state=complete,status=2xx}": 1,
            "handrail_decisions_total{phase=request,verdict=allow}": 1,
            "handrail_attempts_total{error=,provider=azure,state=complete,target=smart}": 1,
            "handrail_tokens_total{kind=input,target=smart}": 812,
            "handrail_tokens_total{kind=output,target=smart}": 164,
            "handrail_tokens_total{kind=cache_read,target=smart}": 512,
            "handrail_tokens_total{kind=reasoning,target=smart}": 64,
            "handrail_cost_usd_total{target=smart}": 0.531,
            "handrail_usage_total{doubt=,source=provider,target=smart}": 1,
        },
        exchange(),
    )


def test_a_candidates_differences_are_counted() -> None:
    """A call that a candidate was asked about counts once, and so does each decision that it would make otherwise."""
    would = decision(verdict=Verdict.DENY)
    check_counts(
        {
            "handrail_candidate_calls_total{agent=refunds}": 1,
            "handrail_candidate_differences_total{phase=request,verdict=allow,would=deny}": 1,
        },
        exchange(candidate=(would,), candidate_digest="d"),
        exchange(),
    )


def test_what_did_not_happen_is_not_there() -> None:
    """Zero tokens, a known price, no fallback and guards that ran leave no series behind."""
    seen = samples(exchange())

    absent = ("cache_write", "cost_unknown", "fallback", "guard_not_run_total{", "policy_errors_total{")
    assert [] == [name for name in seen if any(part in name for part in absent)]


def test_money_adds_up_exactly() -> None:
    """Nano-dollars are added as integers: ten thousand small costs lose nothing."""
    one = exchange(attempts=(attempt(cost=Cost(nanousd=100_000_001)),))

    check_counts({"handrail_cost_usd_total{target=smart}": 1000.00001}, *[one] * 10_000)


def test_an_unknown_price_is_not_zero() -> None:
    """An attempt whose price is not known is counted as such and adds no cost."""
    seen = samples(exchange(attempts=(attempt(cost=Cost(nanousd=None)),)))

    assert 1 == seen["handrail_cost_unknown_total{target=smart}"]
    assert "handrail_cost_usd_total{target=smart}" not in seen


def test_a_fallback_is_counted_where_it_fell_from() -> None:
    """Each attempt but the last is a fallback from its target, with the reason."""
    failed = attempt(state=State.FAULT, error="connect_timeout", usage=Usage(), target=FAST)
    check_counts(
        {
            "handrail_fallback_total{error=connect_timeout,target=fast}": 1,
            "handrail_attempts_total{error=connect_timeout,provider=local,state=fault,target=fast}": 1,
            "handrail_attempts_total{error=,provider=azure,state=complete,target=smart}": 1,
        },
        exchange(attempts=(failed, attempt(number=2))),
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "2xx"), (302, "3xx"), (429, "4xx"), (499, "4xx"), (504, "5xx"), (0, "none")],
)
def test_a_status_is_counted_by_its_class(status: int, expected: str) -> None:
    """Statuses are told by their hundreds, and a call that never had one as none."""
    name = f"handrail_requests_total{{agent=refunds,state=fault,status={expected}}}"

    check_counts({name: 1}, exchange(state=State.FAULT, status=status))


def test_rules_are_counted_by_what_they_did() -> None:
    """A rule that matched, one that only would have acted, and one that failed are three things."""
    rules = (
        hit("refunds/limit@1"),
        hit("refunds/limit@1"),
        hit("refunds/tone@2", mode=Mode.SHADOW),
        hit("refunds/broken@1", error="no such key"),
    )
    made = decision(verdict=Verdict.DENY, rules=rules, reason="rule")
    check_counts(
        {
            "handrail_decisions_total{phase=request,verdict=deny}": 1,
            "handrail_rule_matches_total{action=deny,mode=enforce,rule=refunds/limit@1}": 2,
            "handrail_rule_matches_total{action=deny,mode=shadow,rule=refunds/tone@2}": 1,
            "handrail_policy_errors_total{rule=refunds/broken@1}": 1,
        },
        exchange(decisions=(made,)),
    )


@pytest.mark.parametrize(
    "told",
    [decision(obligations=(Obligation.ALERT,), rule="p/a@1"), decision(Phase.POST, Verdict.ALERT, rule="p/a@1")],
    ids=["a rule says so", "a rule failed after the reply"],
)
def test_alerts_are_counted_by_their_rule(told: Decision) -> None:
    """What somebody wants to be told of has a metric of its own, whatever else was decided."""
    check_counts({"handrail_alerts_total{rule=p/a@1}": 1}, exchange(decisions=(told,)))


def test_a_rules_statistics_say_when_it_last_matched() -> None:
    """The latest match counts, whatever the order of arrival; a failure is no match."""
    tallies = Tallies()
    for at_ms, rule in (
        (AT_MS + 5, hit("a")),
        (AT_MS, hit("a", mode=Mode.SHADOW)),
        (AT_MS + 9, hit("a", error="failed")),
    ):
        tallies.add(exchange(started_ms=at_ms, decisions=(decision(rules=(rule,)),)))

    assert {"a": {"matched": 1, "errors": 1, "shadow": 1, "last_matched_ms": AT_MS + 5}} == tallies.rules


def test_a_budget_that_refuses_is_counted() -> None:
    """A call that a spend limit refused is counted once, however many decisions were made."""
    refused = decision(verdict=Verdict.DENY, reason="budget")

    check_counts({"handrail_budget_denied_total{agent=refunds}": 1}, exchange(decisions=(decision(), refused, refused)))


def test_a_providers_own_quota_is_not_our_budget() -> None:
    """A provider that says insufficient_quota did not meet a limit of ours."""
    failed = attempt(state=State.FAULT, error="insufficient_quota", status=429)
    seen = samples(exchange(state=State.FAULT, error="insufficient_quota", attempts=(failed,)))

    assert "handrail_budget_denied_total{agent=refunds}" not in seen


def test_a_guard_without_a_result_is_counted() -> None:
    """A guard that failed and one that did not run are told apart."""
    guards = (
        GuardResult(name="pii", version="1"),
        GuardResult(name="topics", version="1", ran=False),
        GuardResult(name="secrets", version="1", error="ValueError"),
    )
    check_counts(
        {
            "handrail_guard_not_run_total{guard=topics,reason=not_run}": 1,
            "handrail_guard_not_run_total{guard=secrets,reason=failed}": 1,
        },
        exchange(guards=guards),
    )


def test_durations_fall_into_their_buckets() -> None:
    """A bound is inclusive, buckets are cumulative, and overhead is what was not spent with providers."""
    check_counts(
        {
            "handrail_request_duration_seconds_bucket{le=0.5,stream=true}": 0,
            "handrail_request_duration_seconds_bucket{le=1.0,stream=true}": 1,
            "handrail_request_duration_seconds_bucket{le=+Inf,stream=true}": 2,
            "handrail_request_duration_seconds_count{stream=true}": 2,
            "handrail_request_duration_seconds_sum{stream=true}": 301.0,
            "handrail_time_to_first_byte_seconds_count{target=smart}": 2,
            "handrail_overhead_seconds_bucket{le=0.1}": 1,
            "handrail_overhead_seconds_bucket{le=0.05}": 0,
            "handrail_policy_seconds_sum{}": 0.004,
            "handrail_guard_seconds_sum{}": 0.022,
            "handrail_hold_seconds_sum{}": 0.0006,
        },
        exchange(),
        exchange(total_ms=300_000.0),
    )


def test_time_with_a_provider_never_makes_overhead_negative() -> None:
    """Rounding between clocks cannot turn a histogram's sum back."""
    check_counts({"handrail_overhead_seconds_sum{}": 0.0}, exchange(total_ms=899.9))


def test_a_call_without_an_attempt_has_no_first_byte() -> None:
    """A denied call is timed as a whole and waits for no provider."""
    seen = samples(exchange(attempts=(), ttft_ms=1.0, stream=False))

    assert 1 == seen["handrail_request_duration_seconds_count{stream=false}"]
    assert [] == [name for name in seen if "first_byte" in name and "}" in name]


def test_every_metric_of_the_registry_is_shown() -> None:
    """The page has exactly the families of the table, with their types and labels, and without a call already."""
    shown = {family.name if family.type != "counter" else f"{family.name}_total": family for family in families()}

    assert METRICS.keys() == shown.keys()
    assert {name: metric.kind for name, metric in METRICS.items()} == {
        name: family.type for name, family in shown.items()
    }


def test_labels_are_those_of_the_registry() -> None:
    """Every series has the labels that the table promises to dashboards."""
    failed = attempt(state=State.FAULT, error="x", cost=Cost(nanousd=None))
    made = decision(reason="budget", rules=(hit("a"), hit("b", error="e")))
    guards = (GuardResult(name="pii", version="1", ran=False),)
    for family in families(exchange(attempts=(failed, attempt()), decisions=(made,), guards=guards)):
        name = family.name if family.type != "counter" else f"{family.name}_total"
        for sample in family.samples:
            assert set(METRICS[name].labels) == set(sample.labels) - {"le"}, name


def test_what_is_asked_at_the_scrape_is_shown() -> None:
    """Gauges come from whoever knows them."""
    check_counts({"handrail_in_flight{}": 3, "handrail_policy_info{digest=abc}": 1}, exchange())


def test_names_are_bounded() -> None:
    """Values that are known stay; once there are enough, new ones are `other`."""
    names = Names(2)

    assert ["a", "b", "other", "a", "other"] == [names.get(value) for value in ("a", "b", "c", "a", "d")]


def test_a_flood_of_names_stays_small() -> None:
    """Ten thousand agents, targets, models, errors and rules make no more series than a server likes."""
    flood = [
        exchange(
            caller=Caller(agent=f"agent-{number}", level=Level.ASSIST, principal="key"),
            attempts=(
                attempt(
                    target=Target(alias=f"t{number}", provider=f"p{number % 97}", model="m"),
                    error=f"e{number % 211}",
                    state=list(State)[number % 6],
                ),
            ),
            decisions=(decision(Phase.RESPONSE, rules=(hit(f"rule-{number}"),)),),
        )
        for number in range(10_000)
    ]
    series: dict[str, int] = {}
    for name in samples(*flood):
        series[name.partition("{")[0]] = series.get(name.partition("{")[0], 0) + 1

    assert MOST_AGENTS + 1 == series["handrail_requests_total"]
    assert MOST_RULES + 1 == series["handrail_rule_matches_total"]
    assert MOST_SERIES + 1 == series["handrail_attempts_total"]
    assert max(series.values()) <= 14 * 101
