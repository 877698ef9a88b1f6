"""Owns the one rule form, and how every section of a document lowers into it.

In: a Text that has passed the schema. Out: a Policy whose rules all have the one form. Never: CEL compiled here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from proxy.documents import Path, Problems, Text
from proxy.policy.possible import HOW, VERDICTS, WITHHOLDING, unfit
from proxy.policy.rule import (
    NANO,
    PRIORITY,
    Document,
    Lowered,
    OnError,
    Policy,
    Redaction,
    Rule,
    digest_of,
    nanousd,
)
from proxy.terms import Approval, Escalation, HandoffBy, How, Level, Mode, OnDeny, Phase, Verdict, Way

SECONDS = {"s": 1, "m": 60, "h": 3600}
DIRECTIONS = {"in": Phase.REQUEST, "out": Phase.RESPONSE, "tool_result": Phase.TOOL_RESULT}

TOTALS = {
    ("request", ""): "spend.request",
    ("conversation", "conversation"): "spend.conversation",
    ("agent", "day"): "spend.agent",
}
"""Where Facts carry the running total of a (scope, window), in UTC."""


def lower(text: Text, problems: Problems) -> Policy:
    """Bring one document into the one rule form; what makes no sense goes on the list."""
    return _Lowering(text, problems).policy()


def _literal(value: object) -> str:
    """Write a text, a number or a list of texts as CEL."""
    return json.dumps(value, ensure_ascii=False)


class _Lowering:
    def __init__(self, text: Text, problems: Problems) -> None:
        tree: Any = text.value
        self._text = text
        self._problems = problems
        self._spec: dict[str, Any] = tree["spec"]
        metadata = tree["metadata"]
        self._document = Document(
            name=metadata["name"],
            version=metadata["version"],
            digest=digest_of(tree),
            path=text.path,
            labels=metadata.get("labels", {}),
            annotations=metadata.get("annotations", {}),
        )

    def policy(self) -> Policy:
        selector = self._spec.get("selector", {})
        return Policy(
            document=self._document,
            text=self._text,
            priority=self._spec.get("priority", PRIORITY),
            agents=tuple(selector.get("agents", ())),
            models=tuple(selector.get("models", ())),
            tenants=tuple(selector.get("tenants", ())),
            selector=selector.get("when", ""),
            params=self._spec.get("params", {}),
            variables=tuple((entry["name"], entry["expression"]) for entry in self._spec.get("variables", ())),
            rules=tuple(self._unique(self._rules())),
        )

    def _rules(self) -> Iterator[Lowered]:
        if not any(self._spec.get(section) for section in ("topics", *_SECTIONS)):
            self._wrong(("spec",), f"this policy says nothing: give it {', '.join(('topics', *_SECTIONS))}")
        if "topics" in self._spec:
            yield from self._topics(self._spec["topics"], ("spec", "topics"))
        for section, lower_entry in _SECTIONS.items():
            for number, entry in enumerate(self._spec.get(section, ())):
                yield from lower_entry(self, entry, ("spec", section, number))

    def _unique(self, rules: Iterator[Lowered]) -> Iterator[Lowered]:
        seen: set[str] = set()
        for lowered in rules:
            if lowered.rule.id in seen:
                self._wrong(lowered.when_at[:3], f"`{_bare(lowered.rule.id)}` is already the id of another rule")
            seen.add(lowered.rule.id)
            yield lowered

    def _wrong(self, path: Path, message: str) -> None:
        self._problems.add(self._text.at(path), message)

    def _lowered(
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
            id=f"{self._document.name}/{name}@{self._document.version}",
            section=str(at[1]),
            phase=phase,
            action=action,
            mode=self._mode(entry),
            on_error=self._on_error(entry),
            on_deny=OnDeny(entry.get("onDeny", self._spec.get("onDeny", "reply"))),
            priority=self._spec.get("priority", PRIORITY),
            severity=entry.get("severity", ""),
            message=entry.get("message", ""),
            message_expression=entry.get("messageExpression", ""),
            **rest,
        )
        digest = digest_of(msgspec.to_builtins(rule))
        rule = msgspec.structs.replace(rule, digest=digest, position=self._text.at(at))
        return Lowered(rule=rule, at=at, when_at=when_at)

    def _on_error(self, entry: Mapping[str, Any]) -> OnError:
        return OnError(entry.get("onError", self._spec.get("onError", "deny")))

    def _mode(self, entry: Mapping[str, Any]) -> Mode:
        """Return the mode that acts least: an entry can only weaken its policy's."""
        order = (Mode.OFF, Mode.SHADOW, Mode.ENFORCE)
        modes = Mode(self._spec.get("mode", "enforce")), Mode(entry.get("mode", "enforce"))
        return min(modes, key=order.index)

    def _condition(self, entry: Mapping[str, Any], at: Path, needed: bool) -> str:
        """Return the key of the condition, `when` or `require`; empty if there is none."""
        given = [key for key in ("when", "require") if key in entry]
        if len(given) == 2:
            self._wrong((*at, "require"), "give `when` or `require`, not both")
        elif needed and not given:
            self._wrong(at, "give `when` or `require`")
        return given[0] if given else ""

    # topics

    def _topics(self, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
        allow, deny, score = entry.get("allow", []), entry.get("deny", []), float(entry["minScore"])
        if not allow and not deny:
            self._wrong(at, "`topics` names no topic: give `allow`, `deny` or both")
        for label in sorted({*allow} & {*deny}):
            self._wrong(at, f"the topic `{label}` is both allowed and denied")
        sure = f"guards.topics.score >= {score!r}"
        conditions = {
            "topics-denied": f"{sure} && guards.topics.label in {_literal(deny)}" if deny else "",
            "topics-outside": f"{sure} && !(guards.topics.label in {_literal(allow)})" if allow else "",
            "topics-uncertain": f"guards.topics.score < {score!r}" if entry["uncertain"] == "deny" else "",
        }
        for name, when in conditions.items():
            if when:
                yield self._lowered(entry, at, at, name=name, phase=Phase.REQUEST, action=Verdict.DENY, when=when)

    # actions

    def _action(self, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
        key = self._condition(entry, at, needed=False)
        if not key and "minLevel" not in entry and "effect" not in entry:
            self._wrong(at, 'say when: give `when`, `require`, `minLevel` or `effect` (`when: "true"` means always)')
        if "messageExpression" in entry and entry.get("action") == "strip":
            self._wrong((*at, "messageExpression"), "a stripped tool needs a `message`, the same for every call of it")
        name, rest = entry["id"], {"tools": tuple(entry["tools"])}
        asks = entry.get("action") == "require_approval"
        drafts = "minLevel" not in entry and entry.get("effect", "read") != "read"
        by_level = drafts and entry.get("action") != "strip"
        if "approval" in entry and not (by_level or (asks and key)):
            self._wrong((*at, "approval"), "`approval` changes nothing here: no call of these tools is to be approved")
        yield self._call(entry, at, at, f"{name}.args", when="!tool.valid_json", **rest)
        yield from self._level(entry, at, drafts, by_level, rest)
        if key and asks:
            condition = {"when": entry[key], "require": key == "require"}
            yield self._call(entry, at, (*at, key), name, **condition, **self._approval(entry, at), **rest)
        elif key:
            yield from self._bar(entry, at, (*at, key), name, when=entry[key], require=key == "require", **rest)

    def _level(
        self, entry: Mapping[str, Any], at: Path, drafts: bool, by_level: bool, rest: Mapping[str, Any]
    ) -> Iterator[Lowered]:
        """Bar the calls that this agent may not make on its own: below a level that is written out, or on `assist` if
        they change something; there a human can still approve them."""
        least = Level.EXECUTE if drafts else Level(entry.get("minLevel", Level.ASSIST))
        name, when = f"{entry['id']}.level", f"agent.rank < {least.rank}"
        if by_level:
            yield self._call(entry, at, at, name, when=when, **self._approval(entry, at), **rest)
        elif least.rank > 1:
            yield from self._bar(entry, at, at, name, when=when, **rest)

    def _approval(self, entry: Mapping[str, Any], at: Path) -> dict[str, Any]:
        """Return what makes a rule one that asks a human."""
        given = entry.get("approval", {})
        approval = Approval(
            ttl_s=_seconds(given.get("ttl", "15m")),
            wait_s=_seconds(given.get("wait", "0s")),
            group=given.get("group", ""),
        )
        if approval.wait_s > approval.ttl_s:
            self._wrong((*at, "approval", "wait"), "`wait` is longer than `ttl`: the approval would come too late")
        return {"action": Verdict.REQUIRE_APPROVAL, "approval": approval}

    def _bar(self, entry: Mapping[str, Any], at: Path, when_at: Path, name: str, **rest: Any) -> Iterator[Lowered]:
        """Deny the calls, and first hide the tools if the action is `strip`: a model may call what it was not shown."""
        if entry.get("action") == "strip":
            plain = {key: value for key, value in entry.items() if key != "message"}
            yield self._lowered(
                plain, at, when_at, name=f"{name}.strip", phase=Phase.REQUEST, action=Verdict.STRIP_TOOLS, **rest
            )
        yield self._call(entry, at, when_at, name, **rest)

    def _call(self, entry: Mapping[str, Any], at: Path, when_at: Path, name: str, **rest: Any) -> Lowered:
        return self._lowered(entry, at, when_at, name=name, phase=Phase.TOOL_CALL, **{"action": Verdict.DENY, **rest})

    # spend

    def _spend(self, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
        scope, window = self._counter(entry, at)
        limit, soft = self._usd(entry, at, "limitUSD"), self._usd(entry, at, "softUSD")
        if "limitUSD" not in entry and "softUSD" not in entry:
            self._wrong(at, "give `limitUSD`, `softUSD` or both")
        if limit is not None and soft is not None and soft >= limit:
            self._wrong((*at, "softUSD"), "`softUSD` must be below `limitUSD`")
        if ("softUSD" in entry) != ("onSoft" in entry):
            self._wrong(at, "`softUSD` and `onSoft` come together")
        for key in ("message", "onDeny"):
            if "limitUSD" not in entry and key in entry:
                self._wrong((*at, key), f"`{key}` changes nothing without `limitUSD`")
        if limit is not None:
            yield self._limit(entry, at, scope, window, limit)
        if soft is not None and "onSoft" in entry:
            yield self._soft(entry, at, scope, window, soft)

    def _counter(self, entry: Mapping[str, Any], at: Path) -> tuple[str, str]:
        scope = entry.get("scope", "key" if "key" in entry else "")
        window = entry.get("window", "conversation" if scope == "conversation" else "")
        if ("scope" in entry) == ("key" in entry):
            self._wrong(at, "give `scope` or `key`, one of them")
        elif scope == "request" and window:
            self._wrong((*at, "window"), "the scope `request` is one call and has no window")
        elif scope in ("agent", "key") and window in ("", "conversation"):
            self._wrong(at, f"a limit by {scope} needs a `window`: minute, hour, day, week or month")
        if "timezone" in entry and window in ("", "conversation", "minute", "hour"):
            self._wrong((*at, "timezone"), "`timezone` changes nothing here: only a day, week or month has one")
        return scope, window

    def _usd(self, entry: Mapping[str, Any], at: Path, key: str) -> int | None:
        if key not in entry:
            return None
        amount = nanousd(entry[key])
        if amount is None:
            self._wrong((*at, key), f"`{key}` has more than nine decimals")
        return amount

    def _limit(self, entry: Mapping[str, Any], at: Path, scope: str, window: str, limit: int) -> Lowered:
        denial = {"onDeny": entry.get("onDeny", self._spec.get("onDeny", "error"))}
        common: dict[str, Any] = {"name": entry["id"], "phase": Phase.REQUEST, "action": Verdict.DENY}
        if self._mode(entry) is not Mode.SHADOW:
            return self._lowered(
                {**entry, **denial},
                at,
                (*at, "key"),
                when=entry.get("key", ""),
                cap_nanousd=limit,
                scope=scope,
                window=window,
                timezone=entry.get("timezone", "UTC"),
                **common,
            )
        total = self._total(entry, at, scope, window, "a limit in mode shadow")
        most = "spend.request.max_usd" if scope == "request" else f"{total}.usd + spend.request.max_usd"
        return self._lowered({**entry, **denial}, at, at, when=f"{most} > {limit / NANO!r}", **common)

    def _soft(self, entry: Mapping[str, Any], at: Path, scope: str, window: str, soft: int) -> Lowered:
        total, to = self._total(entry, at, scope, window, "`softUSD`"), entry["onSoft"]
        when = f"{total}.{'est_usd' if scope == 'request' else 'usd'} >= {soft / NANO!r}"
        rule_id = f"{entry['id']}.soft"
        common: dict[str, Any] = {"name": rule_id, "phase": Phase.REQUEST, "when": when}
        if to == "annotate":
            notes = {f"spend.{entry['id']}": "soft"}
            return self._lowered({}, at, at, action=Verdict.ANNOTATE, annotations=notes, **common)
        way = self._way({"to": to["route"]}, rule_id)
        return self._lowered({}, at, at, action=Verdict.ROUTE, way=way, **common)

    def _total(self, entry: Mapping[str, Any], at: Path, scope: str, window: str, what: str) -> str:
        total = TOTALS.get((scope, window))
        if total is None or entry.get("timezone", "UTC") != "UTC":
            self._wrong(at, f"{what} is possible per request, per conversation, and per agent and UTC day")
        return total or "spend.conversation"

    # data, escalation

    def _data(self, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
        phase, how = DIRECTIONS[entry["direction"]], HOW.get(entry["action"])
        if how and "message" in entry:
            self._wrong((*at, "message"), "`message` changes nothing here: it is for `action: deny`")
        yield self._lowered(
            entry,
            at,
            at,
            name=entry["id"],
            phase=phase,
            action=Verdict.REDACT if how else Verdict.DENY,
            when="true",
            hold=self._holds(entry, phase),
            redaction=_redaction(entry, how or How.MASK),
        )

    def _escalation(self, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
        phase = Phase(entry.get("phase", Phase.REQUEST))
        yield self._lowered(
            entry,
            at,
            (*at, "when"),
            name=entry["id"],
            phase=phase,
            action=Verdict.ESCALATE,
            when=entry["when"],
            hold=self._holds(entry, phase),
            escalation=self._handoff(entry, at),
        )

    def _handoff(self, entry: Mapping[str, Any], at: Path) -> Escalation:
        to, by = entry.get("to", "default"), HandoffBy(entry.get("handoff", HandoffBy.WEBHOOK))
        if not isinstance(to, str):
            self._wrong((*at, "to"), "`to` of an escalation is the name of a queue")
        if (by is HandoffBy.TOOL) != ("tool" in entry):
            self._wrong(at, "`handoff: tool` and `tool` come together")
        return Escalation(queue=str(to), by=by, tool=entry.get("tool", ""))

    def _holds(self, entry: Mapping[str, Any], phase: Phase) -> bool:
        return phase is Phase.RESPONSE and self._mode(entry) is Mode.ENFORCE

    # routing, rules

    def _routing(self, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
        way = self._way(entry, entry["id"])
        yield self._lowered(
            entry,
            at,
            (*at, "when"),
            name=entry["id"],
            phase=Phase.REQUEST,
            action=Verdict.ROUTE,
            when=entry["when"],
            way=way,
        )

    def _way(self, entry: Mapping[str, Any], rule: str) -> Way:
        to, fallback = entry["to"], tuple(entry.get("fallback", ()))
        rule_id = f"{self._document.name}/{rule}@{self._document.version}"
        if isinstance(to, str):
            return Way(to=to, fallback=fallback, rule=rule_id)
        tags = tuple(sorted({*to["cheapest"]["tags"]}))
        return Way(cheapest=True, tags=tags, fallback=fallback, rule=rule_id)

    def _rule(self, entry: Mapping[str, Any], at: Path) -> Iterator[Lowered]:
        phase, how = Phase(entry["phase"]), HOW.get(entry["action"])
        action = Verdict.REDACT if how else Verdict(entry["action"])
        key = self._condition(entry, at, needed=not how)
        if action not in VERDICTS[phase]:
            possible = f"there a rule may {', '.join(VERDICTS[phase])}"
            self._wrong((*at, "action"), f"`{entry['action']}` is not possible in phase {phase}: {possible}")
        for misfit, where in unfit(entry, phase, action):
            self._wrong((*at, misfit) if misfit in entry else at, where)
        if how and ("kinds" in entry) == ("pattern" in entry):
            self._wrong(at, "give `kinds` or `pattern`, one of them")
        hold = entry.get("stream", "hold" if action in WITHHOLDING else "after") == "hold"
        if hold and action not in WITHHOLDING and self._on_error(entry) is OnError.ALLOW:
            self._wrong((*at, "stream"), "`stream: hold` changes nothing here: this rule never withholds a reply")
        yield self._lowered(
            entry,
            at,
            (*at, key),
            name=entry["id"],
            phase=phase,
            action=action,
            when=entry.get(key, "true" if how else "false"),
            require=key == "require",
            tools=tuple(entry.get("tools", ())),
            hold=hold and self._holds(entry, phase),
            annotations=entry.get("annotations", {}),
            labels=tuple(entry.get("labels", ())),
            redaction=_redaction(entry, how) if how else None,
            **self._target(entry, at, action),
        )

    def _target(self, entry: Mapping[str, Any], at: Path, action: Verdict) -> dict[str, Any]:
        """Return where the verdict leads: to a model, to a human who takes over, or to one who approves."""
        match action:
            case Verdict.ROUTE if "to" in entry:
                return {"way": self._way(entry, entry["id"])}
            case Verdict.ESCALATE:
                return {"escalation": self._handoff(entry, at)}
            case Verdict.REQUIRE_APPROVAL:
                return {"approval": self._approval(entry, at)["approval"]}
        return {}


_SECTIONS: Mapping[str, Callable[[_Lowering, Mapping[str, Any], Path], Iterator[Lowered]]] = {
    "actions": _Lowering._action,
    "spend": _Lowering._spend,
    "data": _Lowering._data,
    "escalation": _Lowering._escalation,
    "routing": _Lowering._routing,
    "rules": _Lowering._rule,
}


def _redaction(entry: Mapping[str, Any], how: How) -> Redaction:
    return Redaction(
        how=how,
        kinds=tuple(entry.get("kinds", ())),
        pattern=entry.get("pattern", ""),
        allow=entry.get("allow", ""),
    )


def _seconds(duration: str) -> int:
    """Read a duration such as `15m`."""
    return int(duration[:-1]) * SECONDS[duration[-1]]


def _bare(rule_id: str) -> str:
    """Return the id as the document writes it."""
    return rule_id.partition("/")[2].rpartition("@")[0]
