"""Owns the proof that a set is compiled whole or not at all, and that every wrong name is found at its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from proxy import plugins
from proxy.cel import extensions, texts
from proxy.documents import Source
from proxy.guards import pii, secrets
from proxy.policy import PolicyProblems, load
from proxy.policy import facts as facts_room
from proxy.policy import functions as functions_room
from proxy.policy.compile import schema
from proxy.terms import How, Phase, Verdict
from tests.policy.written import FUNCTIONS, ROUTES, compiled, facts, found, problems, rule, source, verdict

KINDS = {label: (40, 320) for guard in (pii.create(()), secrets.create(())) for label in guard.labels}
README = Path(__file__).parents[2] / "rules" / "README.md"


def examples() -> list[str]:
    """Return the documents that rules/README.md shows."""
    blocks: list[str] = re.findall(r"^```yaml\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in blocks if "kind: AgentPolicy\n" in block]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            "  rules:\n    - {id: r, phase: request, action: deny, when: '@@response.text == \"x\"'}",
            "`response` is not available in phase request, only in response",
            id="a root of another phase",
        ),
        pytest.param(
            "  rules:\n    - {id: r, phase: response, action: deny, when: '1 == 1 && @@tool.name == \"x\"'}",
            "`tool` is not available in phase response, only in tool_call",
            id="a tool in a reply",
        ),
        pytest.param(
            rule(when="@@request.modle == 'x'"),
            "there is no `request.modle` (did you mean `request.model`?)",
            id="a field that is not there",
        ),
        pytest.param(
            rule(when="1 + 1 == 2 && @@spend.conversation.dollars > 1"),
            "there is no `spend.conversation.dollars`",
            id="a field of a field",
        ),
        pytest.param(
            rule(when="@@result.text == ''"),
            "`result` is not available in phase request, only in tool_result",
            id="a result in a request",
        ),
        pytest.param(
            rule(when="@@finding.text == 'x'"),
            "`finding` is there only in `allow`, which is asked of each finding",
            id="a finding outside of allow",
        ),
        pytest.param(
            rule(action="mask", kinds=["email"], allow="@@finding.txt == 'x'"),
            "there is no `finding.txt` (did you mean `finding.text`?)",
            id="a field of a finding",
        ),
        pytest.param(
            "  rules: [{id: r, phase: request, action: mask, kinds: [email, @@emial]}]",
            "no guard finds the kind `emial` (did you mean `email`?)",
            id="a kind that nobody finds",
        ),
        pytest.param(
            "  rules: [{id: r, phase: request, action: mask, pattern: @@(}]",
            "'(' is no regular expression for RE2",
            id="a pattern that is none",
        ),
        pytest.param(
            rule(when="@@guards.topcis.label == 'x'"),
            "there is no `guards.topcis` (did you mean `guards.topics`?)",
            id="a guard that is not configured",
        ),
        pytest.param(
            rule(when="@@guards.topics.lable == 'x'"),
            "there is no `guards.topics.lable` (did you mean `guards.topics.label`?)",
            id="a field of a guard",
        ),
        pytest.param(
            rule(when="size(@@request) > 1"),
            "`request` cannot be read as a whole: name a field, such as `request.model`",
            id="a whole root",
        ),
        pytest.param(
            rule(when="@@request[agent.id] == 'x'"),
            "`request` cannot be read as a whole: name a field, such as `request.model`",
            id="a field that is computed",
        ),
        pytest.param(
            rule(when="size(@@vars) > 1"), "`vars` cannot be read as a whole: name a field", id="a root that is empty"
        ),
        pytest.param(
            rule(when="size(@@request.headers) > 1"),
            "`request.headers` cannot be read as a whole: name the header, such as",
            id="all headers",
        ),
        pytest.param(
            rule(when="@@request.headers['X-Tier'] == 'x'"),
            "header names are lower-case here: write `x-tier`",
            id="a header in capitals",
        ),
        pytest.param(
            rule(when="@@request.headers.authorization == 'x'"),
            "the header `authorization` is a credential: no rule may read it",
            id="a credential",
        ),
        pytest.param(
            "  params: {limit: 5}\n" + rule(when="@@params.limt > 1"),
            "there is no `params.limt` (did you mean `params.limit`?)",
            id="a parameter that is not there",
        ),
        pytest.param(rule(when="@@params.limit > 1"), "there is no `params.limit`", id="no parameters at all"),
        pytest.param(rule(when="@@foo(1)"), "unknown function 'foo'", id="a function that is not there"),
        pytest.param(
            rule(when="@@requst.model == 'x'"),
            "unknown variable 'requst'; did you mean 'request'?",
            id="a root that is not there",
        ),
        pytest.param(rule(when="true @@1"), "", id="not an expression"),
        pytest.param(
            "  rules:\n    - id: r\n      phase: request\n      action: deny\n"
            "      when: |\n        true &&\n          @@1 + 'a' == 2\n",
            "'+' does not take (int, string)",
            id="a type error in a block",
        ),
        pytest.param(
            rule(when="true", messageExpression="@@'x' + 1"), "'+' does not take", id="a message that is none"
        ),
        pytest.param(
            "  selector: {when: '@@agent.idd == \"x\"'}\n" + rule(when="true"),
            "there is no `agent.idd` (did you mean `agent.id`?)",
            id="a selector",
        ),
        pytest.param(
            "  variables: [{name: a, expression: '@@request.modle'}]\n" + rule(when="true"),
            "there is no `request.modle` (did you mean `request.model`?)",
            id="a variable that nobody reads",
        ),
        pytest.param(
            "  variables: [{name: a, expression: '@@vars.b'}, {name: b, expression: '1'}]\n" + rule(when="vars.a == 1"),
            "there is no `vars.b`",
            id="a variable before its definition",
        ),
        pytest.param(
            "  variables: [{name: a, expression: '@@vars.a'}]\n" + rule(when="vars.a == 1"),
            "there is no `vars.a`",
            id="a variable of itself",
        ),
        pytest.param(
            "  variables: [{name: a, expression: '1'}, {name: @@a, expression: '2'}]\n" + rule(when="vars.a == 1"),
            "`a` is defined twice",
            id="two variables of one name",
        ),
        pytest.param(
            "  variables: [{name: a, expression: '@@response.text'}]\n" + rule(when="vars.a == 'x'"),
            "`response` is not available in phase request, only in response",
            id="a variable in a phase that lacks what it reads",
        ),
        pytest.param(
            f"  rules: [@@{rule(when='true', action='route', to='chaep').partition('[')[2]}",
            "there is no alias or pool `chaep` to route to (did you mean `cheap`?)",
            id="a route to nowhere",
        ),
        pytest.param(
            f"  rules: [@@{rule(when='true', action='route', to='cheap', fallback=['smal']).partition('[')[2]}",
            "there is no alias or pool `smal` to route to (did you mean `small`?)",
            id="a fallback to nowhere",
        ),
        pytest.param(
            "  spend: [@@{id: e, scope: agent, window: day, timezone: Mars/Olympus, limitUSD: 1}]",
            "'Mars/Olympus' is not a known time zone",
            id="a zone that is not there",
        ),
        pytest.param(
            "  topics: {allow: [@@ordres], minScore: 0.5, uncertain: allow, message: no}",
            "the topics guard has no label `ordres` (did you mean `orders`?)",
            id="a topic that nobody taught",
        ),
    ],
)
def test_a_wrong_name_is_found_at_its_place(spec: str, expected: str) -> None:
    """Each mistake gives exactly one problem, with file, line, column (here marked @@) and what was meant."""
    before = source(spec).text.partition("@@")[0]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")

    found_problems = problems(spec.replace("@@", ""))

    assert [f"p.yaml:{line}:{column}: {expected}"] == [
        problem[: len(f"p.yaml:{line}:{column}: {expected}")] for problem in found_problems
    ]


@pytest.mark.parametrize("pattern", ["a*", "a{999}(?:bc){999}d{999}e{999}"])
def test_a_pattern_that_no_stream_can_wait_for_is_refused(pattern: str) -> None:
    """A find without a bound, or a very long one, would be missed in steps: the author has to say what to do."""
    (problem,) = problems(rule(phase="chunk", action="mask", pattern=pattern))

    assert problem.startswith("p.yaml:5:")
    assert "no stream waits for so many: bound it" in problem


def test_guards_do_not_judge_steps() -> None:
    """A guard's result is about a whole text: no rule of phase chunk can take it for one about a step."""
    (problem,) = problems(rule(phase="chunk", when="guards.pii.flagged"))

    assert "`guards` is not available in phase chunk" in problem


def test_a_section_is_blamed_for_what_it_lowers_to() -> None:
    """Where a section needs a guard that is not configured, the section is the place."""
    spec = "  topics: {allow: [orders], minScore: 0.5, uncertain: allow, message: no}"

    assert ["p.yaml:5:11: there is no `guards.topics` (did you mean `guards.pii`?)"] == [
        problem.replace(".score", "").replace(".label", "") for problem in problems(spec, guards={"pii": ()})
    ]


def test_labels_and_routes_are_checked_only_where_they_are_known() -> None:
    """A guard that does not say its labels, and a load that is told no routes, take any name."""
    spec = "  topics: {allow: [any], minScore: 0.5, uncertain: allow, message: no}\n" + rule(
        when="true", action="route", to="anywhere"
    )

    assert [] == problems(spec, guards={"topics": ()}, routes=None)


def test_all_problems_of_all_files_come_at_once_and_in_order() -> None:
    """Nothing is loaded while anything is wrong, and a person sees all of it."""
    first = source(rule(when="request.modle == 'x'"), path="b.yaml")
    second = Source(path="a.yaml", text="kind: AgentPolicy")
    third = Source(path="c.yaml", text="# nothing\n")

    found_at = [problem.split(": ")[0] for problem in problems(first, second, third)]

    assert ["a.yaml:1:1", "b.yaml:5:70", "c.yaml:1:1"] == found_at


def test_the_text_of_the_exception_is_the_list() -> None:
    """Whoever prints PolicyProblems shows every problem on its own line."""
    assert "a:1:1: x\nb:2:2: y" == str(PolicyProblems(["a:1:1: x", "b:2:2: y"]))


def test_two_policies_have_two_names() -> None:
    """A name stands for one policy, so rule ids are unique over all of them."""
    twice = problems(source(rule(when="true"), path="a.yaml"), source(rule(when="true"), path="b.yaml"))

    assert ["b.yaml:3:18: `p` is already the name of the policy at a.yaml:3:18"] == twice


def test_no_policy_allows_everything() -> None:
    """An empty set has no rule, and says so by its digest as well."""
    empty = load([], functions=FUNCTIONS, guards={}, routes=ROUTES)

    assert (Verdict.ALLOW, (), False) == (verdict(empty, facts()), empty.rules, empty.has(Phase.REQUEST))


def test_the_bundle_digest_is_of_names_versions_and_contents() -> None:
    """The same policies give the same digest in any order of files; any change gives another."""
    one, two = source(rule(when="true"), name="a"), source(rule(when="true"), name="b")
    changed = source(rule(when="false"), name="b")

    digests = [compiled(one, two).digest, compiled(two, one).digest, compiled(one, changed).digest]

    assert (True, False) == (digests[0] == digests[1], digests[0] == digests[2])


def test_a_rule_reads_through_its_variables() -> None:
    """What a variable reads counts as read by the rule that uses it, also through another variable."""
    policies = compiled(
        "  variables: [{name: a, expression: 'spend.agent.usd'}, {name: b, expression: 'vars.a + 1.0'}]\n"
        + rule(when="vars.b > 5.0 && vars.a > 0.0")
    )

    reads = [policies.reads(Phase.REQUEST, path) for path in (("spend",), ("spend", "agent"), ("spend", "request"))]

    assert [True, True, False] == reads


def test_what_a_set_needs_is_known_before_anything_is_asked() -> None:
    """Guards, headers and phases follow from the expressions alone, messages and selectors included."""
    policies = compiled(
        "  selector: {when: 'guards.pii.flagged'}\n"
        + rule(when="request.headers['x-tier'] == 'gold'", messageExpression="guards.topics.label")
    )

    needed = [policies.guards_needed(phase) for phase in Phase]

    assert ("pii", "topics") == needed[0]
    assert set() == {name for names in needed[1:] for name in names}
    assert frozenset(("x-tier",)) == policies.visible_headers
    assert [Phase.REQUEST] == [phase for phase in Phase if policies.has(phase)]


def test_a_whole_map_is_read_with_all_its_parts() -> None:
    """Reading `spend.agent` as a whole counts as reading each of its fields."""
    policies = compiled(rule(when="spend.agent == {}"))

    assert policies.reads(Phase.REQUEST, ("spend", "agent", "usd"))


def test_parameters_are_read_by_path_and_as_a_whole() -> None:
    """params.* are the literals of the document, whatever their form."""
    policies = compiled(
        "  params: {limits: {execute: 50}, words: [a, b], none: null}\n"
        + rule(
            when="params.limits[agent.level] == 50 && 'b' in params.words && params.none == null && size(params) == 3"
        )
    )

    assert Verdict.DENY == verdict(policies, facts())


def test_a_policy_knows_itself() -> None:
    """policy.* are the name, version and digest of the document."""
    policies = compiled(rule(when="policy.name == 'p' && policy.version == '1.0.0' && size(policy.digest) == 64"))

    assert Verdict.DENY == verdict(policies, facts())


def test_the_documents_are_listed() -> None:
    """Each loaded policy is listed with what its metadata says."""
    text = source(rule(when="true")).text.replace(
        "version: 1.0.0}", "version: 1.0.0, labels: {a: b}, annotations: {c: d}}"
    )
    (document,) = compiled(Source(path="p.yaml", text=text)).documents

    assert ("p", "1.0.0", "p.yaml", {"a": "b"}, {"c": "d"}) == (
        document.name,
        document.version,
        document.path,
        document.labels,
        document.annotations,
    )


def test_a_schema_that_does_not_ship_is_missed() -> None:
    """Asking for a schema that is not in the package fails at once."""
    with pytest.raises(FileNotFoundError):
        schema("nothing.json")


def keys_of(tree: Any) -> set[str]:
    """Return every key that a schema names."""
    if isinstance(tree, list):
        return set().union(*map(keys_of, tree))
    if not isinstance(tree, dict):
        return set()
    return set(tree.get("properties", ())).union(*map(keys_of, tree.values()))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("schema.json", id="policies"),
        pytest.param("tests.schema.json", id="tests"),
        pytest.param("kill.schema.json", id="kill switch"),
    ],
)
def test_every_key_of_the_schema_is_on_the_page(name: str) -> None:
    """rules/README.md names every key that a document may have."""
    page = README.read_text(encoding="utf-8")

    assert set() == {key for key in keys_of(json.loads(schema(name))) if not re.search(rf"\b{key}\b", page)}


@pytest.mark.parametrize("example", examples(), ids=range(len(examples())))
def test_every_policy_that_the_page_shows_loads(example: str) -> None:
    """An example that does not load teaches a mistake."""
    functions = replace(FUNCTIONS, kinds=KINDS)
    guards = {"topics": (), "pii": ()}

    assert [] == problems(Source(path="README.md", text=example), functions=functions, guards=guards, routes=None)


def test_the_page_lists_every_kind() -> None:
    """Whatever the guards pii and secrets can find, the page names."""
    page = README.read_text(encoding="utf-8")

    assert [] == [kind for kind in KINDS if f"`{kind}`" not in page]


TOLD = {
    "variables": [*facts_room.makers(()), *facts_room.ROOTS, *facts_room.FINDING],
    "fields of a guard": [f"guards.NAME.{field}" for field in facts_room.GUARD_FIELDS],
    "functions": [*functions_room.table(FUNCTIONS), *extensions.FUNCTIONS, *texts.FUNCTIONS],
    "guards": plugins.names("guards"),
    "phases": [*Phase],
    "verdicts": [*Verdict],
    "ways to redact": [*How],
}


@pytest.mark.parametrize("kind", [*TOLD])
def test_every_name_that_policies_can_use_is_on_the_page(kind: str) -> None:
    """A variable, function, guard, phase or verdict that rules/README.md does not tell of is one that nobody finds."""
    lines = README.read_text(encoding="utf-8").splitlines()

    assert [] == [name for name in TOLD[kind] if not any(tells(line, name) for line in lines)]


def tells(line: str, name: str) -> bool:
    """Say whether a line is about a name: it has it in code, or has what it is a part of in code, and the part."""
    parent, _, leaf = name.rpartition(".")
    whole = re.search(rf"`{re.escape(name)}\b", line)
    return bool(whole or (parent and f"`{parent}`" in line and re.search(rf"\b{leaf}\b", line)))


def test_a_name_that_is_not_on_the_page_would_be_seen() -> None:
    """The test above can fail: a longer name, or another part of a map, is not the name."""
    line = "| `spend.agent` | `{usd, calls}` of `request.model` |"

    assert [True, True, False, False] == [
        tells(line, name) for name in ("spend.agent.usd", "request.model", "request.mod", "spend.agent.tokens")
    ]


def test_the_page_shows_policies() -> None:
    """The page has examples for the test above to try."""
    assert 5 <= len(examples())


def test_a_guard_finding_reaches_the_rules_of_a_section() -> None:
    """A section that lowers to rules decides as its rules say."""
    spec = "  topics: {deny: [medical], minScore: 0.5, uncertain: deny, message: 'no, sorry'}"

    verdicts = [
        verdict(spec, facts(guards=found(label, score)))
        for label, score in (("medical", 0.9), ("orders", 0.9), ("orders", 0.4))
    ]

    assert [Verdict.DENY, Verdict.ALLOW, Verdict.DENY] == verdicts


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("'You are an AI.'", []),
        ("params.a + agent.id", []),
        ("'He said ' + request.user_text", ["`instructions` cannot repeat `request.user_text`"]),
        ("vars.said", ["`instructions` cannot repeat `request.messages`"]),
        ("conversation.tool_results[0].text", ["`instructions` cannot repeat `conversation.tool_results`"]),
    ],
)
def test_instructions_repeat_nothing_that_was_said(source: str, expected: list[str]) -> None:
    """What is taken out of a message would go to the provider in an instruction all the same."""
    before = "  params: {a: x}\n  variables: [{name: said, expression: 'request.messages[0].text'}]\n"

    found = problems(before + rule(action="rewrite", when="true", rewrite={"instructions": source}))

    assert expected == [problem.split(": ", 1)[1].partition(":")[0] for problem in found]
