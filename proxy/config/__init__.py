"""Owns `handrail.yaml`: from text and environment to a Snapshot, with every problem reported at once.

Reads files and the environment at start-up and at reload only; a running walk never sees any of it.
"""

from __future__ import annotations

from proxy.config.access import KeySets
from proxy.config.building import build, watched
from proxy.config.policies import (
    FUNCTIONS,
    OF_KEPT,
    POLICY_FILE,
    TESTS_FILE,
    guards_of,
    lock_of,
    lock_path,
    policies_for,
    policies_of,
    policy_files,
    source_of,
)
from proxy.config.reading import OPENAI_URL, Loaded, is_loopback, load, opened_by
from proxy.config.settings import (
    AuditSection,
    ColdSection,
    Config,
    ConversationsSection,
    HotSection,
    JwtSection,
    PostgresSection,
    RedisSection,
)

__all__ = [
    "FUNCTIONS",
    "OF_KEPT",
    "OPENAI_URL",
    "POLICY_FILE",
    "TESTS_FILE",
    "AuditSection",
    "ColdSection",
    "Config",
    "ConversationsSection",
    "HotSection",
    "JwtSection",
    "KeySets",
    "Loaded",
    "PostgresSection",
    "RedisSection",
    "build",
    "guards_of",
    "is_loopback",
    "load",
    "lock_of",
    "lock_path",
    "opened_by",
    "policies_for",
    "policies_of",
    "policy_files",
    "source_of",
    "watched",
]
