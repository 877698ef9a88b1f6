"""Owns the proof of proxy/config/policies.py: which files are policies, and what they come to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proxy import config
from tests.config.written import BASE, POLICY, build, load, problems


@pytest.mark.parametrize("entry", ["pack", "pack/policy.yaml", "*/policy.yaml", "p*"])
def test_policies_are_found(entry: str, tmp_path: Path) -> None:
    """An entry of `policies` is a pack's folder, a file or a glob."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "policy.yaml").write_text(POLICY)

    assert ["p"] == [document.name for document in build({**BASE, "policies": [entry]}, tmp_path).policies.documents]


def test_a_broken_guard_file_is_told(tmp_path: Path) -> None:
    """The file that teaches a guard is checked like a policy."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "topics.yaml").write_text("kind: Topics\n")

    assert any(
        "topics.yaml" in problem
        for problem in problems(yaml.safe_dump({**BASE, "policies": ["policy.yaml"]}), tmp_path)
    )


# --- the lock -------------------------------------------------------------------------------------------------------

PACK = {**BASE, "policies": ["pack"]}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A folder with one pack, and a lock of it."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "policy.yaml").write_text(POLICY)
    locked = config.lock_of(load(yaml.safe_dump(PACK), tmp_path)).add(build(PACK, tmp_path).policies.documents)
    (tmp_path / "policies.lock").write_text(locked.text())
    return tmp_path


@pytest.mark.parametrize(
    ("change", "loads"),
    [
        pytest.param(("", ""), True, id="as locked"),
        pytest.param(("spec:", "# a note\nspec:"), True, id="only a comment"),
        pytest.param(("deny", "allow"), False, id="changed"),
        pytest.param(("1.0.0}", "1.0.1}"), True, id="a version that is not locked yet"),
    ],
)
def test_a_locked_version_means_one_thing(change: tuple[str, str], loads: bool, pack: Path) -> None:
    """A policy loads with the content its version was locked with, or with a new version."""
    path = pack / "pack" / "policy.yaml"
    path.write_text(path.read_text().replace(*change))

    if loads:
        assert build(PACK, pack)
    else:
        assert problems(yaml.safe_dump(PACK), pack)


def test_a_changed_version_is_told_with_its_place(pack: Path) -> None:
    """Whoever changed a policy and not its version reads where to raise it."""
    path = pack / "pack" / "policy.yaml"
    path.write_text(path.read_text().replace("deny", "allow"))

    (problem,) = problems(yaml.safe_dump(PACK), pack)

    assert "pack/policy.yaml:4:30: `p` 1.0.0 was locked as" in problem


@pytest.mark.parametrize("text", [b"p 1.0.0\n", b"\xff"])
def test_a_broken_lock_is_told(text: bytes, pack: Path) -> None:
    """A lock that cannot be read locks nothing open: it is refused."""
    (pack / "policies.lock").write_bytes(text)

    assert any("policies.lock" in problem for problem in problems(yaml.safe_dump(PACK), pack))


# --- gates, the kill switch -----------------------------------------------------------------------------------------

GATE = """
kind: AgentPolicyTest
spec:
  policies: [policy.yaml]
  cases:
    - {name: all is denied, phase: request, gate: true, expect: {verdict: deny}}
"""


@pytest.mark.parametrize(("action", "found"), [("deny", 0), ("allow", 1)])
def test_a_gate_beside_a_policy_decides_whether_it_loads(action: str, found: int, tmp_path: Path) -> None:
    """The marked cases of tests.yaml in a policy's folder are run against what is about to serve."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "tests.yaml").write_text(GATE)
    (tmp_path / "pack" / "policy.yaml").write_text(POLICY.replace("deny", action))

    if found:
        (problem,) = problems(yaml.safe_dump(PACK), tmp_path)
        assert "pack/tests.yaml:6:7: the gate `all is denied` fails: verdict: expected deny, got allow" in problem
    else:
        assert build(PACK, tmp_path)


def test_gates_are_asked_of_all_policies_together(pack: Path) -> None:
    """What another policy denies is denied, also where the gate's own pack would allow it."""
    (pack / "pack" / "tests.yaml").write_text(GATE.replace("deny}", "allow}"))
    (pack / "pack" / "policy.yaml").write_text(POLICY.replace("deny", "allow").replace("1.0.0", "1.1.0"))
    (pack / "other.yaml").write_text(POLICY.replace("name: p", "name: q"))

    assert build(PACK, pack)
    assert "(q/r@1.0.0)" in problems(yaml.safe_dump({**PACK, "policies": ["pack", "other.yaml"]}), pack)[0]


KILL = {**BASE, "policies": ["policy.yaml"], "kill_switch": "kill.yaml"}


@pytest.fixture
def allowing(tmp_path: Path) -> Path:
    """A folder with a policy that allows, and a gate that wants it to."""
    (tmp_path / "policy.yaml").write_text(POLICY.replace("deny", "allow"))
    (tmp_path / "tests.yaml").write_text(
        GATE.replace("expect: {verdict: deny}", "given: {request: {tools: [look]}}, expect: {verdict: allow}")
    )
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("tools: [look]", ["kill-switch", "p"], id="something"),
        pytest.param("", ["p"], id="nothing"),
        pytest.param(None, ["p"], id="no file"),
    ],
)
def test_what_the_kill_switch_lists_is_stopped(text: str | None, names: list[str], allowing: Path) -> None:
    """Its file is a policy that no gate can keep from loading; without the file nothing is stopped."""
    if text is not None:
        (allowing / "kill.yaml").write_text(text)

    assert names == [document.name for document in build(KILL, allowing).policies.documents]


@pytest.mark.parametrize("text", [b"tool: [a]", b"\xff"])
def test_a_broken_kill_switch_is_told(text: bytes, allowing: Path) -> None:
    """A switch that cannot be read is refused, like a policy."""
    (allowing / "kill.yaml").write_bytes(text)

    assert any("kill.yaml" in problem for problem in problems(yaml.safe_dump(KILL), allowing))


@pytest.fixture
def trying(tmp_path: Path) -> Path:
    """A folder with a policy in force, and a candidate."""
    for name in ("", "new"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "policy.yaml").write_text(POLICY)
    return tmp_path


TRY = {**BASE, "policies": ["policy.yaml"], "candidate": {"policies": ["new"]}}


def test_a_candidate_stands_beside_what_serves(trying: Path) -> None:
    """It is compiled like the policies in force, and stopped by the same switch; its change is another revision."""
    (trying / "new" / "policy.yaml").write_text(POLICY.replace("1.0.0", "2.0.0"))
    (trying / "kill.yaml").write_text("tools: [look]")
    alone, found = (
        build({**BASE, "policies": ["policy.yaml"]}, trying),
        build({**TRY, "kill_switch": "kill.yaml"}, trying),
    )

    assert (None, ()) == (alone.candidate, found.candidate_problems)
    assert found.candidate
    assert ["kill-switch", "p"] == [document.name for document in found.candidate.policies.documents]
    assert ["1.0.0"] == [document.version for document in alone.policies.documents]
    before = build(TRY, trying).revision
    (trying / "new" / "policy.yaml").write_text(POLICY.replace("1.0.0", "3.0.0"))
    assert before != build(TRY, trying).revision


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param({"policy.yaml": "spec: {}"}, "new/policy.yaml:1:1", id="broken"),
        pytest.param({"policy.yaml": None}, "has no policy.yaml", id="gone"),
        pytest.param({"tests.yaml": GATE.replace("deny}", "allow}")}, "new/tests.yaml:", id="a gate fails"),
    ],
)
def test_a_broken_candidate_keeps_nothing_from_serving(
    files: dict[str, str | None], says: str, trying: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with it is told, with its place, and what serves goes on serving."""
    monkeypatch.chdir(trying)
    for name, text in files.items():
        path = trying / "new" / name
        path.write_text(text) if text is not None else path.unlink()

    found = build(TRY, trying)

    assert (None, ["p"]) == (found.candidate, [document.name for document in found.policies.documents])
    assert any(says in problem for problem in found.candidate_problems)


def test_a_guard_learns_again_only_what_changed(tmp_path: Path) -> None:
    """A reload keeps a guard whose examples are the same, and makes a new one for other examples."""
    lesson = "apiVersion: handrail.dev/v1alpha1\nkind: Topics\ntopics: {orders: [where is my order], other: [LESSON]}\n"
    tree = {**BASE, "policies": ["policy.yaml"]}
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "topics.yaml").write_text(lesson.replace("LESSON", "sing a song"))
    first, second = build(tree, tmp_path).guards["topics"], build(tree, tmp_path).guards["topics"]
    (tmp_path / "topics.yaml").write_text(lesson.replace("LESSON", "bake a cake"))

    assert first is second is not build(tree, tmp_path).guards["topics"]
