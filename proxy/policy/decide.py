"""Owns the decision: all rules of a phase in, the most restrictive verdict out.

In: compiled policies, Facts. Out: Decisions, Limits. Never: a rule skipped because another matched; an error taken for
"no match"; an exception, except BudgetExceeded where a limit cannot be told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import msgspec

from proxy import cel
from proxy.errors import BudgetExceeded
from proxy.policy.facts import Activation, Maker
from proxy.policy.lower import Document, OnError, Rule
from proxy.policy.patterns import Globs
from proxy.terms import Decision, Facts, Limit, Mode, OnDeny, Phase, RuleHit, Verdict, Way

RULE_BUDGET = 100_000
PHASE_BUDGET = 1_000_000
KEPT_CALLERS = 1024
"""So many (agent, model, tenant) are remembered with the policies that apply to them."""

SAFE_TEXT = "I'm sorry, but I can't help with that here."
ERROR_TEXT = "I'm sorry, something went wrong on our side and I can't do that right now."

Path = tuple[str, ...]
_WEIGHT = {verdict: verdict.weight for verdict in Verdict}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled rule."""

    rule: Rule
    program: cel.Program
    message: cel.Program | None = None
    tools: Globs | None = None
    """The tools to strip, or the calls that it is about."""
    key: bool = False
    """The program gives a spend limit's key: it never matches, but it can fail."""


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One policy at one phase. `reads` are all paths that its expressions read."""

    constants: Mapping[str, object]
    variables: Mapping[str, cel.Program]
    selector: cel.Program | None
    checks: tuple[Check, ...]
    reads: frozenset[Path]


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled policy."""

    document: Document
    priority: int
    agents: Globs
    models: Globs
    tenants: Globs
    rules: tuple[Rule, ...]
    units: Mapping[Phase, Unit]
    caps: tuple[Rule, ...]
    """Spend limits that are enforced."""

    def takes(self, agent: str, model: str, tenant: str) -> bool:
        """Say whether the selector's globs let this caller in."""
        return self.agents.match(agent) and self.models.match(model) and self.tenants.match(tenant)


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule said of some facts, with each sub-expression's value."""

    rule: Rule
    outcome: str
    """`matched`, `unmatched` or `error`."""
    error: str = ""
    values: tuple[tuple[str, str], ...] = ()
    """(sub-expression, value) pairs, outermost first."""


class PolicySet:
    """All loaded policies, compiled; never changes."""

    def __init__(
        self,
        policies: tuple[Compiled, ...],
        *,
        digest: str,
        makers: Mapping[str, Maker],
        window_key: Callable[[str, str, int], str],
    ) -> None:
        self.digest = digest
        """Of the whole bundle, also where only some of its policies apply."""
        self.documents = tuple(policy.document for policy in policies)
        self.rules = tuple(rule for policy in policies for rule in policy.rules)
        self._policies = policies
        self._makers = makers
        self._window_key = window_key
        self._units = {p: tuple(c.units[p] for c in policies if p in c.units) for p in Phase}
        self._reads = {p: frozenset[Path]().union(*(unit.reads for unit in self._units[p])) for p in Phase}
        self._caps = tuple(policy for policy in policies if policy.caps)
        checks = [check for units in self._units.values() for unit in units for check in unit.checks]
        self.holds_response = any(check.rule.hold for check in checks)
        """Some response rule may deny, so replies wait until they are judged."""
        headers = {path[2] for paths in self._reads.values() for path in paths if path[:2] == ("request", "headers")}
        self.visible_headers = frozenset(headers)
        """Lower-cased names of the request headers that rules read; Facts.headers needs no others."""
        self._narrowed: dict[tuple[str, str, str], PolicySet] = {}
        self._subsets: dict[tuple[str, ...], PolicySet] = {}

    def narrow(self, agent: str, model: str, tenant: str) -> PolicySet:
        """Return the set of the policies whose selector takes this caller; it can do all that the whole can."""
        caller = (agent, model, tenant)
        found = self._narrowed.get(caller)
        if found is None:
            if len(self._narrowed) >= KEPT_CALLERS:
                self._narrowed.clear()
            self._narrowed[caller] = found = self._subset(tuple(p for p in self._policies if p.takes(*caller)))
        return found

    def _subset(self, policies: tuple[Compiled, ...]) -> PolicySet:
        if len(policies) == len(self._policies):
            return self
        names = tuple(policy.document.name for policy in policies)
        if names not in self._subsets:
            self._subsets[names] = PolicySet(
                policies, digest=self.digest, makers=self._makers, window_key=self._window_key
            )
        return self._subsets[names]

    def has(self, phase: Phase) -> bool:
        """Say whether any rule is asked at this phase."""
        return any(unit.checks for unit in self._units[phase])

    def guards_needed(self, phase: Phase) -> tuple[str, ...]:
        """Return the names of the guards whose results the phase's rules read."""
        return tuple(sorted({path[1] for path in self._reads[phase] if path[0] == "guards"}))

    def reads(self, phase: Phase, path: Path) -> bool:
        """Say whether a rule of the phase reads this fact or a part of it, e.g. `("spend", "agent")`."""
        return any(read[: len(path)] == path or path[: len(read)] == read for read in self._reads[phase])

    def decide(self, phase: Phase, facts: Facts, decision_id: str) -> Decision:
        """Evaluate every applicable rule; the most restrictive verdict wins, an error follows its onError."""
        tally = _Tally(facts)
        for check, scope, matched, error in self._outcomes(phase, facts):
            if matched or error:
                tally.add(check, scope, error)
        return tally.decision(phase, decision_id)

    def explain(self, phase: Phase, facts: Facts) -> tuple[Explained, ...]:
        """Return what every applicable rule says and why."""
        return tuple(
            Explained(
                rule=check.rule,
                outcome="error" if error else "matched" if matched else "unmatched",
                error=str(error or ""),
                values=tuple(
                    (source, _shown(value)) for source, value in check.program.explain(scope, cel.Budget(RULE_BUDGET))
                ),
            )
            for check, scope, matched, error in self._outcomes(phase, facts)
        )

    def limits(self, facts: Facts) -> tuple[Limit, ...]:
        """Return the hard spend limits of this call; scope `request` bounds the one call and keeps no counter.

        Raises BudgetExceeded for a limit whose key cannot be told.
        """
        chosen = self._for(facts)
        if not chosen._caps:
            return ()
        run = _Run(facts, self._makers)
        return tuple(limit for policy in chosen._caps for limit in self._limits(policy, run))

    def _for(self, facts: Facts) -> PolicySet:
        return self.narrow(facts.caller.agent, facts.request.model, facts.caller.tenant)

    def _outcomes(self, phase: Phase, facts: Facts) -> Iterator[tuple[Check, Scope, bool, cel.CelError | None]]:
        """Yield each applicable rule with whether it matched and why it failed; nothing stops at a match."""
        run = _Run(facts, self._makers)
        tool = facts.tool.name if phase is Phase.TOOL_CALL and facts.tool else ""
        for unit in self._for(facts)._units[phase]:
            scope = Scope(run, unit)
            selected, failure = run.selects(unit, scope)
            for check in unit.checks if selected else ():
                if phase is Phase.TOOL_CALL and check.tools and not check.tools.match(tool):
                    continue
                matched, error = (False, failure) if failure else run.judge(check, scope)
                yield check, scope, matched, error

    def _limits(self, policy: Compiled, run: _Run) -> Iterator[Limit]:
        unit = policy.units[Phase.REQUEST]
        scope = Scope(run, unit)
        # A selector that fails selects: its limits hold rather than fall away.
        if run.selects(unit, scope)[0]:
            keys = {check.rule.id: check for check in unit.checks if check.key}
            for rule in policy.caps:
                name = _counter(rule, run, scope, keys)
                if name:
                    yield Limit(
                        rule=rule.id,
                        scope=name,
                        window=self._window_key(rule.window, rule.timezone, run.facts.at_ms) if rule.window else "",
                        cap_nanousd=rule.cap_nanousd or 0,
                        message=rule.message,
                        on_deny=rule.on_deny,
                    )


class Scope(dict[str, object]):
    """All variables as one policy sees them: the facts, and its own `params`, `policy` and `vars`."""

    __slots__ = ("_failed", "_run", "_unit")

    def __init__(self, run: _Run, unit: Unit) -> None:
        self._run = run
        self._unit = unit
        self._failed: dict[str, cel.CelError] = {}

    def __missing__(self, name: str) -> object:
        unit = self._unit
        if name in unit.variables:
            value = self._computed(name, unit.variables[name])
        elif name in unit.constants:
            value = unit.constants[name]
        else:
            value = self._run.activation[name]
        self[name] = value
        return value

    def _computed(self, name: str, program: cel.Program) -> object:
        """Evaluate a variable once, also when it fails."""
        if name in self._failed:
            raise self._failed[name]
        try:
            return self._run.evaluate(program, self)
        except cel.CelError as error:
            self._failed[name] = error
            raise


class _Run:
    """One evaluation of a phase: its facts and what is left of its budget."""

    __slots__ = ("activation", "facts", "left")

    def __init__(self, facts: Facts, makers: Mapping[str, Maker]) -> None:
        self.facts = facts
        self.activation = Activation(facts, makers)
        self.left = PHASE_BUDGET

    def evaluate(self, program: cel.Program, scope: Scope) -> object:
        allowance = min(RULE_BUDGET, self.left)
        budget = cel.Budget(allowance)
        try:
            return program.evaluate(scope, budget)
        finally:
            self.left -= allowance - max(budget.left, 0)

    def selects(self, unit: Unit, scope: Scope) -> tuple[bool, cel.CelError | None]:
        """Say whether the policy applies; if that cannot be told, it applies and all its rules fail."""
        if unit.selector is None:
            return True, None
        try:
            return _truth(self.evaluate(unit.selector, scope)), None
        except cel.CelError as error:
            return True, error

    def judge(self, check: Check, scope: Scope) -> tuple[bool, cel.CelError | None]:
        """Say whether a rule matches, and why that cannot be told."""
        try:
            value = self.evaluate(check.program, scope)
            if check.key:
                _key(value)
                return False, None
            return _truth(value) is not check.rule.require, None
        except cel.CelError as error:
            return False, error


def _truth(value: object) -> bool:
    if value is True or value is False:
        return value
    raise cel.CelError("no_such_overload", "the condition is neither true nor false")


def _key(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise cel.CelError("no_such_overload", "the key of a spend limit is not a text, or is empty")


def _counter(rule: Rule, run: _Run, scope: Scope, keys: Mapping[str, Check]) -> str:
    """Name what a limit is counted under; empty where its key fails and `onError: allow` says to go on without."""
    facts = run.facts
    match rule.scope:
        case "request":
            return "request"
        case "conversation":
            return f"conversation:{facts.session.id}"
        case "agent":
            return f"agent:{facts.caller.agent}"
    try:
        key = _key(run.evaluate(keys[rule.id].program, scope))
    except cel.CelError as error:
        if rule.on_error is OnError.ALLOW:
            return ""
        raise BudgetExceeded("It cannot be told whose budget this call is.", rule=rule.id) from error
    # The key may name a customer, and counters are stored.
    name = rule.id.rpartition("@")[0]
    return f"key:{name}:{hashlib.blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


class _Tally:
    """Adds up what the rules of one phase say."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._hits: list[RuleHit] = []
        self._verdict = self._shadow = Verdict.ALLOW
        self._winner: RuleHit | None = None
        self._on_deny = OnDeny.REPLY
        self._way: Way | None = None
        self._strip: dict[str, None] = {}
        self._annotations: dict[str, str] = {}

    def add(self, check: Check, scope: Scope, error: cel.CelError | None) -> None:
        """Take in a rule that matched, or that failed."""
        rule = check.rule
        verdict = rule.action
        if error:
            verdict = Verdict.DENY if rule.on_error is OnError.DENY else Verdict.ALLOW
        hit = RuleHit(
            id=rule.id,
            action=verdict,
            mode=rule.mode,
            severity=rule.severity,
            message="" if error else _message(check, scope),
            error=str(error or ""),
        )
        self._hits.append(hit)
        after = rule.phase is Phase.RESPONSE and not rule.hold and verdict is Verdict.DENY
        if rule.mode is Mode.SHADOW or after:
            self._shadow = max(self._shadow, verdict, key=_WEIGHT.__getitem__)
        else:
            self._act(check, hit)

    def _act(self, check: Check, hit: RuleHit) -> None:
        gain = _WEIGHT[hit.action] - _WEIGHT[self._verdict]
        # A rule that says no has a text for it; a rule that failed has none.
        tells_more = self._winner is not None and self._winner.error and not hit.error
        if gain > 0 or (gain == 0 and tells_more):
            self._verdict, self._winner, self._on_deny = hit.action, hit, check.rule.on_deny
        if not hit.error:
            self._way = self._way or check.rule.way
            self._annotations = {**check.rule.annotations, **self._annotations}
            if hit.action is Verdict.STRIP_TOOLS and check.tools:
                names = (tool.name for tool in self._facts.request.tools)
                self._strip |= dict.fromkeys(filter(check.tools.match, names))

    def decision(self, phase: Phase, decision_id: str) -> Decision:
        """Close the account."""
        winner, message = self._winner, ""
        if winner and self._verdict is Verdict.DENY:
            message = ERROR_TEXT if winner.error else winner.message or SAFE_TEXT
        return Decision(
            id=decision_id,
            phase=phase,
            verdict=self._verdict,
            shadow_verdict=self._shadow,
            reason="" if winner is None else "policy_error" if winner.error else "rule",
            rules=tuple(self._hits),
            message=message,
            rule=winner.id if winner else "",
            on_deny=self._on_deny,
            way=self._way,
            strip=tuple(self._strip),
            annotations=self._annotations,
            subject=self._facts.tool.id if phase is Phase.TOOL_CALL and self._facts.tool else "",
        )


def _message(check: Check, scope: Scope) -> str:
    """Return the rule's text; where its expression fails or gives none, the fixed one."""
    if check.message is not None:
        try:
            value = check.message.evaluate(scope, cel.Budget(RULE_BUDGET))
        except cel.CelError:
            value = None
        if isinstance(value, str) and value:
            return value
    return check.rule.message


def _shown(value: object) -> str:
    """Write a value for a person, on one line and not endlessly."""
    text = f"error: {value}" if isinstance(value, cel.CelError) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
