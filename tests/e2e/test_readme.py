"""Owns the proof that README's commands run and its examples load."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import msgspec
import pytest

from proxy import accounting, config
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
PAGES = text("README.md") + text("proxy/README.md")
BASE = "providers: {model: {dialect: simulated}}\nlisten: unix:/run/handrail/agent.sock\n"
KEY_NAMES = "|".join(field.name for field in msgspec.structs.fields(config.Config) if field.name != "providers")
# Blocks, and code within a line, that begin with a key of `handrail.yaml`; what has an ellipsis shows no whole section.
SECTIONS = sorted(
    {
        *re.findall(rf"```yaml\n((?:{KEY_NAMES}):.*?)```", PAGES.replace(BLOCKS[0], ""), re.DOTALL),
        *(said for said in re.findall(rf"`((?:{KEY_NAMES}): {{[^`]+)`", PAGES) if "…" not in said),
    }
)


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


def test_the_policies_shown_are_right(tmp_path: Path) -> None:
    """README's policies load together under README's configuration, with the rules that they say."""
    for number, block in enumerate(BLOCKS[1:]):
        (tmp_path / f"{number}.yaml").write_text(block)
    text_of_config = BLOCKS[0].replace("[rules/support]", "['*.yaml']")
    loaded = config.load(Source(path="README.md", text=text_of_config), {"OPENAI_API_KEY": "sk"}, tmp_path)

    snapshot = config.build(loaded, {"OPENAI_API_KEY": "sk"}, simulated_url="", prices=accounting.price_table())

    ids = {rule.id.partition("@")[0] for rule in snapshot.policies.rules}
    assert {"refunds/refund-cap", "refunds/per-conversation", "refunds/short-questions"} <= ids
    assert {"people/large-refund", "people/asks-for-human", "people/mail"} <= ids


@pytest.mark.parametrize("said", SECTIONS)
def test_each_piece_of_configuration_shown_is_right(said: str) -> None:
    """Whatever README and the reference show of `handrail.yaml`, block or line, is what a configuration can say."""
    whole = Source(path="README.md", text=BASE + said)

    assert config.load(whole, {}, ROOT).config


def test_pieces_of_configuration_are_found() -> None:
    """The pages show sections that this test knows of: none goes unproven because it looks otherwise."""
    keys = {said.partition(":")[0] for said in SECTIONS}

    assert {"auth", "audit", "budgets", "candidate", "state", "tiers"} <= keys
