"""Owns the proof that README's commands run and its examples load."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from proxy import accounting, config, policy
from proxy.cli import main
from proxy.conversation import customer
from proxy.documents import Source
from proxy.stores import sqlite
from proxy.terms import Caller, Cost, Exchange, Kept, Level, Session, State
from tests.house.tree import ROOT, shell_lines, text

KEY = b"5" * 64
SHOWN = "ex_afae2cb98739854f92674481978d8ebd"
COMMANDS = [line for line in shell_lines("README.md") if line.startswith("handrail ")]
BLOCKS = re.findall(r"```yaml\n(.*?)```", text("README.md"), re.DOTALL)


@pytest.fixture
async def records(tmp_path: Path) -> Path:
    """Write the call that README explains where the commands look for records by default."""
    caller = Caller(agent="support-web", level=Level.EXECUTE, principal="local")
    exchange = Exchange(
        id=SHOWN,
        started_ms=1,
        endpoint="/v1/chat/completions",
        caller=caller,
        session=Session(id=f"se_{SHOWN[3:]}"),
        stream=False,
        model_asked="support-large",
        state=State.COMPLETE,
        status=200,
        cost=Cost(nanousd=645_000),
        customer=customer("ann@example.org", "", KEY),
    )
    (tmp_path / ".handrail").mkdir()
    (tmp_path / ".handrail" / "customer.key").write_bytes(KEY)
    async with sqlite.open(sqlite.Settings(path=str(tmp_path / ".handrail" / "handrail.sqlite"))) as store:
        store.finish(exchange)
        store.keep(Kept(exchange_id=SHOWN, at_ms=1, policy_digest=""))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(
    command: str, records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each `handrail …` line of README succeeds and prints something."""
    (records / "rules").symlink_to(ROOT / "rules")
    monkeypatch.chdir(records)

    status = main(shlex.split(command)[1:])

    assert (0, True) == (status, bool(capsys.readouterr().out))


def test_the_configuration_shown_is_right() -> None:
    """README's handrail.yaml compiles with the pack that it names."""
    loaded = config.load(Source(path="README.md", text=BLOCKS[0]), {"OPENAI_API_KEY": "sk"}, ROOT)

    snapshot = config.build(loaded, {"OPENAI_API_KEY": "sk"}, simulated_url="", prices=accounting.price_table())

    assert ["support"] == [document.name for document in snapshot.policies.documents]


def test_the_policy_shown_is_right() -> None:
    """README's policy loads, with the rules that it says."""
    found = policy.load([Source(path="README.md", text=BLOCKS[1])], functions=config.FUNCTIONS, guards={})

    ids = {rule.id for rule in found.rules}

    assert {"refunds/refund-cap@1.0.0", "refunds/per-conversation@1.0.0", "refunds/short-questions@1.0.0"} <= ids
