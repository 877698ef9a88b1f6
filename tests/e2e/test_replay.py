"""Owns the proof that what a process decided can be asked again: kept, explained, replayed, made into tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.cli import main
from proxy.stores.sqlite import Reader
from tests.e2e.endings import says
from tests.e2e.rig import LISTENERS, Served, handrail, until

CONFIG = """\
providers: {model: {dialect: simulated, prices: openai}}
policies: [policy.yaml]
candidate: {policies: [new]}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: VERSION}
spec:
  data: [{id: mail, direction: in, kinds: [email], action: mask}]
  rules:
    - {id: r, phase: request, when: 'request.user_text.contains("WORD")', action: deny, message: Not here.}
    - {id: keep, phase: post, when: 'true', action: record}
"""
ASKED = "Where is my parcel? I am ann@example.org."


def policy(word: str, version: str) -> str:
    """Write a policy that denies what has a word in it, and keeps every call."""
    return POLICY.replace("WORD", word).replace("VERSION", version)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Serve under a policy that denies nothing that is said here, beside a candidate that denies it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handrail.yaml").write_text(LISTENERS + CONFIG)
    (tmp_path / "policy.yaml").write_text(policy("refund", "1.0.0"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "policy.yaml").write_text(policy("parcel", "2.0.0"))
    with handrail(tmp_path / "handrail.yaml") as served:
        yield served


def kept(served: Served) -> bool:
    """Say whether something was kept by now."""
    with Reader(str(served.state)) as reader:
        return bool(list(reader.kept(0)))


def test_a_call_is_kept_and_asked_again(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """A call of a real process is explained with values, decided otherwise by other policies, told of by `diff`, and
    becomes a test that the policies in force pass and the others do not; what was taken out is nowhere."""
    with openai.OpenAI(base_url=served.base_url, api_key="placeholder", max_retries=0) as client:
        ask: Any = client.chat.completions.create
        ask(model="gpt-5-mini", messages=says(ASKED))
    assert until(lambda: kept(served))
    (name,) = (exchange.id for exchange in served.records())
    where = ["--config", "handrail.yaml"]

    statuses = [
        main(["explain", name, *where]),
        main(["replay", *where]),
        main(["replay", "--policies", "new", "--since", "1h", *where]),
        main(["diff", *where]),
        main(["test", "--record", name, "--into", "new/tests.yaml", *where]),
        main(["test", "new/tests.yaml"]),
    ]
    said = capsys.readouterr().out
    Path("new/tests.yaml").write_text(Path("new/tests.yaml").read_text().replace("../policy.yaml", "policy.yaml"))

    assert ([0, 0, 1, 1, 0, 0], 1) == (statuses, main(["test", "new/tests.yaml"]))
    assert 'request.user_text.contains("refund")  =  False' in said
    assert [True, False] == ["redact → deny" in said, "ann@example.org" in said]
    assert b"ann@example.org" not in served.state.read_bytes()
    assert ASKED.partition("?")[0] in said
