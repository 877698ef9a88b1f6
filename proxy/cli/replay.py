"""Owns `handrail replay`: which calls other policies would decide differently, for who is to put them in force."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy import app, config, policy
from proxy.cli import policies, records
from proxy.cli.answers import HOW_TO_KEEP, texts
from proxy.cli.paint import document, paint, rows
from proxy.errors import ConfigError
from proxy.stores.sqlite import Reader
from proxy.terms import Decision, Kept

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "replay",
        help="say which kept calls other policies would decide differently",
        description="Decide kept calls again, with what guards said then. Exit 0 if nothing is decided differently, 1 "
        f"if something is, 2 if that cannot be told. Calls are kept where a rule asks for it: {HOW_TO_KEEP}.",
    )
    parser.add_argument(
        "--policies", nargs="+", type=Path, metavar="PATH", help="files, or folders of them (default: those in force)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--since", type=span, default=0, metavar="24h", help="only calls of the last s, m, h or d")
    which.add_argument("--exchange", metavar="ID", help="only this call")
    parser.add_argument("--show", action="store_true", help="also what was said, with marks for what rules took out")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    records.where(parser)
    parser.set_defaults(run=run)


def span(text: str) -> int:
    """Return a span of time such as `24h` in milliseconds."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdecimal() and unit in _UNITS_S):
        raise argparse.ArgumentTypeError(f"{text} is no span of time: write 90s, 30m, 24h or 7d")
    return int(number) * _UNITS_S[unit] * 1000


def run(chosen: argparse.Namespace) -> int:
    """Decide again; print what is decided differently, and what cannot be told."""
    asked = _policies(chosen)
    with records.opened(chosen, content=True) as reader:
        found = list(_kept(chosen, reader))
    if not found:
        print(f"no call was kept; {HOW_TO_KEEP}", file=sys.stderr)
        return 2
    replayed = [one for kept in found for one in policy.replay(asked, kept)]
    different, unknown = [one for one in replayed if one.differs], list(_unknown(found, replayed))
    count = (len(found), len(replayed))
    if chosen.json:
        print(_json(count, different, unknown))
    else:
        print(_words(count, different, unknown, show=chosen.show))
    return 2 if unknown else 1 if different else 0


def _policies(chosen: argparse.Namespace) -> policy.PolicySet:
    """Compile the policies that are asked; marks in what was kept are found as what they stand for."""
    if not chosen.policies:
        return config.policies_for(
            app.read_config(app.Options(path=chosen.config, environment=dict(os.environ))), config.OF_KEPT
        )
    files = policies.files_of(chosen.policies, config.POLICY_FILE)
    if not files:
        raise ConfigError([f"no {config.POLICY_FILE} in {', '.join(map(str, chosen.policies))}"])
    return config.policies_of(files, config.OF_KEPT)


def _kept(chosen: argparse.Namespace, reader: Reader) -> Iterator[Kept]:
    if not chosen.exchange:
        yield from reader.kept(time.time_ns() // 1_000_000 - chosen.since if chosen.since else 0)
    elif kept := reader.kept_of(chosen.exchange.partition("-")[0]):
        yield kept


def _unknown(found: Iterable[Kept], replayed: Iterable[policy.Replayed]) -> Iterator[tuple[str, str, str]]:
    """Yield (exchange, decision, why) of all that cannot be told."""
    for kept in found:
        if kept.too_large:
            yield kept.exchange_id, "", f"it was too large to keep ({kept.too_large:,} bytes)"
    for one in replayed:
        yield from ((one.exchange_id, one.now.id, why) for why in one.unknown)


# --- in words -------------------------------------------------------------------------------------------------------


def _words(
    count: tuple[int, int],
    different: Sequence[policy.Replayed],
    unknown: Sequence[tuple[str, str, str]],
    *,
    show: bool,
) -> str:
    calls = len({one.exchange_id for one in different})
    lines = [_difference(one, show=show) for one in different]
    lines += [f"{paint('cannot be told', 'yellow')}  {name or exchange}: {why}" for exchange, name, why in unknown]
    return "\n".join([*lines, f"{count[0]} calls with {count[1]} checks decided again: {calls} calls differ"])


def _difference(one: policy.Replayed, *, show: bool) -> str:
    facts, before = one.check.facts, one.check.decision
    when = datetime.fromtimestamp(facts.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    title = f"{paint(one.exchange_id, 'bold')}  {when}  agent {facts.caller.agent}"
    change = f"{before.verdict} → {paint(one.now.verdict, 'yellow')}"
    pairs = [
        (f"{before.phase}", f"{change}{f' ({before.subject})' if before.subject else ''}"),
        ("was", _by(before)),
        ("now", _by(one.now)),
        *(texts(facts) if show else ()),
    ]
    return f"{title}\n{rows(pairs)}"


def _by(decision: Decision) -> str:
    failed = next((hit.error for hit in decision.rules if hit.id == decision.rule), "")
    why = f"by {decision.rule}{f', which failed: {failed}' if failed else ''}" if decision.rule else "by no rule"
    return f"{why}: {decision.message}" if decision.message else why


def _json(count: tuple[int, int], different: Sequence[policy.Replayed], unknown: Sequence[tuple[str, str, str]]) -> str:
    told = {
        "calls": count[0],
        "checks": count[1],
        "different": [_told(one) for one in different],
        "unknown": [{"exchange": exchange, "decision": name, "why": why} for exchange, name, why in unknown],
    }
    return document(told)


def _told(one: policy.Replayed) -> dict[str, Any]:
    said = {
        name: {"verdict": decision.verdict, "rule": decision.rule, "message": decision.message}
        for name, decision in (("was", one.check.decision), ("now", one.now))
    }
    before, facts = one.check.decision, one.check.facts
    return {
        "exchange": one.exchange_id,
        "decision": before.id,
        "at_ms": facts.at_ms,
        "agent": facts.caller.agent,
        "conversation": facts.session.id,
        "phase": before.phase,
        **said,
    }
