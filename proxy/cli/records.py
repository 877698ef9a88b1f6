"""Owns `handrail tail` and `handrail explain`: the records, for the person who has to answer a customer."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from proxy import app, config
from proxy.accounting import format_usd
from proxy.cli import answers, configuration, policies
from proxy.cli.paint import document, paint, rows
from proxy.errors import ConfigError
from proxy.stores.sqlite import Reader
from proxy.terms import Attempt, Cost, Decision, Exchange, GuardResult, State, Verdict

if TYPE_CHECKING:
    from argparse import _SubParsersAction

POLL_S = 0.5
_COLOURS = {State.COMPLETE: "green", State.DENIED: "yellow"}


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands."""
    tail = commands.add_parser("tail", help="list recorded calls", description="List recorded calls, newest last.")
    tail.add_argument("-n", type=int, default=20, help="how many (default: 20)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as new calls are recorded")
    tail.add_argument("--json", action="store_true", help="one JSON object per line")
    tail.set_defaults(run=run_tail)
    explain = commands.add_parser(
        "explain",
        help="say what was decided about one call, and why; or what policies say",
        description="Say what was decided about one call, and why: its decisions, route, cost and timing. "
        "With --policy: print every rule of some policies in its lowered form.",
    )
    subject = explain.add_mutually_exclusive_group(required=True)
    subject.add_argument("id", nargs="?", help="a decision or exchange id, as in the x-handrail-decision header")
    subject.add_argument("--policy", nargs="+", type=Path, metavar="PATH", help="policy files, or folders of them")
    explain.add_argument("--json", action="store_true", help="the whole record, or all that is known of each rule")
    explain.set_defaults(run=run_explain)
    for parser in (tail, explain):
        where(parser)


def where(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where the records are."""
    configuration.add(parser)
    parser.add_argument(
        "--state", type=Path, help="the records file itself (default: `state.path` of the configuration)"
    )


def run_tail(chosen: argparse.Namespace) -> int:
    """Print the newest records, and with --follow every new one."""
    show = _as_json if chosen.json else one_line
    with opened(chosen) as reader:
        newest = reader.tail(max(chosen.n, 1))
        found, last = newest if chosen.n else [], newest[-1][0] if newest else 0
        if not newest:
            print("no call has ended yet", file=sys.stderr)
        while True:
            for _, exchange in found:
                print(show(exchange), flush=True)
            if not chosen.follow:
                return 0
            time.sleep(POLL_S)
            found = reader.after(last)
            last = found[-1][0] if found else last


def run_explain(chosen: argparse.Namespace) -> int:
    """Print one record, or the rules of policies, in words; exit 1 when there is none."""
    if chosen.policy:
        return policies.explain(chosen.policy, as_json=chosen.json)
    with opened(chosen, content=True) as reader:
        exchange = reader.find(chosen.id) or reader.find(chosen.id.partition("-")[0])
        kept = reader.kept_of(exchange.id) if exchange else None
    if exchange is None:
        print(f"no record of {chosen.id}; `handrail tail` lists what there is", file=sys.stderr)
        return 1
    if chosen.json:
        print(_as_json(exchange))
        return 0
    print(f"{answers.sentence(exchange)}\n\n{explained(exchange)}\n")
    if kept and not kept.too_large:
        in_force = config.policies_for(_loaded(chosen.config), config.OF_KEPT)
        print(answers.knowledge(kept, in_force, chosen.id))
    else:
        print(answers.not_kept(kept))
    return 0


def opened(chosen: argparse.Namespace, *, content: bool = False) -> Reader:
    """Open the records that `--state` or the configuration names, with what opens their content where that is wanted;
    raise ConfigError where there are none."""
    path = chosen.state or _state_of(chosen.config)
    if not path.exists():
        raise ConfigError([f"{path}: there are no records yet; `handrail serve` writes them"])
    return Reader(str(path), app.content_seal(_loaded(chosen.config))) if content else Reader(str(path))


def _state_of(path: Path | None) -> Path:
    loaded = _loaded(path)
    return loaded.folder / loaded.config.state.path


def _loaded(path: Path | None) -> config.Loaded:
    return app.read_config(app.Options(path=path, environment=dict(os.environ)))


def _as_json(exchange: Exchange) -> str:
    return document(msgspec.to_builtins(exchange))


# --- in words -------------------------------------------------------------------------------------------------------


def one_line(exchange: Exchange) -> str:
    """Return a record in one line: when, how it ended, what it cost, where it went, and which rule decided."""
    rules = [decision.rule for decision in exchange.decisions if decision.rule]
    parts = (
        _when(exchange.started_ms)[11:19],
        paint(f"{exchange.state:<11}", _COLOURS.get(exchange.state, "red")),
        f"{exchange.status:>3}",
        f"{_usd(exchange.cost):>12}",
        f"{exchange.total_ms:>8.1f} ms",
        f"{exchange.model_asked} → {_sent_to(exchange)}",
        paint(exchange.id, "dim"),
        " ".join(dict.fromkeys(rules)) or exchange.error,
    )
    return "  ".join(parts).rstrip()


def explained(exchange: Exchange) -> str:
    """Return a record in words."""
    caller, session = exchange.caller, exchange.session
    title = f"{paint(exchange.id, 'bold')}  {_when(exchange.started_ms)}"
    pairs = [
        ("who", f"agent {caller.agent}, level {caller.level}, called as {caller.principal}"),
        ("conversation", f"{session.id}, call {session.turn} (found by: {session.link})"),
        ("asked for", f"{exchange.model_asked}{', streamed' if exchange.stream else ''} at {exchange.endpoint}"),
        ("outcome", _outcome(exchange)),
        *((f"decided: {_label(decision)}", _decided(decision)) for decision in exchange.decisions),
        ("guards", "\n".join(map(_guard, exchange.guards))),
        ("route", _route(exchange)),
        ("attempts", "\n".join(map(_attempt, exchange.attempts))),
        ("tools called", ", ".join(exchange.tool_calls)),
        ("cost", f"{_usd(exchange.cost)}{' (estimated)' if exchange.cost.estimated else ''}"),
        ("time", _times(exchange)),
        ("policies", exchange.policy_digest),
        ("prices", exchange.prices_digest),
        ("trace", exchange.trace_id),
        ("simulated", "the reply came from the built-in simulated model" if exchange.simulated else ""),
    ]
    return f"{title}\n{rows(pairs)}"


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _usd(cost: Cost) -> str:
    return "unknown" if cost.nanousd is None else format_usd(cost.nanousd)


def _sent_to(exchange: Exchange) -> str:
    return exchange.attempts[-1].target.alias if exchange.attempts else "nowhere"


def _outcome(exchange: Exchange) -> str:
    said = f"{exchange.state}, HTTP {exchange.status}"
    said += f", finish reason {exchange.finish_reason}" if exchange.finish_reason else ""
    return f"{said}: {exchange.error}" if exchange.error else said


def _label(decision: Decision) -> str:
    return str(decision.phase)


def _decided(decision: Decision) -> str:
    colour = "yellow" if decision.verdict is Verdict.DENY else "green"
    lines = [f"{paint(decision.verdict, colour)}{f' by {decision.rule}' if decision.rule else ''}"]
    lines += [f"said: {decision.message}"] if decision.verdict is Verdict.DENY and decision.message else []
    if decision.shadow_verdict is not Verdict.ALLOW:
        lines.append(f"in shadow: {decision.shadow_verdict}")
    lines += [f"{name} = {value}" for name, value in decision.annotations.items()]
    for hit in decision.rules:
        what = f"failed: {hit.error}" if hit.error else f"matched → {hit.action}"
        lines.append(f"- {hit.id} {what}{'' if hit.mode == 'enforce' else f' ({hit.mode})'}")
    return "\n".join(lines)


def _guard(result: GuardResult) -> str:
    if not result.ran:
        return f"{result.name}: not run"
    if result.error:
        return f"{result.name}: failed ({result.error})"
    found = ", ".join(f"{finding.label} {finding.score:.2f}" for finding in result.findings) or "nothing found"
    return f"{result.name}: {found}"


def _route(exchange: Exchange) -> str:
    if exchange.route is None:
        return ""
    order = " → ".join(target.alias for target in exchange.route.targets)
    saved = exchange.route.saved_nanousd
    gain = f"; {'saves' if saved > 0 else 'costs more by'} about {format_usd(abs(saved))}" if saved else ""
    return f"{order} ({exchange.route.reason}{gain})"


def _attempt(attempt: Attempt) -> str:
    usage = attempt.usage
    target = f"{attempt.target.provider}/{attempt.target.model}"
    if attempt.error == "not_sent":
        return f"{attempt.number}. {target}: not sent"
    how = f"{attempt.state}{f' ({attempt.error})' if attempt.error else ''}"
    doubt = f", in doubt: {usage.doubt}" if usage.doubt else ""
    tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens, counted by {usage.source}{doubt}"
    tokens += f", {attempt.shortened} of output at most by spend limits" if attempt.shortened else ""
    price = f" at {attempt.cost.price}" if attempt.cost.price else ""
    return f"{attempt.number}. {target}: {how}; {tokens}; {_usd(attempt.cost)}{price}"


def _times(exchange: Exchange) -> str:
    parts: Iterator[tuple[str, float]] = iter(
        (
            ("total", exchange.total_ms),
            ("first byte", exchange.ttft_ms),
            ("policy", exchange.policy_ms),
            ("guards", exchange.guard_ms),
            ("held", exchange.hold_ms),
        )
    )
    return ", ".join(f"{name} {ms:.1f} ms" for name, ms in parts if ms)
