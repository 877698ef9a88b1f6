"""Owns the step from documents to a PolicySet: references checked, every expression compiled, all problems at once.

In: Sources, and the names that config knows. Out: a PolicySet, or PolicyProblems. Never: half a set.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from msgspec.structs import replace

from proxy import cel
from proxy.documents import Path, Problems, Source, Text, by_place, check, read
from proxy.policy.activation import SHARED, Maker
from proxy.policy.decide import Compiled, PolicySet
from proxy.policy.evaluation import TOTALS, Check, Meter, Reference, Unit
from proxy.policy.facts import makers
from proxy.policy.functions import Functions, table
from proxy.policy.kill import stops
from proxy.policy.lower import lower
from proxy.policy.names import Names
from proxy.policy.pattern import LONGEST, Pattern
from proxy.policy.patterns import Globs
from proxy.policy.rule import Lowered, Policy, Redaction, Rule, digest_of
from proxy.policy.search import Search
from proxy.policy.widths import widest
from proxy.terms import Mode, OnDisconnect, Phase

LEAST = 32
"""Characters that a rule of phase chunk sees around a step, at least."""
BOUND_IT = "bound it, such as by {1,64}, or judge whole replies in phase response (`stream: hold`)"
FAILED_ROOTS = ("params", "policy", "result")
"""What tells from a result that its call did not happen."""
_SAID = {"request.messages", "request.user_text", "request.system", "conversation.tool_results"}
"""What rules can take personal data out of, before it goes to the provider."""
_NO_FINDING = "`finding` is there only in `allow`, which is asked of each finding"


class PolicyProblems(Exception):
    """Everything that is wrong with the policies, each as `file:line:column: what, and what to do`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(
    sources: Sequence[Source],
    *,
    functions: Functions,
    guards: Mapping[str, Collection[str]],
    routes: Collection[str] | None = None,
    kill: Sequence[Source] = (),
) -> PolicySet:
    """Compile policies, and what a kill switch stops; raise PolicyProblems with every problem at once.

    `guards` maps each configured guard to the labels it can give (empty: not known); `routes` are the aliases and
    pools that rules may route to (None: not checked).
    """
    problems = Problems()
    texts = (text for source in sources for text in _documents(source, problems))
    policies = [lower(text, problems) for text in (*texts, *_stops(kill, problems))]
    house = _House(functions, guards, routes, problems)
    ready = [_Compiler(policy, house).compiled() for policy in _distinct(policies, problems)]
    if problems.found:
        raise PolicyProblems(sorted(problems.found, key=by_place))
    ready.sort(key=lambda policy: (policy.priority, policy.document.name))
    digest = digest_of(sorted([c.document.name, c.document.version, c.document.digest] for c in ready))
    return PolicySet(tuple(ready), digest=digest, makers=house.makers, functions=functions)


def schema(name: str) -> bytes:
    """Return a JSON Schema that ships with this package."""
    return (files(__package__) / name).read_bytes()


def _documents(source: Source, problems: Problems) -> Iterator[Text]:
    before = len(problems.found)
    texts = read(source, problems)
    if not texts and len(problems.found) == before:
        problems.add(f"{source.path}:1:1", "this file holds no policy")
    for text in texts:
        if check(text, schema("schema.json"), problems):
            yield text


def _stops(kill: Sequence[Source], problems: Problems) -> Iterator[Text]:
    """Yield the policy that a kill switch stands for; an empty file stops nothing."""
    for text in (text for source in kill for text in read(source, problems)):
        if text.value is not None and check(text, schema("kill.schema.json"), problems):
            yield from stops(text)


def _distinct(policies: Sequence[Policy], problems: Problems) -> Iterator[Policy]:
    names: dict[str, str] = {}
    for policy in policies:
        name, place = policy.document.name, policy.text.at(("metadata", "name"))
        if name in names:
            problems.add(place, f"`{name}` is already the name of the policy at {names[name]}")
        names.setdefault(name, place)
        yield policy


class _House:
    """What all policies of one load share."""

    def __init__(
        self,
        functions: Functions,
        guards: Mapping[str, Collection[str]],
        routes: Collection[str] | None,
        problems: Problems,
    ) -> None:
        self.functions = functions
        self.table = table(functions)
        self.guards = guards
        self.routes = routes
        self.problems = problems
        self.makers: Mapping[str, Maker] = makers(guards)


class _Compiler:
    """Compiles one policy."""

    def __init__(self, policy: Policy, house: _House) -> None:
        self._policy = policy
        self._text = policy.text
        self._house = house
        self._problems = house.problems
        document = policy.document
        self._constants: dict[str, object] = {
            "params": dict(policy.params),
            **{f"params.{name}": value for name, value in policy.params.items()},
            **{f"policy.{field}": getattr(document, field) for field in ("name", "version", "digest")},
        }
        self._defined: dict[str, tuple[int, str]] = {}
        quotas = [lowered.rule.quota for lowered in policy.rules if lowered.rule.quota]
        self._totals = {quota.name: f"{document.name}/{quota.name}" for quota in quotas if "." not in quota.name}
        told = [TOTALS, *(f"{TOTALS}.{name}" for name in self._totals)] if self._totals else []
        self._names = Names((*house.makers, *self._constants, *told), self._defined)
        self._variables: dict[tuple[Phase, str], tuple[cel.Program, frozenset[Reference]] | None] = {}

    def compiled(self) -> Compiled:
        """Compile everything; what is wrong goes on the list."""
        policy = self._policy
        self._rules = [replace(lowered, rule=self._reaching(lowered)) for lowered in policy.rules]
        self._define()
        self._check_topics()
        checks = {phase: list(self._checks(phase)) for phase in Phase}
        rules = tuple(lowered.rule for lowered in self._rules)
        units = {phase: self._unit(phase, found) for phase, found in checks.items() if found or self._acts(phase)}
        return Compiled(
            document=policy.document,
            priority=policy.priority,
            agents=Globs(policy.agents),
            models=Globs(policy.models),
            tenants=Globs(policy.tenants),
            rules=rules,
            units=units,
            caps=tuple(self._limits(Phase.REQUEST)),
            levels=tuple(rule for rule in rules if rule.level and not rule.when and rule.mode is Mode.ENFORCE),
        )

    def _acts(self, phase: Phase) -> bool:
        """Say whether the policy does something at a phase that no rule decides."""
        aborts = phase is Phase.REQUEST and self._policy.document.on_disconnect is OnDisconnect.ABORT
        return aborts or bool(self._limits(phase))

    def _limits(self, phase: Phase) -> list[Rule]:
        rules = (lowered.rule for lowered in self._policy.rules)
        return [r for r in rules if r.phase is phase and r.cap_nanousd is not None and r.mode is Mode.ENFORCE]

    def _define(self) -> None:
        """Note the variables, and compile each once on its own so that an unused one is checked as well."""
        for number, (name, source) in enumerate(self._policy.variables):
            at: Path = ("spec", "variables", number, "expression")
            if name in self._defined:
                self._problems.add(self._text.at(("spec", "variables", number, "name")), f"`{name}` is defined twice")
            self._program(source, None, at)
            self._defined[name] = (number, source)

    def _check_topics(self) -> None:
        tree: Any = self._text.value
        topics, known = tree["spec"].get("topics", {}), self._house.guards.get("topics", ())
        for key in ("allow", "deny"):
            for number, label in enumerate(topics.get(key, ())):
                if known and label not in known:
                    place = self._text.at(("spec", "topics", key, number))
                    self._problems.add(place, f"the topics guard has no label `{label}`", label, known)

    # rules

    def _checks(self, phase: Phase) -> Iterator[tuple[Check, frozenset[Reference]]]:
        for lowered in self._rules:
            rule = lowered.rule
            if rule.phase is phase:
                self._check_rule(lowered)
                made = self._check(lowered) if rule.when else None
                if made and rule.mode is not Mode.OFF:
                    yield made

    def _check(self, lowered: Lowered) -> tuple[Check, frozenset[Reference]] | None:
        rule, message, reads = lowered.rule, None, frozenset[Reference]()
        condition = self._program(rule.when, rule.phase, lowered.when_at)
        if rule.message_expression:
            said = self._program(rule.message_expression, rule.phase, (*lowered.at, "messageExpression"))
            message, reads = said or (None, reads)
        search, allowed = self._search(lowered)
        rewrites, restated = self._rewrites(lowered)
        meter, keyed = self._meter(lowered)
        if condition is None:
            return None
        made = Check(
            rule=rule,
            program=condition[0],
            message=message,
            rewrites=rewrites,
            tools=Globs(rule.tools) if rule.tools else None,
            search=search,
            key=rule.cap_nanousd is not None,
            meter=meter,
        )
        return made, condition[1] | reads | allowed | restated | keyed

    def _rewrites(self, lowered: Lowered) -> tuple[dict[str, cel.Program], frozenset[Reference]]:
        """Compile what a rule says in the place of what was, with all that it reads."""
        made = {
            name: program
            for name, source in lowered.rule.rewrites.items()
            if (program := self._program(source, lowered.rule.phase, self._rewrite_at(lowered, name)))
        }
        for name, (_, paths) in made.items():
            if name == "instructions" and (said := sorted(_SAID & {".".join(path[:2]) for path in paths})):
                place = self._text.at(self._rewrite_at(lowered, name))
                self._problems.add(
                    place, f"`instructions` cannot repeat `{said[0]}`: no rule would take data out of it"
                )
        reads = frozenset[Reference]().union(*(read for _, read in made.values()))
        return {name: program for name, (program, _) in made.items()}, reads

    def _rewrite_at(self, lowered: Lowered, name: str) -> Path:
        """Return where an expression stands: in a section that has its own way to say it, the section's entry."""
        return (*lowered.at, "rewrite", name) if lowered.rule.section == "rules" else lowered.at

    def _meter(self, lowered: Lowered) -> tuple[Meter | None, frozenset[Reference]]:
        """Compile what bounds calls together, with all that tells whose total it is."""
        quota, at = lowered.rule.quota, lowered.when_at
        at = at[:-1] if at[-1] == "value" else at
        if quota is None:
            return None, frozenset()
        key = self._program(quota.key, lowered.rule.phase, self._below(at, "key"))
        failed = self._program(quota.failed, Phase.TOOL_RESULT, (*at, "failed")) if quota.failed else None
        for reference in sorted(failed[1] if failed else ()):
            if reference[0] not in FAILED_ROOTS:
                wrong = f"`failed` reads `result`, and nothing else but `params` and `policy`, not `{reference[0]}`"
                self._problems.add(self._text.at((*at, "failed")), wrong)
        made = Meter(quota=quota, key=key[0], failed=failed[0] if failed else None) if key else None
        return made, key[1] if key else frozenset()

    def _below(self, at: Path, name: str) -> Path:
        """Return the place of a key, or of what lacks it."""
        value: Any = self._text.value
        for step in at:
            value = value[step]
        return (*at, name) if name in value else at

    def _search(self, lowered: Lowered) -> tuple[Search | None, frozenset[Reference]]:
        """Compile what a rule looks for, with all that its `allow` reads."""
        wanted, known, pattern = lowered.rule.redaction, self._house.functions.kinds, None
        if wanted is None:
            return None, frozenset()
        for number, kind in enumerate(wanted.kinds):
            if kind not in known:
                place = self._text.at((*lowered.at, "kinds", number))
                self._problems.add(place, f"no guard finds the kind `{kind}`", kind, known)
        try:
            pattern = Pattern(wanted.pattern) if wanted.pattern else None
        except ValueError as error:
            self._problems.add(self._text.at((*lowered.at, "pattern")), str(error))
        at = (*lowered.at, "allow")
        allow = self._program(wanted.allow, lowered.rule.phase, at, finding=True) if wanted.allow else None
        search = Search(
            redaction=wanted, kinds=frozenset(wanted.kinds), pattern=pattern, allow=allow[0] if allow else None
        )
        return search, allow[1] if allow else frozenset()

    def _reaching(self, lowered: Lowered) -> Rule:
        """Return a rule, of phase chunk with how much of a text it has to see: what is longer it cannot find."""
        rule, known = lowered.rule, self._house.functions.kinds
        if rule.phase is not Phase.CHUNK:
            return rule
        wanted = rule.redaction or Redaction()
        reaches = [known[kind] for kind in wanted.kinds if kind in known]
        width = widest(wanted.pattern)
        if width is None or width >= LONGEST:
            message = f"what this pattern finds may have {LONGEST} characters and more, and no stream waits for so many"
            self._problems.add(self._text.at((*lowered.at, "pattern")), f"{message}: {BOUND_IT}")
        else:
            # One character more on either side decides about \b and the like.
            reaches.append((width + 1, width + 1))
        reaches.append((rule.ahead, rule.ahead))
        behind, ahead = (max(LEAST, *sizes) for sizes in zip(*reaches, strict=True))
        return replace(rule, behind=behind, ahead=ahead)

    def _check_rule(self, lowered: Lowered) -> None:
        """Check the names that a rule gives besides its expressions."""
        rule, routes = lowered.rule, self._house.routes
        names = (rule.way.to, *rule.way.fallback) if rule.way else ()
        for name in names:
            if name and routes is not None and name not in routes:
                self._problems.add(rule.position, f"there is no alias or pool `{name}` to route to", name, routes)
        window, timezone = (rule.quota.window, rule.quota.timezone) if rule.quota else (rule.window, rule.timezone)
        if timezone and window:
            try:
                self._house.functions.window_key(window, timezone, 0)
            except ValueError as error:
                self._problems.add(rule.position, str(error))

    def _unit(self, phase: Phase, found: Sequence[tuple[Check, frozenset[Reference]]]) -> Unit:
        selector = self._policy.selector
        selected = self._program(selector, phase, ("spec", "selector", "when")) if selector else None
        variables = {
            f"vars.{name}": compiled[0] for (at, name), compiled in self._variables.items() if at is phase and compiled
        }
        return Unit(
            constants=self._constants,
            variables=variables,
            selector=selected[0] if selected else None,
            checks=tuple(made for made, _ in found),
            reads=frozenset[Reference]().union(*(reads for _, reads in found), selected[1] if selected else ()),
            shared=frozenset(
                f"vars.{name}"
                for (at, name), made in self._variables.items()
                if at is phase and made and all(map(_is_shared, made[1]))
            ),
            totals=self._totals,
        )

    # expressions

    def _program(
        self, source: str, phase: Phase | None, at: Path, *, finding: bool = False
    ) -> tuple[cel.Program, frozenset[Reference]] | None:
        """Compile one expression for a phase (None: any), with all it reads, also through variables; only an `allow`
        has a `finding`."""
        try:
            program = cel.compile(source, variables=self._names, functions=self._house.table)
        except cel.CelSyntaxError as error:
            self._problems.add(self._place(at, source, error.line, error.column), error.message)
            return None
        before = len(self._problems.found)
        reads: set[Reference] = set()
        for reference in sorted(map(_dotted, program.references)):
            wrong = self._names.wrong(reference, phase) if finding or reference[0] != "finding" else _NO_FINDING
            if wrong:
                self._problems.add(self._place_of(at, source, reference), wrong)
            elif reference[0] == "vars":
                reads |= self._variable(reference[1], phase)
            else:
                reads.add(reference)
        return None if len(self._problems.found) > before else (program, frozenset(reads))

    def _variable(self, name: str, phase: Phase | None) -> frozenset[Reference]:
        """Compile a variable for the phase that reads it, once; return what it reads."""
        if phase is None:
            return frozenset()
        if (phase, name) not in self._variables:
            number, source = self._defined[name]
            self._variables[phase, name] = None
            self._variables[phase, name] = self._program(source, phase, ("spec", "variables", number, "expression"))
        compiled = self._variables[phase, name]
        return compiled[1] if compiled else frozenset()

    def _place_of(self, at: Path, source: str, reference: Reference) -> str:
        """Find where a reference stands in its expression."""
        patterns = (r"\s*\.\s*".join(map(re.escape, reference[:length])) for length in range(len(reference), 0, -1))
        # The longest part of the path that is written in one piece; its root always is.
        start = next(found.start() for pattern in patterns if (found := re.search(pattern, source)))
        return self._place(at, source, source.count("\n", 0, start) + 1, start - source.rfind("\n", 0, start))

    def _place(self, at: Path, source: str, line: int, column: int) -> str:
        """Name a place inside an expression; of one that a section was lowered to, the section itself."""
        value: Any = self._text.value
        for step in at:
            value = value[step]
        return self._text.at(at, line, column) if value == source else self._text.at(at)


def _is_shared(reference: Reference) -> bool:
    return reference[0] in ("params", "policy") or ".".join(reference[:2]) in SHARED


def _dotted(reference: Reference) -> Reference:
    """Split the declared name that a reference begins with into its steps."""
    return (*reference[0].split("."), *reference[1:])
