"""Owns the door to a whole Handrail: how it is read, built, started and looked at."""

from __future__ import annotations

from proxy.app.asking import Found, gather
from proxy.app.erasing import Erased, beside, entries, erase_found
from proxy.app.files import audit_folder, content_seal, known_customer_key
from proxy.app.instance import Options, Running, read_config
from proxy.app.machine import DAY_MS, LazyEstimator, RandomIds, SystemClock, loop_factory
from proxy.app.pages import coverage, status
from proxy.app.starting import PLACEHOLDER_URL, running, serve
from proxy.app.tiers import open_tiers, purge, retention, state_path

__all__ = [
    "DAY_MS",
    "PLACEHOLDER_URL",
    "Erased",
    "Found",
    "LazyEstimator",
    "Options",
    "RandomIds",
    "Running",
    "SystemClock",
    "audit_folder",
    "beside",
    "content_seal",
    "coverage",
    "entries",
    "erase_found",
    "gather",
    "known_customer_key",
    "loop_factory",
    "open_tiers",
    "purge",
    "read_config",
    "retention",
    "running",
    "serve",
    "state_path",
    "status",
]
