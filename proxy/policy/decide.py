"""Owns the set of all loaded policies: what applies to a call, what that needs to know, and what it decides.

In: compiled policies, Facts. Out: Decisions, Limits. Never: a rule skipped because another matched; an exception,
except BudgetExceeded where a limit cannot be told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from proxy import cel
from proxy.errors import BudgetExceeded
from proxy.policy.activation import Maker, Shared
from proxy.policy.charges import told, total
from proxy.policy.evaluation import RULE_BUDGET, Check, Meter, Outcome, Reference, Run, Scope, Unit, told_key
from proxy.policy.functions import Functions, look
from proxy.policy.patterns import Globs
from proxy.policy.question import Question
from proxy.policy.rule import Document, OnError, Rule
from proxy.terms import Decision, Facts, Level, Limit, Mode, Obligation, OnDeny, OnDisconnect, Phase, Reach, Spend

_SPENT = {"est_nanousd": "request", "max_nanousd": "request", "remaining_nanousd": "remaining"}
"""Fields of Spend that rules know by another name."""
_PINS = (("tool", "changed"), ("request", "tools_changed"))
KEPT_CALLERS = 1024
"""So many (agent, model, tenant) are remembered with the policies that apply to them."""


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
    levels: tuple[Rule, ...] = ()
    """How much agents may do, and in conversations with which labels."""

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
        functions: Functions,
    ) -> None:
        self.digest = digest
        """Of the whole bundle, also where only some of its policies apply."""
        self.documents = tuple(policy.document for policy in policies)
        self.rules = tuple(rule for policy in policies for rule in policy.rules)
        self._policies = policies
        self._makers = makers
        self._functions = functions
        self._units = {p: tuple(c.units[p] for c in policies if p in c.units) for p in Phase}
        self._reads = {p: frozenset[Reference]().union(*(unit.reads for unit in self._units[p])) for p in Phase}
        self._asked = frozenset(p for p, units in self._units.items() if any(unit.checks for unit in units))
        self._guards = {p: tuple(sorted({path[1] for path in self._reads[p] if path[0] == "guards"})) for p in Phase}
        self.guards = tuple(dict.fromkeys(name for names in self._guards.values() for name in names))
        """Names of the guards whose results some rule reads."""
        self._caps = tuple(policy for policy in policies if policy.caps)
        self._aborts = tuple(p for p in policies if p.document.on_disconnect is OnDisconnect.ABORT)
        checks = [check for unit in self._all_units() for check in unit.checks]
        self.holds_response = any(check.rule.hold for check in checks)
        """Some response rule may withhold or change a reply, so replies wait until they are judged."""
        self.explains = any(
            check.rule.on_deny is OnDeny.EXPLAIN
            and check.rule.mode is Mode.ENFORCE
            and check.rule.phase is Phase.TOOL_CALL
            for check in checks
        )
        """Some rule wants the model to be told of a call that is denied, so nothing of a reply with calls may leave."""
        self.reach = _reach(checks)
        """What rules of phase chunk have to see of a text; None if there is none."""
        headers = {path[2] for paths in self._reads.values() for path in paths if path[:2] == ("request", "headers")}
        self.visible_headers = frozenset(headers)
        """Lower-cased names of the request headers that rules read; Facts.headers needs no others."""
        self.computed = frozenset(check.rule.id for check in checks if check.message)
        """The rules whose words are made of what was said: records keep none of them."""
        self.records = any(Obligation.RECORD in check.rule.obligations for check in checks)
        """Some rule may ask to keep what was known along a call, so all of that has to be known."""
        reads = {name: ("spend", _SPENT.get(name, name)) for name in Spend.__struct_fields__}
        self.spend_read = frozenset(
            name for name, path in reads.items() if self.records or any(self.reads(p, path) for p in Phase)
        )
        """The fields of Facts.spend that some rule reads, or may ask to keep."""
        self.pins_tools = any(self.reads(p, path) for p in Phase for path in _PINS)
        """Some rule asks whether the definition of a tool has changed, so sessions have to know what it was."""
        meters = [(unit, check.rule.id, check.meter) for unit in self._units[Phase.TOOL_CALL] for check in unit.checks]
        self._meters = {total(rule_id, meter.quota.name): (unit, meter) for unit, rule_id, meter in meters if meter}
        self._told = tuple(sorted({name for unit in self._all_units() for name in unit.told()}))
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

    def without(self, name: str) -> PolicySet:
        """Return the set without the policy of that name."""
        return self._subset(tuple(policy for policy in self._policies if policy.document.name != name))

    def _subset(self, policies: tuple[Compiled, ...]) -> PolicySet:
        if len(policies) == len(self._policies):
            return self
        names = tuple(policy.document.name for policy in policies)
        if names not in self._subsets:
            self._subsets[names] = PolicySet(
                policies, digest=self.digest, makers=self._makers, functions=self._functions
            )
        return self._subsets[names]

    def level(self, labels: Collection[str]) -> Level | None:
        """Return how much an agent may do at most in a conversation with these labels; None where no policy says."""
        told = [level for policy in self._policies for level in _levels(policy, labels)]
        return min(told, key=lambda level: level.rank, default=None)

    def has(self, phase: Phase) -> bool:
        """Say whether any rule is asked at this phase."""
        return phase in self._asked

    def guards_needed(self, phase: Phase) -> tuple[str, ...]:
        """Return the names of the guards whose results the phase's rules read."""
        return self._guards[phase]

    def reads(self, phase: Phase, path: Reference) -> bool:
        """Say whether a rule of the phase reads this fact or a part of it, e.g. `("spend", "agent")`."""
        return any(read[: len(path)] == path or path[: len(read)] == read for read in self._reads[phase])

    def ask(self, phase: Phase, facts: Facts, decision_id: str, shared: Shared | None = None) -> Question:
        """Ask every applicable rule; it is decided as soon as what is sought is searched. What is `shared` by the
        decisions of one call is made once for all of them."""
        run = Run(facts, self._makers, shared)
        return Question(phase, decision_id, run, self._outcomes(phase, run), self._functions.window_key)

    def decide(
        self, phase: Phase, facts: Facts, decision_id: str, *, shared: Shared | None = None, paid: bool = False
    ) -> Decision:
        """Ask every applicable rule; the most restrictive verdict wins, an error follows its onError.

        What has to be searched for them is searched now, in one go; `paid` says from the phase's budget, so that it
        cannot take long.
        """
        return self._settled(self.ask(phase, facts, decision_id, shared), paid).decision()

    def _settled(self, question: Question, paid: bool = False) -> Question:
        """Search here and now what a question needs."""
        budget = cel.Budget(question.run.left) if paid else None
        found = {sought: look(self._functions, sought, budget) for sought in question.sought}
        if budget:
            question.run.left = max(0, budget.left)
        for _ in question.weigh(found):
            pass
        return question

    def told_totals(self, session_id: str) -> dict[str, tuple[str, str]]:
        """Return of each total that rules read the counter of what this conversation has added to it."""
        return {name: told(name, session_id, self._functions.window_key) for name in self._told}

    def failed(self, name: str, facts: Facts) -> bool:
        """Say whether the result in these facts shows that its call did not happen, by what the total says of that."""
        unit, meter = self._meters.get(name, (None, None))
        return meter is not None and unit is not None and self._failed(unit, meter, facts)

    def _failed(self, unit: Unit, meter: Meter, facts: Facts) -> bool:
        run = self._run(facts)
        return run.failed(meter, Scope(run, unit))

    def explain(self, phase: Phase, facts: Facts) -> tuple[Explained, ...]:
        """Return what every applicable rule says and why."""
        return tuple(
            Explained(
                rule=check.rule,
                outcome="error" if outcome.error else "matched" if outcome.matched else "unmatched",
                error=str(outcome.error or ""),
                values=tuple(
                    (source, _shown(value)) for source, value in check.program.explain(scope, cel.Budget(RULE_BUDGET))
                ),
            )
            for check, scope, outcome in self._settled(self.ask(phase, facts, "")).answers
        )

    def limits(self, facts: Facts) -> tuple[Limit, ...]:
        """Return the hard spend limits of this call; scope `request` bounds the one call and keeps no counter.

        Raises BudgetExceeded for a limit whose key cannot be told.
        """
        chosen = self._for(facts)
        if not chosen._caps:
            return ()
        run = self._run(facts)
        return tuple(limit for policy in chosen._caps for limit in self._limits(policy, run))

    def on_disconnect(self, facts: Facts) -> OnDisconnect:
        """Return what becomes of a reply whose client leaves: one policy that aborts is enough."""
        units = [policy.units[Phase.REQUEST] for policy in self._for(facts)._aborts]
        if not units:
            return OnDisconnect.DRAIN
        run = self._run(facts)
        # As with limits a selector that fails selects.
        aborts = any(run.selects(unit, Scope(run, unit))[0] for unit in units)
        return OnDisconnect.ABORT if aborts else OnDisconnect.DRAIN

    def _all_units(self) -> Iterator[Unit]:
        return (unit for units in self._units.values() for unit in units)

    def _run(self, facts: Facts) -> Run:
        return Run(facts, self._makers)

    def _for(self, facts: Facts) -> PolicySet:
        return self.narrow(facts.caller.agent, facts.request.model, facts.caller.tenant)

    def _outcomes(self, phase: Phase, run: Run) -> Iterator[tuple[Check, Scope, Outcome]]:
        """Yield each applicable rule with what it says; nothing stops at a match."""
        facts = run.facts
        for unit in self._for(facts)._units[phase]:
            scope = Scope(run, unit)
            selected, failure = run.selects(unit, scope)
            for check in unit.checks if selected else ():
                if check.tools and not any(map(check.tools.match, _tools(phase, facts))):
                    continue
                yield check, scope, Outcome(False, failure) if failure else run.judge(check, scope)

    def _limits(self, policy: Compiled, run: Run) -> Iterator[Limit]:
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
                        window=self._functions.window_key(rule.window, rule.timezone, run.facts.at_ms)
                        if rule.window
                        else "",
                        cap_nanousd=rule.cap_nanousd or 0,
                        message=rule.message,
                        on_deny=rule.on_deny,
                        fit=rule.fit,
                    )


def _tools(phase: Phase, facts: Facts) -> list[str]:
    """Return the tools that rules with `tools` are about: the one that is called, or those that the request offers."""
    if phase is Phase.TOOL_CALL:
        return [facts.tool.name] if facts.tool else []
    return [tool.name for tool in facts.request.tools]


def _reach(checks: Sequence[Check]) -> Reach | None:
    rules = [check.rule for check in checks if check.rule.phase is Phase.CHUNK]
    if not rules:
        return None
    return Reach(
        behind=max(rule.behind for rule in rules),
        ahead=max(rule.ahead for rule in rules),
        waits=any(rule.mode is Mode.ENFORCE for rule in rules),
    )


def _levels(policy: Compiled, labels: Collection[str]) -> list[Level]:
    """Return what a policy says of conversations with these labels, else what it says of all."""
    of = {rule.labels: rule.level for rule in policy.levels if rule.level}
    return [of[label,] for label in labels if (label,) in of] or [level for names, level in of.items() if not names]


def _counter(rule: Rule, run: Run, scope: Scope, keys: Mapping[str, Check]) -> str:
    """Name what a limit is counted under; empty where its key fails and `onError: allow` says to go on without."""
    facts = run.facts
    match rule.scope:
        case "request":
            return "request"
        case "conversation":
            return f"conversation:{facts.session.id}"
        case "agent":
            return f"agent:{facts.caller.agent}"
        case "tenant":
            return f"tenant:{facts.caller.tenant}"
        case "user" if facts.user:
            return f"user:{facts.user}"
    try:
        if rule.scope == "user":
            raise cel.CelError("no_such_field", "the request does not say who its user is")
        key = told_key(run.evaluate(keys[rule.id].program, scope))
    except cel.CelError as error:
        if rule.on_error is OnError.ALLOW:
            return ""
        raise BudgetExceeded("It cannot be told whose budget this call is.", rule=rule.id) from error
    # The key may name a customer, and counters are stored.
    name = rule.id.rpartition("@")[0]
    return f"key:{name}:{hashlib.blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def _shown(value: object) -> str:
    """Write a value for a person, on one line and not endlessly."""
    text = f"error: {value}" if isinstance(value, cel.CelError) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
