"""Owns the evaluation of compiled expressions over the facts of one phase, within their budgets.

In: compiled rules, Facts. Out: whether each matches, or why that cannot be told. Never: an error taken for "no match".
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import NamedTuple, cast

import msgspec
from msgspec.structs import replace

from proxy import cel
from proxy.policy.activation import Activation, Maker, Shared
from proxy.policy.arguments import call_digest, conforms
from proxy.policy.patterns import Globs
from proxy.policy.quotas import amount
from proxy.policy.rewriting import overlaid, told
from proxy.policy.rule import NANO, Quota, Rule
from proxy.policy.search import Found, Search, Sought, counts, span, texts
from proxy.stretches import strings
from proxy.terms import Facts, Json, Mode, Phase, Span

# A unit is about 0.1 us of CPU where it is dear, at most 0.25 us whatever an expression does (bench/cel_hostile.py):
# 13 ms for all expressions of a phase, never above 33 ms. The language allows up to ten rules' worth in a phase, yet
# also no more than 20 ms (p99) without a break of the loop that serves everyone; the narrower bound is the one kept.
RULE_BUDGET = 100_000
PHASE_BUDGET = 130_000

TOTALS = "conversation.totals"
"""Under this name a policy reads its own totals."""

Reference = tuple[str, ...]
"""What an expression reads, step by step: `("request", "model")`."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled rule."""

    rule: Rule
    program: cel.Program
    message: cel.Program | None = None
    rewrites: Mapping[str, cel.Program] = {}
    """What is said in the place of what was, by its name."""
    tools: Globs | None = None
    """The tools to strip, or the calls that it is about."""
    search: Search | None = None
    """What must be found besides, for it to match."""
    key: bool = False
    """The program gives a spend limit's key: it never matches, but it can fail."""
    meter: Meter | None = None
    """The program gives what a call adds to a total: it never matches, but it can fail."""


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled Quota."""

    quota: Quota
    key: cel.Program
    failed: cel.Program | None = None


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One policy at one phase. `reads` are all paths that its expressions read."""

    constants: Mapping[str, object]
    variables: Mapping[str, cel.Program]
    selector: cel.Program | None
    checks: tuple[Check, ...]
    reads: frozenset[Reference]
    shared: frozenset[str] = frozenset()
    """The variables that follow from what the decisions of one call share."""
    totals: Mapping[str, str] = {}
    """Each total of the policy by its own name -> `policy/name`."""

    def told(self) -> Iterator[str]:
        """Yield the totals that its expressions read."""
        for path in self.reads:
            if path[:2] == ("conversation", "totals"):
                yield from [self.totals[path[2]]] if len(path) > 2 else self.totals.values()


class Outcome(NamedTuple):
    """What one rule says: whether it matches and what it found, or why that cannot be told."""

    matched: bool
    error: cel.CelError | None = None
    spans: tuple[Span, ...] = ()
    rewrites: Mapping[str, Json] = {}
    taken: tuple[int, str] | None = None
    """What the call adds to a total, and whose total that is."""


MOST_SPANS = 10_000
"""More that one rule would take out at a phase is an attack on whoever takes it out: some 20 ms."""
_EXEMPTED = 1024
"""Findings of a rule that its `allow` is asked of once, however often they come again."""


class Run:
    """One evaluation of a phase: its facts and what is left of its budget."""

    __slots__ = ("_overlay", "activation", "facts", "left")

    def __init__(self, facts: Facts, makers: Mapping[str, Maker], shared: Shared | None = None) -> None:
        self.facts = facts
        self.activation = Activation(facts, makers, shared)
        self.left = PHASE_BUDGET
        self._overlay: dict[str, object] = {}

    def evaluate(self, program: cel.Program, scope: Scope) -> object:
        """Return an expression's value; it is paid from what is left of the phase's budget."""
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

    def judge(self, check: Check, scope: Scope) -> Outcome:
        """Say whether a rule matches, or why that cannot be told; of one that searches, whether its condition does."""
        try:
            value = self.evaluate(check.program, scope)
            if check.meter:
                return Outcome(False, taken=(amount(value), told_key(self.evaluate(check.meter.key, scope))))
            if check.key:
                told_key(value)
                return Outcome(matched=False)
            matched = _truth(value) is not check.rule.require and not self._fits(check.rule, scope)
            return Outcome(matched, rewrites=self._rewrites(check, scope) if matched and check.rewrites else {})
        except cel.CelError as error:
            return Outcome(False, error)

    def sought(self, rule: Rule, search: Search) -> Iterator[Sought]:
        """Yield what a rule wants searched whose condition matches."""
        with contextlib.suppress(cel.CelError):  # `searched` meets the same error, and tells it.
            for _, text in self._texts(rule.phase):
                yield Sought(text, search.pattern)

    def searched(self, rule: Rule, search: Search, scope: Scope, found: Found) -> Generator[None, None, Outcome]:
        """Say what a rule whose condition matches finds and does not allow: if nothing, it does not match. A text at a
        time, since there may be thousands of finds in each."""
        spans = list[Span]()
        allows = functools.lru_cache(_EXEMPTED)(functools.partial(self._allows, search.allow, scope))
        try:
            for place, text in self._texts(rule.phase):
                for one in search.findings(text, found):
                    said = text[one.start : one.end]
                    if counts(rule.phase, self.facts, one) and not allows(one.label, said, one.score):
                        spans.append(span(rule, search.redaction.how, place, one))
                if len(spans) > MOST_SPANS:
                    raise cel.CelError("guard", f"more than {MOST_SPANS} stretches are to be taken out")
                yield
        except cel.CelError as error:
            return Outcome(False, error)
        return Outcome(bool(spans), None, tuple(spans))

    def _fits(self, rule: Rule, scope: Scope) -> bool:
        """Say whether the rule has a schema, and the arguments of the call fit it."""
        call = self.facts.tool
        if rule.schema is None or call is None:
            return False
        return conforms(cast("dict[str, object]", scope["tool.args"]), call.arguments, rule.schema)

    def _rewrites(self, check: Check, scope: Scope) -> Mapping[str, Json]:
        """Return what a rule says in the place of what was. Conditions see what was; what rewrites sees what the rules
        before it have said, so that one adds to the other."""
        rule, seen = check.rule, Scope(self, scope.unit)
        seen |= self._overlay
        said = {name: told(rule.phase, name, self.evaluate(program, seen)) for name, program in check.rewrites.items()}
        arguments = seen["tool.args"] if rule.phase is Phase.TOOL_CALL else {}
        changed = overlaid(rule.phase, said, arguments)
        if rule.phase is Phase.TOOL_CALL:
            self._hold_against_tool(changed["tool.args"])
        if rule.mode is Mode.ENFORCE and (rule.hold or rule.phase is not Phase.RESPONSE):
            self._overlay |= changed
            if self.facts.tool and rule.phase is Phase.TOOL_CALL:
                self._overlay["tool.call_digest"] = call_digest(self.facts.tool.name, self._overlay["tool.args"])
        return said

    def _hold_against_tool(self, arguments: object) -> None:
        """Raise CelError where a tool would get what it does not take."""
        call, offered = self.facts.tool, self.facts.request.tools
        schemas = [tool.schema for tool in offered if call and tool.name == call.name and tool.schema is not None]
        said = cast("dict[str, object]", arguments)
        if call and not all(conforms(said, call.arguments, schema) for schema in schemas):
            raise cel.CelError("no_such_overload", "the arguments as rewritten do not fit the tool's schema")

    def metered(self, check: Check, scope: Scope, outcome: Outcome) -> Outcome:
        """Return what a call adds to a total as rules have rewritten it, where they have."""
        if check.meter is None or not self._overlay:
            return outcome
        seen = Scope(self, scope.unit)
        seen |= self._overlay
        return self.judge(check, seen)

    def _texts(self, phase: Phase) -> Iterable[tuple[str, str]]:
        """Yield the texts of a phase by their places, as rules have rewritten them: what is to be taken out is looked
        for in what is said."""
        if phase is Phase.TOOL_CALL:
            return strings(self._overlay["tool.args"] if "tool.args" in self._overlay else self.activation["tool.args"])
        text, response = self._overlay.get("response.text"), self.facts.response
        if isinstance(text, str) and response:
            return texts(phase, replace(self.facts, response=replace(response, text=text)))
        return texts(phase, self.facts)

    def _allows(self, allow: cel.Program | None, scope: Scope, kind: str, text: str, score: float) -> bool:
        if allow is None:
            return False
        scope |= {"finding.kind": kind, "finding.text": text, "finding.score": float(score)}
        return _truth(self.evaluate(allow, scope))

    def failed(self, meter: Meter, scope: Scope) -> bool:
        """Say whether a result shows that its call did not happen; what cannot be told is not shown."""
        try:
            return meter.failed is not None and _truth(self.evaluate(meter.failed, scope))
        except cel.CelError:
            return False

    def used(self, total: str) -> float:
        """Return what this conversation has added to a total."""
        return self.facts.totals.get(total, 0) / NANO

    def message(self, check: Check, scope: Scope) -> str:
        """Return the rule's text; where its expression fails or gives none, the fixed one."""
        value: object = None
        if check.message is not None:
            try:
                value = self.evaluate(check.message, scope)
            except cel.CelError:
                value = None
        return value if isinstance(value, str) and value else check.rule.message


class Scope(dict[str, object]):
    """All variables as one policy sees them: the facts, and its own `params`, `policy` and `vars`."""

    __slots__ = ("_failed", "_run", "unit")

    def __init__(self, run: Run, unit: Unit) -> None:
        self._run = run
        self.unit = unit
        self._failed: dict[str, cel.CelError] = {}

    def __missing__(self, name: str) -> object:
        unit = self.unit
        if name in unit.variables:
            value = self._computed(name, unit.variables[name])
        elif name in unit.constants:
            value = unit.constants[name]
        elif name.startswith(TOTALS):
            value = self._totals(name.removeprefix(TOTALS)[1:])
        else:
            value = self._run.activation[name]
        self[name] = value
        return value

    def _totals(self, name: str) -> object:
        """Return one total of the conversation, or all that the policy has."""
        totals = {total: self._run.used(whole) for total, whole in self.unit.totals.items()}
        return totals[name] if name else totals

    def _computed(self, name: str, program: cel.Program) -> object:
        """Evaluate a variable once, also when it fails; what the decisions of a call share, once for all."""
        if name in self._failed:
            raise self._failed[name]
        # The constants of a policy are the same object in all of its phases, and stand for it.
        known, key = self._run.activation.shared.values, (id(self.unit.constants), name)
        if key in known:
            return known[key]
        try:
            value = self._run.evaluate(program, self)
            if name in self.unit.shared:
                known[key] = value
            return value
        except cel.CelError as error:
            self._failed[name] = error
            raise


def _truth(value: object) -> bool:
    if value is True or value is False:
        return value
    raise cel.CelError("no_such_overload", "the condition is neither true nor false")


def told_key(value: object) -> str:
    """Return the key of a limit or total; raise CelError if it is none."""
    if isinstance(value, str) and value:
        return value
    raise cel.CelError("no_such_overload", "the key is not a text, or is empty: it does not tell whose total it is")
