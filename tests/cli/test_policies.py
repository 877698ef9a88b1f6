"""Owns the proof of proxy/cli/policies.py: what is wrong is said before it serves."""

import json
import re
from pathlib import Path

import pytest

from proxy.cli import main

CONFIG = "providers: {p: {dialect: openai, base_url: 'http://127.0.0.1:1/v1'}}\npolicies: [pack]\n"
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  actions: [{id: cap, tools: [refund], require: tool.args.usd <= 50, message: too much}]
  spend: [{id: day, scope: agent, window: day, limitUSD: 2}]
"""
TESTS = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicyTest
spec:
  policies: [policy.yaml]
  defaults: {request: {tools: [{name: refund, schema: {}}]}}
  cases:
    - {name: over the cap, phase: tool_call, given: {tool: {name: refund, args: {usd: 99}}}, expect: {verdict: VERDICT}}
"""


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config and one pack, which is the working folder."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "handrail.yaml").write_text(CONFIG)
    (tmp_path / "pack" / "policy.yaml").write_text(POLICY)
    (tmp_path / "pack" / "tests.yaml").write_text(TESTS.replace("VERDICT", "deny"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_says_what_was_loaded(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config that is right is summed up; --rules shows each rule in its lowered form."""
    status = main(["check", "--rules"])

    said = capsys.readouterr().out
    assert (0, True) == (status, "handrail.yaml is right." in said)
    assert "p@1.0.0 (pack/policy.yaml)" in said
    assert re.search(r"require +tool.args.usd <= 50", said)
    assert re.search(r"limit +\$2\.00", said)


def test_check_says_everything_that_is_wrong(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad CEL and an unknown key in a policy are told at once, with their lines, and the status is 2."""
    (pack / "pack" / "policy.yaml").write_text(POLICY.replace("usd <= 50", "usd <= ").replace("scope:", "scop:"))

    assert 2 == main(["check", "--config", "handrail.yaml"])
    assert "pack/policy.yaml:7:" in capsys.readouterr().err


def test_check_without_a_file_is_about_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is no handrail.yaml the embedded defaults are checked."""
    monkeypatch.chdir(tmp_path)

    assert 0 == main(["check"])
    assert "(defaults) is right." in capsys.readouterr().out


def test_versions_are_locked(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--lock notes what each version says; a change without a new version is refused, one with it can be locked."""
    policy, lock = pack / "pack" / "policy.yaml", pack / "policies.lock"

    assert (0, 0) == (main(["check", "--lock"]), main(["check"]))
    first = lock.read_text()
    assert ("p 1.0.0 added" in capsys.readouterr().out, 1) == (True, first.count("\np 1.0.0 sha256:"))

    policy.write_text(POLICY.replace("<= 50", "<= 60"))
    assert (2, first) == (main(["check", "--lock"]), lock.read_text())
    assert "pack/policy.yaml:4:30: `p` 1.0.0 was locked as sha256:" in capsys.readouterr().err

    policy.write_text(POLICY.replace("<= 50", "<= 60").replace("1.0.0", "1.1.0"))
    assert 0 == main(["check"])
    assert "not locked: p 1.1.0" in capsys.readouterr().err
    assert 0 == main(["check", "--lock"])
    assert lock.read_text().startswith(first)
    capsys.readouterr()
    assert (0, "") == (main(["check"]), capsys.readouterr().err)
    (pack / "kill.yaml").write_text("tools: [refund]")
    (pack / "handrail.yaml").write_text(f"{CONFIG}kill_switch: kill.yaml\n")
    assert (0, "") == (main(["check"]), capsys.readouterr().err), "the switch has no version to lock"
    assert (0, 2) == (main(["check", "--lock"]), lock.read_text().count("\np "))
    assert "kill-switch" not in lock.read_text()
    assert ["handrail.yaml", "kill.yaml", "pack", "policies.lock"] == sorted(path.name for path in pack.iterdir())


def test_check_is_about_the_candidate_too(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A candidate is summed up; what is wrong with it is an error of `check`, though it would keep nothing from
    serving."""
    path = pack / "new" / "policy.yaml"
    path.parent.mkdir()
    path.write_text(POLICY)
    with (pack / "handrail.yaml").open("a") as file:
        file.write("\ncandidate: {policies: [new]}\n")

    good = main(["check"])
    path.write_text("nothing")

    assert (0, 2) == (good, main(["check"]))
    said = capsys.readouterr()
    assert ("p@1.0.0 (new/policy.yaml)" in said.out, "new/policy.yaml:1:1" in said.err) == (True, True)


def test_check_runs_the_gates(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gate that fails is an error of `check`, with its place."""
    gate = TESTS.replace("VERDICT", "allow").replace("phase:", "gate: true, phase:")
    (pack / "pack" / "tests.yaml").write_text(gate)

    assert 2 == main(["check"])
    assert "pack/tests.yaml:8:7: the gate `over the cap` fails: verdict: expected" in capsys.readouterr().err


def test_passing_tests(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder's tests.yaml is found and run."""
    assert 0 == main(["test", "pack"])
    assert "1 passed, 0 failed" in capsys.readouterr().out


def test_failing_tests_show_why(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failing case exits 1, with what was expected and the value of each sub-expression."""
    (pack / "pack" / "tests.yaml").write_text(TESTS.replace("VERDICT", "allow"))

    assert 1 == main(["test", "pack/tests.yaml"])
    said = capsys.readouterr().out
    assert "FAIL  over the cap" in said
    assert re.search(r"tool\.args\.usd  =  99", said)


def test_coverage_is_demanded(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --coverage a rule whose other outcome no case shows fails the run."""
    assert 1 == main(["test", "pack", "--coverage"])
    assert "unproven" in capsys.readouterr().out


def test_results_can_be_read_by_programs(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one object with every case."""
    main(["test", "pack", "--json"])

    report = json.loads(capsys.readouterr().out)
    (case,) = report["cases"]
    assert (True, "over the cap", "deny", "p/cap@1.0.0") == (
        report["passed"],
        case["name"],
        case["verdict"],
        case["rule"],
    )


@pytest.mark.parametrize(
    ("tests", "status"),
    [
        pytest.param(None, 1, id="no tests at all"),
        pytest.param(TESTS.replace("policy.yaml", "gone*.yaml").replace("VERDICT", "deny"), 2, id="no such policy"),
        pytest.param("kind: x\n", 2, id="not a test file"),
    ],
)
def test_nothing_proven_is_no_success(tests: str | None, status: int, pack: Path) -> None:
    """No tests is a failure, and a file that is wrong is told apart from a test that fails."""
    path = pack / "pack" / "tests.yaml"
    path.unlink()
    if tests:
        path.write_text(tests)

    assert status == main(["test", "pack"])


def test_policies_are_explained(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`explain --policy` prints for each rule all that decides how it acts, as `check --rules` does."""
    status = main(["explain", "--policy", "pack"])
    said = capsys.readouterr().out
    main(["check", "--rules"])

    assert 0 == status
    assert capsys.readouterr().out.endswith(said)
    assert ["p/cap.args@1.0.0", "p/cap@1.0.0", "p/day@1.0.0"] == re.findall(r"^\S+", said, re.MULTILINE)
    shown = dict(re.findall(r"^  (\w+) +(.*)", said.partition("p/cap@")[2].partition("p/day")[0], re.MULTILINE))
    digest = shown.pop("digest")
    assert 64 == len(digest.removeprefix("sha256:"))
    assert {
        "phase": "tool_call", "require": "tool.args.usd <= 50", "tools": "refund", "action": "deny",
        "message": "too much", "mode": "enforce", "onError": "deny", "onDeny": "reply", "priority": "500",
        "position": "pack/policy.yaml:6:13 (actions)",
    } == shown  # fmt: skip


def test_what_a_rule_holds_back_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many characters of a stream wait for a rule is told before it serves; in shadow none do."""
    data = "[{id: e, direction: out, kinds: [email], action: mask, stream: window%s}]"
    head = "apiVersion: handrail.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: p, version: 1.0.0}\nspec:\n  data: "
    (tmp_path / "policy.yaml").write_text(head + data % "")
    main(["explain", "--policy", str(tmp_path)])
    enforced = capsys.readouterr().out
    (tmp_path / "policy.yaml").write_text(head + data % ", mode: shadow")
    main(["explain", "--policy", str(tmp_path)])

    assert re.search(r"held back +320 characters", enforced)
    assert "held back" not in capsys.readouterr().out


def test_explained_policies_can_be_read_by_programs(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each rule has all that is known of it, and each policy its digest."""
    assert 0 == main(["explain", "--policy", "pack/policy.yaml", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (["p"], [False, True, False]) == (
        [document["name"] for document in told["documents"]],
        [rule["require"] for rule in told["rules"]],
    )


def test_no_policy_is_no_explanation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a policy exits 1 and says what was looked for."""
    assert 1 == main(["explain", "--policy", str(tmp_path)])
    assert "no policy.yaml in" in capsys.readouterr().err


@pytest.mark.parametrize(("verdict", "status"), [("deny", 0), ("allow", 1)])
def test_results_are_written_as_junit(verdict: str, status: int, pack: Path) -> None:
    """--junit writes the file whether the cases pass or not, and changes no exit status."""
    (pack / "pack" / "tests.yaml").write_text(TESTS.replace("VERDICT", verdict))

    assert status == main(["test", "pack", "--junit", "junit.xml"])
    assert f'tests="1" failures="{status}"' in (pack / "junit.xml").read_text()


def test_junit_that_cannot_be_written_is_told(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be written exits 2 with its name."""
    assert 2 == main(["test", "pack", "--junit", "gone/junit.xml"])
    assert "gone/junit.xml: cannot be written" in capsys.readouterr().err


def test_what_ends_replies_is_explained(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that aborts replies whose client has left says so, though it is no rule."""
    ends = POLICY.replace("spec:", "spec:\n  onDisconnect: abort", 1)
    seen = []
    for text in (POLICY, ends):
        (pack / "pack" / "policy.yaml").write_text(text)
        main(["explain", "--policy", "pack"])
        seen.append(re.findall(r"^  onDisconnect +(\w+)", capsys.readouterr().out, re.MULTILINE))

    assert [[], ["abort"]] == seen


def test_bounds_are_explained(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an action's own schema and of its totals all that decides is printed."""
    bounds = "totals: {usd: {value: tool.args.usd, limit: 0.5, failed: result.json.failed}}, schema: {type: object}"
    (pack / "pack" / "policy.yaml").write_text(POLICY.replace("message: too much", bounds))

    main(["explain", "--policy", "pack"])

    said = capsys.readouterr().out
    shown = {name: " ".join(rest.split()) for name, rest in re.findall(r"^  (\w[\w ]*?)  +(.*)", said, re.MULTILINE)}
    assert '{"type": "object"}' == shown["schema"]
    assert ("tool.args.usd", "0.5 per conversation, counted by conversation.id", "result.json.failed") == (
        shown["adds"],
        shown["at most"],
        shown["unless failed"],
    )
