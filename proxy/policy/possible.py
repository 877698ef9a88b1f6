"""Owns what a rule may do in which phase, and which keys belong to which action.

In: an entry of `rules`, its phase and action. Out: the keys that do not fit, and what to say of them. Never: a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proxy.terms import How, Phase, Verdict

VERDICTS: Mapping[Phase, tuple[Verdict, ...]] = {
    Phase.REQUEST: (
        Verdict.ALLOW,
        Verdict.LABEL,
        Verdict.ANNOTATE,
        Verdict.ROUTE,
        Verdict.STRIP_TOOLS,
        Verdict.REDACT,
        Verdict.REWRITE,
        Verdict.ESCALATE,
        Verdict.DENY,
    ),
    Phase.ROUTE: (Verdict.ALLOW, Verdict.ROUTE),
    Phase.TOOL_RESULT: (Verdict.ALLOW, Verdict.LABEL, Verdict.REDACT, Verdict.ESCALATE, Verdict.DENY),
    Phase.CHUNK: (Verdict.ALLOW, Verdict.REDACT, Verdict.DENY),
    Phase.TOOL_CALL: (
        Verdict.ALLOW,
        Verdict.REDACT,
        Verdict.REWRITE,
        Verdict.REPLACE,
        Verdict.REQUIRE_APPROVAL,
        Verdict.DENY,
    ),
    Phase.RESPONSE: (
        Verdict.ALLOW,
        Verdict.LABEL,
        Verdict.ANNOTATE,
        Verdict.REDACT,
        Verdict.REWRITE,
        Verdict.ESCALATE,
        Verdict.DENY,
    ),
    Phase.POST: (Verdict.RECORD, Verdict.ALERT, Verdict.LEVEL),
}
"""What a rule may do in which phase."""
WITHHOLDING = (Verdict.REDACT, Verdict.REWRITE, Verdict.ESCALATE, Verdict.DENY)
"""What a response rule can do only to a reply that waits for it."""
HOW: Mapping[str, How] = {"redact": How.MASK, **{how.value: how for how in How}}
"""Actions that take something out."""
REWRITES: Mapping[Phase, tuple[str, ...]] = {
    Phase.REQUEST: ("instructions", "max_tokens", "temperature"),
    Phase.RESPONSE: ("text",),
}
"""What `rewrite` can name in which phase; of a tool call it names arguments."""

_NEEDED = {
    Verdict.ROUTE: "to",
    Verdict.STRIP_TOOLS: "tools",
    Verdict.ANNOTATE: "annotations",
    Verdict.LABEL: "labels",
    Verdict.REWRITE: "rewrite",
    Verdict.REPLACE: "message",
    Verdict.LEVEL: "level",
}
_SAYING = (Verdict.DENY, Verdict.ESCALATE, Verdict.REQUIRE_APPROVAL, Verdict.REPLACE)
_SAYS = "with `action: deny`, `escalate`, `require_approval` or `replace`"
_TAKING_OUT = "with `action: redact`, `mask`, `hash` or `tokenize`"
_ONLY: Mapping[str, tuple[Callable[[Phase, Verdict], bool], str]] = {
    "to": (lambda _, action: action in (Verdict.ROUTE, Verdict.ESCALATE), "with `action: route` or `escalate`"),
    "fallback": (lambda _, action: action is Verdict.ROUTE, "with `action: route`"),
    "message": (lambda _, action: action in _SAYING, _SAYS),
    "messageExpression": (lambda _, action: action in _SAYING, _SAYS),
    "rewrite": (lambda _, action: action is Verdict.REWRITE, "with `action: rewrite`"),
    "level": (lambda _, action: action is Verdict.LEVEL, "with `action: level`"),
    "obligations": (lambda phase, _: phase is not Phase.POST, "before phase post, which has actions for that"),
    "labels": (lambda _, action: action is Verdict.LABEL, "with `action: label`"),
    "kinds": (lambda _, action: action is Verdict.REDACT, _TAKING_OUT),
    "pattern": (lambda _, action: action is Verdict.REDACT, _TAKING_OUT),
    "allow": (lambda _, action: action is Verdict.REDACT, _TAKING_OUT),
    "handoff": (lambda _, action: action is Verdict.ESCALATE, "with `action: escalate`"),
    "tool": (lambda _, action: action is Verdict.ESCALATE, "with `action: escalate`"),
    "approval": (lambda _, action: action is Verdict.REQUIRE_APPROVAL, "with `action: require_approval`"),
    "stream": (lambda phase, _: phase is Phase.RESPONSE, "in phase response"),
    "window": (lambda phase, _: phase is Phase.CHUNK, "in phase chunk"),
    "tools": (
        lambda phase, action: phase is Phase.TOOL_CALL or action is Verdict.STRIP_TOOLS,
        "in phase tool_call or with `action: strip_tools`",
    ),
}


def unfit(entry: Mapping[str, Any], phase: Phase, action: Verdict) -> Iterator[tuple[str, str]]:
    """Yield the keys that are missing or that would change nothing, each with what to say of it."""
    needed = _NEEDED.get(action, "id")
    if needed not in entry:
        yield needed, f"`action: {entry['action']}` needs `{needed}`"
    for key, (fits, where) in _ONLY.items():
        if key in entry and not fits(phase, action):
            yield key, f"`{key}` changes nothing here: it is for rules {where}"
    for name in entry.get("rewrite", ()):
        if phase in REWRITES and name not in REWRITES[phase]:
            yield "rewrite", f"`{name}` cannot be rewritten in phase {phase}, only {', '.join(REWRITES[phase])}"
