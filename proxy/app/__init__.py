"""Owns the door to a whole Handrail: how it is read, built, started and looked at."""

from __future__ import annotations

from proxy.app.files import audit_folder, content_seal
from proxy.app.instance import Options, Running, read_config
from proxy.app.machine import LazyEstimator, RandomIds, SystemClock, loop_factory
from proxy.app.pages import coverage, status
from proxy.app.starting import PLACEHOLDER_URL, running, serve
from proxy.app.upkeep import DAY_MS

__all__ = [
    "DAY_MS",
    "PLACEHOLDER_URL",
    "LazyEstimator",
    "Options",
    "RandomIds",
    "Running",
    "SystemClock",
    "audit_folder",
    "content_seal",
    "coverage",
    "loop_factory",
    "read_config",
    "running",
    "serve",
    "status",
]
