"""Owns what all sections share on the way to the one rule form.

In: one document and its place for problems. Out: rules with what a policy says for all of its entries. Never: what one
section alone means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.documents import Path, Problems, Text
from proxy.policy.rule import PRIORITY, Document, Lowered, OnError, Redaction, Rule, digest_of
from proxy.terms import Approval, Escalation, HandoffBy, How, Mode, OnDeny, OnDisconnect, Phase, Verdict, Way

SECONDS = {"s": 1, "m": 60, "h": 3600}


class Lowering:
    """One document on its way into the one rule form."""

    def __init__(self, text: Text, problems: Problems) -> None:
        tree: Any = text.value
        metadata = tree["metadata"]
        self.text = text
        self.spec: dict[str, Any] = tree["spec"]
        self.document = Document(
            name=metadata["name"],
            version=metadata["version"],
            digest=digest_of(tree),
            path=text.path,
            position=text.at(("metadata", "version")),
            labels=metadata.get("labels", {}),
            annotations=metadata.get("annotations", {}),
            on_disconnect=self._on_disconnect(),
        )
        self._problems = problems

    def wrong(self, path: Path, message: str) -> None:
        """Put a problem on the list."""
        self._problems.add(self.text.at(path), message)

    def lowered(
        self,
        entry: Mapping[str, Any],
        at: Path,
        when_at: Path,
        *,
        name: str,
        phase: Phase,
        action: Verdict,
        **rest: Any,
    ) -> Lowered:
        """Make a rule from what all sections share and what this one says."""
        rule = Rule(
            id=f"{self.document.name}/{name}@{self.document.version}",
            section=str(at[1]),
            phase=phase,
            action=action,
            mode=self.mode(entry),
            on_error=self.on_error(entry),
            on_deny=self._on_deny(entry, phase),
            priority=self.spec.get("priority", PRIORITY),
            severity=entry.get("severity", ""),
            message=entry.get("message", ""),
            message_expression=entry.get("messageExpression", ""),
            **rest,
        )
        digest = digest_of(msgspec.to_builtins(rule))
        rule = msgspec.structs.replace(rule, digest=digest, position=self.text.at(at))
        return Lowered(rule=rule, at=at, when_at=when_at)

    def _on_deny(self, entry: Mapping[str, Any], phase: Phase) -> OnDeny:
        """Return how a denial looks; only what a model has asked for can be explained to it."""
        chosen = OnDeny(entry.get("onDeny", self.spec.get("onDeny", OnDeny.REPLY)))
        return OnDeny.REPLY if chosen is OnDeny.EXPLAIN and phase is not Phase.TOOL_CALL else chosen

    def _on_disconnect(self) -> OnDisconnect:
        """Return what becomes of replies that nobody waits for any more; a policy that does not act aborts none."""
        chosen = OnDisconnect(self.spec.get("onDisconnect", OnDisconnect.DRAIN))
        return chosen if self.mode({}) is Mode.ENFORCE else OnDisconnect.DRAIN

    def on_error(self, entry: Mapping[str, Any]) -> OnError:
        """Return what an evaluation that fails leads to."""
        return OnError(entry.get("onError", self.spec.get("onError", "deny")))

    def mode(self, entry: Mapping[str, Any]) -> Mode:
        """Return the mode that acts least: an entry can only weaken its policy's."""
        order = (Mode.OFF, Mode.SHADOW, Mode.ENFORCE)
        modes = Mode(self.spec.get("mode", "enforce")), Mode(entry.get("mode", "enforce"))
        return min(modes, key=order.index)

    def condition(self, entry: Mapping[str, Any], at: Path, needed: bool) -> str:
        """Return the key of the condition, `when` or `require`; empty if there is none."""
        given = [key for key in ("when", "require") if key in entry]
        if len(given) == 2:
            self.wrong((*at, "require"), "give `when` or `require`, not both")
        elif needed and not given:
            self.wrong(at, "give `when` or `require`")
        return given[0] if given else ""

    def approval(self, entry: Mapping[str, Any], at: Path) -> dict[str, Any]:
        """Return what makes a rule one that asks a human."""
        given = entry.get("approval", {})
        approval = Approval(
            ttl_s=seconds(given.get("ttl", "15m")),
            wait_s=seconds(given.get("wait", "0s")),
            group=given.get("group", ""),
        )
        if approval.wait_s > approval.ttl_s:
            self.wrong((*at, "approval", "wait"), "`wait` is longer than `ttl`: the approval would come too late")
        return {"action": Verdict.REQUIRE_APPROVAL, "approval": approval}

    def way(self, entry: Mapping[str, Any], rule: str) -> Way:
        """Return where a route verdict sends a call."""
        to, fallback = entry["to"], tuple(entry.get("fallback", ()))
        rule_id = f"{self.document.name}/{rule}@{self.document.version}"
        if isinstance(to, str):
            return Way(to=to, fallback=fallback, rule=rule_id)
        tags = tuple(sorted({*to["cheapest"]["tags"]}))
        return Way(cheapest=True, tags=tags, fallback=fallback, rule=rule_id)

    def handoff(self, entry: Mapping[str, Any], at: Path) -> Escalation:
        """Return where a conversation goes, and how its agent learns of that."""
        to, by = entry.get("to", "default"), HandoffBy(entry.get("handoff", HandoffBy.WEBHOOK))
        if not isinstance(to, str):
            self.wrong((*at, "to"), "`to` of an escalation is the name of a queue")
        if (by is HandoffBy.TOOL) != ("tool" in entry):
            self.wrong(at, "`handoff: tool` and `tool` come together")
        return Escalation(queue=str(to), by=by, tool=entry.get("tool", ""))

    def holds(self, entry: Mapping[str, Any], phase: Phase) -> bool:
        """Say whether a reply waits for a rule of this phase."""
        return phase is Phase.RESPONSE and self.mode(entry) is Mode.ENFORCE


def redaction(entry: Mapping[str, Any], how: How) -> Redaction:
    """Return what an entry looks for in texts."""
    return Redaction(
        how=how,
        kinds=tuple(entry.get("kinds", ())),
        pattern=entry.get("pattern", ""),
        allow=entry.get("allow", ""),
    )


def seconds(duration: str) -> int:
    """Read a duration such as `15m`."""
    return int(duration[:-1]) * SECONDS[duration[-1]]
