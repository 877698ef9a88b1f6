"""Owns the proof of proxy/config/settings.py: every key changes something."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy import config
from proxy.snapshot import Limits, Snapshot
from proxy.terms import Level, Target
from tests.config.written import ASK, BASE, MILLION, MODEL_PRICE, UNKNOWN, build, changed, cost, sent

SCHEMA = json.loads((Path(config.__file__).with_name("config.schema.json")).read_text())

Look = Callable[[Snapshot], object]
KEYS: dict[str, tuple[object, Look, object, object]] = {
    "agent.id": ("web", lambda s: s.identify(ASK, 0).agent, "agent", "web"),
    "agent.level": ("assist", lambda s: s.identify(ASK, 0).level, Level.EXECUTE, Level.ASSIST),
    "agent.tenant": ("acme", lambda s: s.identify(ASK, 0).tenant, "", "acme"),
    "providers.one.base_url": (
        "http://127.0.0.1:9/v2",
        lambda s: sent(s).url,
        "http://127.0.0.1:1/v1/chat/completions",
        "http://127.0.0.1:9/v2/chat/completions",
    ),
    "providers.one.dialect": (
        "simulated",
        lambda s: sent(s).url,
        "http://127.0.0.1:1/v1/chat/completions",
        "http://127.0.0.1:1/v1/chat/completions",
    ),
    "providers.one.api_key_env": (
        "KEY",
        lambda s: sent(s).auth and sent(s).auth.reveal(),
        None,
        "Bearer sk-1",
    ),
    "providers.one.headers": ({"x-team": "a"}, lambda s: sent(s).headers.get("x-team"), None, "a"),
    "providers.one.prices": (
        "openai",
        lambda s: cost(s, Target(alias="n", provider="one", model="gpt-4o"), input_tokens=MILLION) is not None,
        False,
        True,
    ),
    "models.large.model": ("gpt-x", lambda s: s.table.targets["large"].model, "large", "gpt-x"),
    "models.large.tags": (["tools"], lambda s: s.table.targets["large"].tags, (), ("tools",)),
    "models.large.context": (9, lambda s: s.table.targets["large"].context, 0, 9),
    "models.large.max_output": (9, lambda s: s.table.targets["large"].max_output, 0, 9),
    "models.large.price": (
        {"input_usd_per_mtok": "0.5", "output_usd_per_mtok": 1},
        lambda s: cost(s, s.table.targets["large"], input_tokens=MILLION),
        2 * 10**9,
        5 * 10**8,
    ),
    "pools": ({"both": ["large"]}, lambda s: len(s.table.expand("both")), 0, 1),
    "default_model": ("large", lambda s: s.table.default_model, "", "large"),
    "default_provider": ("one", lambda s: s.table.asked("new")[0].provider, "one", "one"),
    "unlisted_models": ("deny", lambda s: s.table.unlisted, "pass", "deny"),
    "unknown_price": ("mark", lambda s: s.unknown_price, "deny", "mark"),
    "prices": (
        {"one/new": MODEL_PRICE},
        lambda s: cost(s, UNKNOWN, output_tokens=MILLION),
        None,
        10 * 10**9,
    ),
}
LIMITS = dict.fromkeys(Limits.__struct_fields__, 7) | {
    "max_body_bytes": 2048,
    "max_body_parts": 200,
    "max_reply_bytes": 2048,
    "max_attempts": 2,
}


@pytest.mark.parametrize("key", KEYS)
def test_key_changes_behaviour(key: str) -> None:
    """Setting the key changes what the compiled configuration does."""
    value, look, before, after = KEYS[key]

    assert (before, after) == (look(build(BASE)), look(build(changed(key, value))))


@pytest.mark.parametrize("name", LIMITS)
def test_limit_reaches_the_walk(name: str) -> None:
    """Each limit is taken over; what it does is proven where it acts."""
    assert LIMITS[name] == getattr(build(changed(f"limits.{name}", LIMITS[name])).limits, name)


PROVEN_ELSEWHERE = {
    "listen": "tests/app/test_doors.py::test_three_listeners",
    "health_listen": "tests/app/test_doors.py::test_three_listeners",
    "admin_listen": "tests/app/test_doors.py::test_three_listeners",
    "admin_token_file": "tests/app/test_files.py::test_admin_token_file",
    "socket_mode": "tests/app/test_doors.py::test_the_socket_s_mode_says_who_may_connect",
    **dict.fromkeys(
        (f"auth.jwt.{key}" for key in ("issuer", "audience", "algorithms", "leeway_s", "subjects")),
        "tests/config/test_access.py::test_key_changes_who_is_let_in",
    ),
    "auth.jwt.claims": "tests/config/test_access.py::test_a_subject_is_what_config_says",
    "auth.jwt.jwks_file": "tests/config/test_access.py::test_a_subject_is_what_config_says",
    "auth.jwt.jwks_url": "tests/app/test_starting.py::test_tokens_open_by_keys_that_are_fetched",
    "auth.jwt.jwks_ca_file": "tests/test_credentials.py::test_the_server_has_to_prove_itself",
    "auth.jwt.jwks_token_file": "tests/test_credentials.py::test_the_token_for_the_server_is_read_each_time",
    **dict.fromkeys(
        ("auth.jwt.jwks_refresh_s", "auth.jwt.jwks_max_age_s"),
        "tests/test_credentials.py::test_a_set_is_fetched_when_it_is_due",
    ),
    "auth.peers": "tests/config/test_building.py::test_peers_are_users_of_this_machine",
    "auth.keys_file": "tests/config/test_building.py::test_keys_are_asked_for",
    "providers.*.api_key_file": "tests/config/test_building.py::test_a_key_file_is_read",
    "providers.*.options": "tests/config/test_building.py::test_a_dialect_has_options_of_its_own",
    "models.*.provider": "tests/config/test_reading.py::test_mistakes_are_told_with_their_place",
    "policies": "tests/config/test_policies.py::test_policies_are_found",
    "candidate.policies": "tests/config/test_policies.py::test_a_candidate_stands_beside_what_serves",
    "kill_switch": "tests/config/test_policies.py::test_what_the_kill_switch_lists_is_stopped",
    "state.path": "tests/app/test_starting.py::test_state_path",
    "state.keep_days": "tests/app/test_upkeep.py::test_old_records_are_deleted",
    "state.durability": "tests/app/test_pages.py::test_what_records_survive",
    "state.keep_facts_days": "tests/app/test_upkeep.py::test_old_records_are_deleted",
    "state.customer_key_file": "tests/app/test_files.py::test_handrails_that_share_a_key_know_a_customer_as_the_same",
    "state.content_key_file": "tests/app/test_files.py::test_content_is_sealed_where_a_key_is_named",
    **dict.fromkeys(
        ("handoff.url", "handoff.secret_file", "handoff.timeout_s"),
        "tests/app/test_starting.py::test_a_packet_reaches_the_webhook",
    ),
    **dict.fromkeys(
        ("audit.path", "audit.key_file", "audit.anchor.path"), "tests/e2e/test_audit.py::test_places_can_be_named"
    ),
    "audit.anchor.url": "tests/e2e/test_audit.py::test_checkpoints_are_sent_to_where_they_are_kept",
    "audit.required": "tests/e2e/test_audit.py::test_where_it_is_required_nothing_goes_unlogged",
    **dict.fromkeys(
        ("budgets.redis.url", "budgets.redis.password_file", "budgets.redis.ledger"),
        "tests/app/test_starting.py::test_two_hosts_share_a_limit",
    ),
    "budgets.redis.password_env": "tests/app/test_starting.py"
    "::test_the_ledger_s_password_can_come_from_the_environment",
    **dict.fromkeys(
        ("budgets.redis.on_outage", "budgets.redis.timeout_ms"),
        "tests/app/test_starting.py::test_a_ledger_that_is_away",
    ),
    **dict.fromkeys(
        ("tiers.hot.redis.url", "tiers.hot.redis.password_file", "tiers.hot.redis.name"),
        "tests/app/test_starting.py::test_two_hosts_share_conversations",
    ),
    **dict.fromkeys(
        ("tiers.hot.redis.password_env", "tiers.hot.redis.timeout_ms"),
        "tests/app/test_starting.py::test_conversations_that_are_away",
    ),
    **dict.fromkeys(
        ("tiers.warm.postgres.url", "tiers.warm.postgres.password_file"),
        "tests/app/test_tiers.py::test_calls_reach_the_warm_tier",
    ),
    "tiers.warm.postgres.password_env": "tests/app/test_tiers.py::test_the_password_can_come_from_the_environment",
    "tiers.warm.keep_days": "tests/app/test_tiers.py::test_the_warm_tier_keeps_as_long_as_it_says",
    **dict.fromkeys(
        ("tiers.cold.url", "tiers.cold.every_s"), "tests/app/test_tiers.py::test_calls_reach_the_cold_tier"
    ),
    **dict.fromkeys(
        ("tiers.cold.endpoint", "tiers.cold.region", "tiers.cold.account"),
        "tests/app/test_tiers.py::test_where_a_cloud_is",
    ),
    "tiers.cold.keep_days": "tests/app/test_tiers.py::test_the_cold_tier_deletes_whole_days",
    "telemetry.otlp_endpoint": "tests/app/test_starting.py::test_spans_are_sent",
    "telemetry.sample": "tests/app/test_starting.py::test_spans_are_sent",
    "telemetry.log_level": "tests/app/test_starting.py::test_log_level",
    **dict.fromkeys(
        (f"limits.{name}" for name in LIMITS), "tests/config/test_settings.py::test_limit_reaches_the_walk"
    ),
}


def keys_of(schema: dict[str, Any], path: str = "") -> set[str]:
    """Return the path of every key that a schema accepts; `*` stands for a name that the user chooses."""
    if "$ref" in schema or schema.get("type") != "object":
        return {path}
    found = {name: f"{path}.{name}".lstrip(".") for name in schema.get("properties", {})}
    keys = {key for name, below in found.items() for key in keys_of(schema["properties"][name], below)}
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and more.get("type") == "object":
        return keys | keys_of(more, f"{path}.*")
    return keys or {path}


def test_every_key_has_its_proof() -> None:
    """The schema's keys are exactly those of the two tables: a key that changes nothing is not accepted."""
    tested = {key.replace(".one.", ".*.").replace(".large.", ".*.") for key in KEYS} | set(PROVEN_ELSEWHERE)

    assert (set(), set()) == (keys_of(SCHEMA) - tested, tested - keys_of(SCHEMA))
