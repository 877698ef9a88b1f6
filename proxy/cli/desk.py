"""Owns `handrail approvals` and `handrail escalations`: what waits for a human, decided from a terminal."""

from __future__ import annotations

import argparse
import getpass
import http.client
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from proxy import app
from proxy.cli import configuration
from proxy.cli.paint import clean, document, paint, rows
from proxy.errors import ConfigError
from proxy.terms import Handoff, Held, HeldState, Tried

if TYPE_CHECKING:
    from argparse import _SubParsersAction

TIMEOUT_S = 10.0
MOST = 1000
"""Entries of a list: as many as the admin API gives at once."""
UNIX = "unix:"
STATES = (*(str(state) for state in HeldState), "all")
T = TypeVar("T")
_COLOURS = {HeldState.PENDING: "yellow", HeldState.APPROVED: "green", HeldState.DENIED: "red"}


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands."""
    approvals = commands.add_parser(
        "approvals", help="approve or deny what waits for a human", description="Approve or deny held actions."
    )
    verbs = approvals.add_subparsers(dest="verb", required=True, metavar="VERB")
    listed = _verb(verbs, "list", "list actions, newest first", run_approvals)
    listed.add_argument("--state", choices=STATES, default="pending", help="which of them (default: pending)")
    for name, state in (("approve", HeldState.APPROVED), ("deny", HeldState.DENIED)):
        parser = _verb(verbs, name, f"{name} one action", run_decide)
        parser.set_defaults(state=state)
        parser.add_argument("id", help="as `handrail approvals list` shows it")
        _by(parser)
        parser.add_argument("--note", default="", help="why, for the record")
    escalations = commands.add_parser(
        "escalations",
        help="list conversations that a human took over, and give them back",
        description="List conversations that were handed over to a human, and give them back to their agent.",
    )
    verbs = escalations.add_subparsers(dest="verb", required=True, metavar="VERB")
    listed = _verb(verbs, "list", "list hand-offs that are open, newest first", run_escalations)
    listed.add_argument("--all", action="store_true", help="those that are closed too")
    shown = _verb(verbs, "show", "print what a human has to know", run_show)
    closed = _verb(verbs, "close", "give a conversation back to its agent", run_close)
    for parser in (shown, closed):
        parser.add_argument("id", help="as `handrail escalations list` shows it")
    _by(closed)


def _verb(
    verbs: _SubParsersAction[argparse.ArgumentParser], name: str, words: str, run: object
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    configuration.add(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)
    return parser


def _by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", help="who decides (default: who is logged in)")


# --- the commands ---------------------------------------------------------------------------------------------------


def run_approvals(chosen: argparse.Namespace) -> int:
    """Print the actions that wait, or those in another state."""
    state = "" if chosen.state == "all" else f"&state={chosen.state}"
    found = _Admin(chosen.config).get(f"/approvals?limit={MOST}{state}", list[Held])
    return _print(chosen, found, "\n".join(map(action_line, found)) or "nothing waits")


def run_decide(chosen: argparse.Namespace) -> int:
    """Approve or deny one action; exit 1 when that cannot be done to it."""
    body = {"state": chosen.state, "by": chosen.by or logged_in(), "note": chosen.note}
    held = _Admin(chosen.config).post(f"/approvals/{_segment(chosen.id)}", body, Held)
    return 1 if held is None else _print(chosen, held, action_line(held))


def run_escalations(chosen: argparse.Namespace) -> int:
    """Print the hand-offs that are open, or all."""
    found = _handoffs(chosen, open_only=not chosen.all)
    return _print(chosen, found, "\n".join(map(handoff_line, found)) or "nobody waits")


def run_show(chosen: argparse.Namespace) -> int:
    """Print one packet in words; exit 1 when there is none."""
    found = [handoff for handoff in _handoffs(chosen, open_only=False) if handoff.id == chosen.id]
    if not found:
        print(f"no hand-off {chosen.id}; `handrail escalations list --all` lists what there is", file=sys.stderr)
        return 1
    return _print(chosen, found[0], handoff_words(found[0]))


def run_close(chosen: argparse.Namespace) -> int:
    """Give one conversation back; exit 1 when there is none."""
    body = {"by": chosen.by or logged_in()}
    handoff = _Admin(chosen.config).post(f"/escalations/{_segment(chosen.id)}/close", body, Handoff)
    return 1 if handoff is None else _print(chosen, handoff, handoff_line(handoff))


def _handoffs(chosen: argparse.Namespace, *, open_only: bool) -> list[Handoff]:
    return _Admin(chosen.config).get(f"/escalations?limit={MOST}&open={str(open_only).lower()}", list[Handoff])


def _print(chosen: argparse.Namespace, value: object, words: str) -> int:
    print(document(msgspec.to_builtins(value)) if chosen.json else words)
    return 0


def logged_in() -> str:
    """Return who is logged in, for the record; raise ConfigError where nobody is by a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise ConfigError(["nobody is logged in by a name: say who decides with --by NAME"]) from None


def _segment(name: str) -> str:
    """Return an id as it may stand in a path; what cannot be one is not there anyway."""
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else "-"


# --- in words -------------------------------------------------------------------------------------------------------


def action_line(held: Held) -> str:
    """Return an action in one line: its state, what would be done, for whom, and until when it may be decided."""
    decided = f"by {held.decided_by}{f': {held.note}' if held.note else ''}" if held.decided_by else ""
    parts = (
        held.id,
        paint(f"{held.state:<8}", _COLOURS.get(held.state, "dim")),
        clean(f"{held.tool} {held.arguments}"),
        f"agent {clean(held.agent)}",
        f"rule {clean(held.rule)}",
        clean(held.group and f"for {held.group}"),
        f"until {_when(held.expires_ms)}" if held.state is HeldState.PENDING else clean(decided),
    )
    return "  ".join(filter(None, parts))


def handoff_line(handoff: Handoff) -> str:
    """Return a packet in one line: since when, for which queue, why, and what is asked."""
    closed = f"closed by {handoff.closed_by}" if handoff.closed_ms else "open"
    parts = (
        handoff.id,
        paint(clean(closed), "dim" if handoff.closed_ms else "yellow"),
        _when(handoff.at_ms),
        clean(f"queue {handoff.queue}"),
        clean(handoff.reason),
        clean(handoff.open_question),
    )
    return "  ".join(filter(None, parts))


def handoff_words(handoff: Handoff) -> str:
    """Return a packet in words."""
    pairs = [
        ("queue", handoff.queue),
        ("why", f"{handoff.reason} ({handoff.rule})" if handoff.rule else handoff.reason),
        ("conversation", f"{handoff.session_id}, call {handoff.turn}, agent {handoff.agent}"),
        ("summary", handoff.summary),
        ("open question", handoff.open_question),
        ("sentiment", handoff.sentiment),
        *(("customer", f"{name} = {value}") for name, value in handoff.customer.items()),
        *((kind, ", ".join(values)) for kind, values in handoff.identifiers.items()),
        *(("tried", _tried(tried)) for tried in handoff.tried),
        ("missing", ", ".join(handoff.missing)),
        ("closed", f"{_when(handoff.closed_ms)} by {handoff.closed_by}" if handoff.closed_ms else ""),
        ("record", f"handrail explain {handoff.exchange_id}" if handoff.exchange_id else ""),
    ]
    title = f"{paint(handoff.id, 'bold')}  {_when(handoff.at_ms)}"
    return f"{title}\n{rows((clean(name), clean(value)) for name, value in pairs)}"


def _tried(tried: Tried) -> str:
    return f"{tried.tool} {tried.arguments}: {tried.outcome}{f', {tried.result}' if tried.result else ''}"


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- the admin API of the Handrail that runs ------------------------------------------------------------------------


class _Admin:
    """Asks the admin listener that the configuration names; raises ConfigError in words where that cannot be."""

    def __init__(self, path: Path | None) -> None:
        loaded = app.read_config(app.Options(path=path, environment=dict(os.environ)))
        self._listen = loaded.config.admin_listen
        named = loaded.config.admin_token_file
        self._token_path = loaded.folder / (named or Path(loaded.config.state.path).parent / "admin.token")

    def get(self, path: str, kind: type[T]) -> T:
        """Return what a page says."""
        status, body = self._ask("GET", path)
        if status != 200:
            raise ConfigError([self._refusal(status, body)])
        return self._read(body, kind)

    def post(self, path: str, sent: object, kind: type[T]) -> T | None:
        """Return what was changed; None, and the reason on stderr, where the answer is no."""
        status, body = self._ask("POST", path, msgspec.json.encode(sent))
        if status in (404, 409):
            print(self._refusal(status, body), file=sys.stderr)
            return None
        if status != 200:
            raise ConfigError([self._refusal(status, body)])
        return self._read(body, kind)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {self._token()}", "content-type": "application/json"}
        connection = _Connection(self._listen)
        try:
            connection.request(method, path, body, headers if body else {"authorization": headers["authorization"]})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(
                [f"no Handrail answers at {self._listen} ({why}): is `handrail serve` running with this configuration?"]
            ) from None
        finally:
            connection.close()

    def _token(self) -> str:
        try:
            token = self._token_path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no token"
            raise ConfigError(
                [f"{self._token_path}: the admin token cannot be read: {why}; `handrail serve` makes it when it starts"]
            ) from None
        if not token.isprintable():
            raise ConfigError([f"{self._token_path}: the admin token cannot be read: it is no token"])
        return token

    def _refusal(self, status: int, body: bytes) -> str:
        if status == 401:
            return f"{self._listen}: the token in {self._token_path} is not the one of the Handrail that runs there"
        try:
            said = clean(str(msgspec.json.decode(body)["error"]["message"]))
        except (ValueError, LookupError, TypeError):
            said = "what answers there is no Handrail of this version"
        return f"{self._listen}: HTTP {status}: {said}"

    def _read(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except ValueError:
            raise ConfigError([f"{self._listen}: what answers there is no Handrail of this version"]) from None


class _Connection(http.client.HTTPConnection):
    """A connection to `host:port` or `unix:/path`."""

    def __init__(self, listen: str) -> None:
        self._path = listen.removeprefix(UNIX) if listen.startswith(UNIX) else ""
        super().__init__("localhost" if self._path else listen, timeout=TIMEOUT_S)

    def connect(self) -> None:
        """Open the socket (http.client calls this)."""
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)
