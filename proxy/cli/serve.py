"""Owns `handrail serve`: starts the proxy and says where it is."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxy import app, config
from proxy.cli import configuration
from proxy.cli.paint import paint, rows

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXAMPLE = """examples:
  handrail serve
  handrail serve --config handrail.yaml
  OPENAI_API_KEY=… handrail serve         without a configuration: calls go to OpenAI
"""


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="run the proxy",
        description="Serve until told to stop: agents on `listen`, probes and metrics on `health_listen`, operators on "
        "`admin_listen`. Changed files of configuration and policies are taken over as they change.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    configuration.add(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    options = app.Options(path=chosen.config, environment=dict(os.environ))
    with asyncio.Runner(loop_factory=app.loop_factory()) as runner:
        runner.run(app.serve(options, _announce))
    return 0


def _beyond(settings: config.Config) -> Iterator[tuple[str, str]]:
    """Yield what the configuration asks for besides: who may call, what is shared, kept elsewhere, and proven."""
    auth, tiers, audit = settings.auth, settings.tiers, settings.audit
    yield "callers", ", ".join(name for name in ("peers", "keys_file", "jwt") if auth and getattr(auth, name))
    yield "limits", f"shared in {settings.budgets.redis.url}" if settings.budgets else ""
    yield "sessions", f"shared in {tiers.hot.redis.url}" if tiers.hot else ""
    yield "warm tier", tiers.warm.postgres.url if tiers.warm else ""
    yield "cold tier", tiers.cold.url if tiers.cold else ""
    yield "audit log", ("on", "required")[audit.required] if audit else ""


def _announce(here: app.Running) -> None:
    loaded, snapshot = here.loaded, here.house.snapshot
    settings = loaded.config
    policies = ", ".join(f"{d.name}@{d.version}" for d in snapshot.policies.documents) or paint("none", "yellow")
    providers = ", ".join(f"{name} ({section.dialect})" for name, section in settings.providers.items())
    print(paint("Handrail is ready.", "green"), flush=True)
    print(
        rows(
            [
                ("agents", f"OPENAI_BASE_URL={here.base_url}"),
                ("health", f"http://{here.health_listen}/healthz /readyz /metrics"),
                ("admin", f"http://{here.admin_listen}/status /coverage (token in {here.admin_token_path})"),
                ("agent", f"{settings.agent.id}, level {settings.agent.level}"),
                ("providers", providers),
                ("policies", policies),
                *_beyond(settings),
                ("simulated", "replies come from the built-in simulated model" if loaded.simulated else ""),
                ("config", loaded.text.path),
                ("records", str(loaded.folder / settings.state.path)),
            ]
        ),
        flush=True,
    )
