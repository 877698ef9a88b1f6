"""Owns the one rule form, and how every section of a document lowers into it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.terms import Mode, OnDeny, Phase, Verdict, Way


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The one form of everything a policy says."""

    id: str
    """`policy/rule@version`."""
    section: str
    """Where it was written: `topics`, `actions`, `spend`, `routing` or `rules`."""
    phase: Phase
    action: Verdict
    when: str
    """The CEL condition; it acts when this is true, or with `require` when it is not."""
    require: bool = False
    tools: tuple[str, ...] = ()
    """Globs: the tools to strip (phase request), or the calls it is about (phase tool_call; empty: all)."""
    mode: Mode = Mode.ENFORCE
    on_error: str = "deny"
    on_deny: OnDeny = OnDeny.REPLY
    priority: int = 500
    severity: str = ""
    message: str = ""
    message_expression: str = ""
    hold: bool = False
    """The reply waits for this rule (phase response)."""
    way: Way | None = None
    annotations: Mapping[str, str] = {}
    cap_nanousd: int | None = None
    """A spend limit: held by the budget store when the call is made, not judged by `when`."""
    scope: str = ""
    window: str = ""
    timezone: str = ""
    digest: str = ""
    position: str = ""
    """`file:line:column`."""
