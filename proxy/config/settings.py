"""Owns what `handrail.yaml` can say: its keys, as written, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from proxy.identity import Grant
from proxy.routing import Unlisted
from proxy.snapshot import Limits
from proxy.terms import Level


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AgentSection(_Section, frozen=True, kw_only=True):
    """Which agent this Handrail stands beside."""

    id: str = "agent"
    level: Level = Level.EXECUTE
    tenant: str = ""


class ProviderSection(_Section, frozen=True, kw_only=True):
    """One provider; `prices` names the price book where the base URL does not give it away."""

    dialect: str
    base_url: str = ""
    api_key_env: str = ""
    api_key_file: str = ""
    prices: str = ""
    headers: Mapping[str, str] = {}
    options: Mapping[str, str | int | float | bool] = {}
    """What only this dialect has, such as a region; each file in `providers/` declares its own."""


class ModelSection(_Section, frozen=True, kw_only=True):
    """One alias that agents may ask for."""

    provider: str
    model: str = ""
    tags: tuple[str, ...] = ()
    context: int = 0
    max_output: int = 0
    price: Mapping[str, str | float] = {}


class CeilingSection(_Section, frozen=True, kw_only=True):
    """What to take a model to cost whose price is not known."""

    ceiling: Mapping[str, str | float]


class PeerSection(Grant, frozen=True, kw_only=True):
    """A user of this machine who may call by the Unix socket, by number or name."""

    name: str
    uid: int | None = None
    user: str = ""


class JwtSection(_Section, frozen=True, kw_only=True):
    """The issuer whose tokens open, where its keys are, and what is read from its tokens."""

    issuer: str
    audience: str
    jwks_file: str = ""
    jwks_url: str = ""
    jwks_ca_file: str = ""
    """Who vouches for the server at that URL; empty: whom the system trusts."""
    jwks_token_file: str = ""
    """What that server wants to be shown."""
    jwks_refresh_s: float = 300.0
    jwks_max_age_s: float = 86400.0
    """How old the keys may be, where no newer ones can be had."""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    claims: Mapping[str, str] = {}
    subjects: Mapping[str, Grant] = {}
    leeway_s: float = 60.0


class AuthSection(_Section, frozen=True, kw_only=True):
    """Who may call: whoever shows one of these."""

    keys_file: str = ""
    peers: tuple[PeerSection, ...] = ()
    jwt: JwtSection | None = None


class StateSection(_Section, frozen=True, kw_only=True):
    """Where records and budgets are kept, and for how long."""

    path: str = ".handrail/handrail.sqlite"
    keep_days: float | None = None
    """For how long records are kept; None: for ever."""
    keep_facts_days: float = 30.0
    """For how long is kept what rules asked to record of a call, and never longer than the records."""
    content_key_file: str = ""
    """Keys that content is sealed with, newest first; without it content stands as it is."""
    customer_key_file: str = ""
    """With which customers are told from each other; without it `customer.key` beside the records."""
    durability: Literal["process", "disk"] = "process"
    """What a call that was sent has on record: after `kill -9`, or also after a power cut; see `Config.durability`."""


class CandidateSection(_Section, frozen=True, kw_only=True):
    """Policies that are asked beside those in force, and never act."""

    policies: tuple[str, ...]


class RedisSection(_Section, frozen=True, kw_only=True):
    """The Redis in which replicas share their spend limits, and what to do while it is away."""

    url: str
    password_env: str = ""
    password_file: str = ""
    ledger: str = "default"
    """Replicas with the same ledger share their limits."""
    timeout_ms: int = 50
    on_outage: Literal["closed", "slice", "open"] = "slice"


class BudgetsSection(_Section, frozen=True, kw_only=True):
    """Where spend limits are held; without it in `state.path`, for the processes of one host."""

    redis: RedisSection


class ConversationsSection(_Section, frozen=True, kw_only=True):
    """The Redis in which replicas share conversations, and what waits for a human in them."""

    url: str
    password_env: str = ""
    password_file: str = ""
    name: str = "default"
    """Replicas with the same name share their conversations."""
    timeout_ms: int = 250


class HotSection(_Section, frozen=True, kw_only=True):
    """Where conversations are that go on; without it in `state.path`, for the processes of one host."""

    redis: ConversationsSection


class PostgresSection(_Section, frozen=True, kw_only=True):
    """A PostgreSQL database; the password stands beside the address, never in it."""

    url: str
    password_env: str = ""
    password_file: str = ""


class WarmSection(_Section, frozen=True, kw_only=True):
    """Where records can be asked for longer than on the machine that wrote them, and for how long."""

    postgres: PostgresSection
    keep_days: float | None = None
    """None: for ever."""


class ColdSection(_Section, frozen=True, kw_only=True):
    """Where records are kept for long, as Parquet objects, and how often what is new is written there."""

    url: str
    endpoint: str = ""
    region: str = ""
    account: str = ""
    every_s: float = 300.0
    keep_days: float | None = None
    """None: for ever."""


class TiersSection(_Section, frozen=True, kw_only=True):
    """Where else than in `state.path` things are kept."""

    hot: HotSection | None = None
    warm: WarmSection | None = None
    cold: ColdSection | None = None


class TelemetrySection(_Section, frozen=True, kw_only=True):
    """Where spans go, how many, and how much is logged."""

    otlp_endpoint: str = ""
    sample: float = 1.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class HandoffSection(_Section, frozen=True, kw_only=True):
    """Where packets for humans go; with a secret they are signed."""

    url: str
    secret_file: str
    timeout_s: float = 10.0


class AnchorSection(_Section, frozen=True, kw_only=True):
    """Where else the audit log's checkpoints go: out of reach of whoever can change the log."""

    path: str = ""
    url: str = ""


class AuditSection(_Section, frozen=True, kw_only=True):
    """The log that shows when it was changed."""

    path: str = ""
    """Its folder; without it, `audit` beside the records."""
    key_file: str = ""
    """The private key; without it, `audit.key` beside the records, made at the first start."""
    anchor: AnchorSection = AnchorSection()
    required: bool = False
    """Nothing is sent that is not on disk in this log before."""


class Config(_Section, frozen=True, kw_only=True):
    """The whole file, as written, with its defaults."""

    listen: str = "127.0.0.1:8321"
    socket_mode: str = "0600"
    """Who may connect where `listen` is a Unix socket."""
    health_listen: str = "127.0.0.1:8322"
    admin_listen: str = "127.0.0.1:8323"
    admin_token_file: str = ""
    auth: AuthSection | None = None
    agent: AgentSection = AgentSection()
    providers: Mapping[str, ProviderSection] = {}
    default_provider: str = ""
    models: Mapping[str, ModelSection] = {}
    pools: Mapping[str, tuple[str, ...]] = {}
    default_model: str = ""
    unlisted_models: Unlisted = "pass"
    unknown_price: Literal["deny", "mark"] | CeilingSection = "deny"
    prices: Mapping[str, Mapping[str, str | float]] = {}
    policies: tuple[str, ...] = ()
    candidate: CandidateSection | None = None
    kill_switch: str = ""
    state: StateSection = StateSection()
    budgets: BudgetsSection | None = None
    tiers: TiersSection = TiersSection()
    handoff: HandoffSection | None = None
    audit: AuditSection | None = None
    telemetry: TelemetrySection = TelemetrySection()
    limits: Limits = Limits()

    @property
    def durability(self) -> Literal["process", "disk"]:
        """Return what records survive: a log without which nothing is sent is worth its records no less."""
        return "disk" if self.audit and self.audit.required else self.state.durability
