"""Owns the proof of proxy/cli/sessions.py: what is kept is shown, exported and erased, and what it lacks is said."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy import app
from proxy.cli import main, sessions
from proxy.conversation import customer
from proxy.stores import sqlite
from proxy.terms import Exchange, Kept, Selection, Session, State
from tests.stores.samples import AT_MS, attempt, exchange, handoff, held, sent

KEY = "5" * 64
ANN, BOB = (customer(name, "shop", KEY.encode()) for name in ("ann", "bob"))
CONFIG = """
agent: {id: web, tenant: shop}
providers: {model: {dialect: simulated, prices: openai}}
"""


def calls() -> list[Exchange]:
    """Make the calls of two customers: one has two conversations, of which the other takes part in the second."""
    told = {
        "ex_1": ("se_one", ANN, 1),
        "ex_2": ("se_one", ANN, 2),
        "ex_3": ("se_two", ANN, 1),
        "ex_4": ("se_two", BOB, 2),
    }
    return [
        replace(
            exchange(name, State.COMPLETE, attempt(name, 1, State.COMPLETE, 5_000), session=session, turn=turn),
            customer=whose,
            tool_calls=("lookup",),
        )
        for name, (session, whose, turn) in told.items()
    ]


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and what was kept under it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handrail.yaml").write_text(CONFIG)
    async with sqlite.open(sqlite.Settings(path=str(tmp_path / ".handrail" / "handrail.sqlite"))) as store:
        for call in calls():
            store.finish(call)
        store.keep(Kept(exchange_id="ex_1", at_ms=AT_MS, policy_digest=""))
        store.save(Session(id="se_one", labels=("vip",)), AT_MS)
        await store.hold(replace(held("ap_1"), session_id="se_one"))
        await store.hand_over(handoff("ho_1", "se_one"))
    (tmp_path / ".handrail" / "customer.key").write_text(KEY)
    return tmp_path


def test_a_conversation_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its calls with what they cost and called, its labels, hand-offs and actions, and what was kept."""
    assert 0 == main(["sessions", "show", "se_one"])

    said = capsys.readouterr().out
    parts = (ANN, "vip", "1.  2026-01-01 00:00:00 UTC", "ex_2", "lookup", "$0.000005", "ho_1", "ap_1", "refund", "ex_1")
    assert [] == [part for part in parts if part not in said]
    assert "ex_3" not in said


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        pytest.param(["--customer", "ann"], ["se_one", "se_two"], id="customer"),
        pytest.param(["--customer", "bob"], ["se_two"], id="another customer"),
        pytest.param(["--customer", "ann", "--tenant", "other"], [], id="of another tenant"),
        pytest.param(["--customer", "eve"], [], id="nobody"),
        pytest.param(["se_one"], ["se_one"], id="conversation"),
        pytest.param(["ex_1"], [], id="no conversation"),
    ],
)
def test_who_is_asked_for_is_found(
    folder: Path, subject: list[str], found: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A customer's conversations are those in which calls have named it; where nothing is known, the status says so."""
    assert (0 if found else 1) == main(["sessions", "show", *subject, "--json"])

    said = capsys.readouterr()
    assert found == [one["id"] for one in json.loads(said.out)["conversations"]]
    assert ("" if found else "nothing is known of it\n") == said.err


def test_everything_is_exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As one document, into a file that is its owner's alone and was not there before."""
    command = ["sessions", "export", "--customer", "ann", "--into", "ann.json"]

    assert [0, 2] == [main(command) for _ in range(2)]
    document = json.loads((folder / "ann.json").read_text())
    assert ("ann", True, {"local": 11}) == (document["of"], document["complete"], document["tiers"])
    assert ["se_one", "se_two"] == [one["id"] for one in document["conversations"]]
    assert 0o600 == stat.S_IMODE((folder / "ann.json").stat().st_mode)
    assert "ann.json: cannot be written: File exists" in capsys.readouterr().err


def test_rows_are_exported_as_they_are_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One a line, for programs."""
    assert 0 == main(["sessions", "export", "se_one", "--lines"])

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["exchanges", "exchanges", "facts", "handoffs", "held", "links", "sessions"] == sorted(
        row["table"] for row in rows
    )
    assert {"ex_1", "ex_2"} == {row["body"]["id"] for row in rows if row["table"] == "exchanges"}


def test_without_yes_nothing_is_erased(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would go is told, by tier and table, and that a conversation is another customer's as well."""
    before = (folder / ".handrail" / "handrail.sqlite").read_bytes()

    assert [0, 0] == [main(["sessions", "erase", "--customer", "ann", *how]) for how in ([], ["--json"])]
    words, _, told = capsys.readouterr().out.rpartition("\n{")
    assert ["se_two is also with another customer: all of it goes", "nothing was erased: --yes does it"] == [
        line for line in words.splitlines() if "another" in line or "--yes" in line
    ]
    assert {"exchanges": 4, "facts": 1, "sessions": 1, "held": 1, "handoffs": 1, "links": 3} == (
        json.loads("{" + told)["rows"]["local"]
    )
    assert before == (folder / ".handrail" / "handrail.sqlite").read_bytes()


def test_one_conversation_is_erased(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The customer's others stay. Every name of it is searched for, in every tier."""
    assert 0 == main(["sessions", "erase", "se_one", "--by", "ann", "--yes", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (True, {"se_one", "ex_1", "ex_2", "ap_1", "ho_1"}) == (told["proven"], set(told["left"]["local"]))
    assert {0} == set(told["left"]["local"].values())
    main(["sessions", "show", "--customer", "ann", "--json"])
    assert ["se_two"] == [one["id"] for one in json.loads(capsys.readouterr().out)["conversations"]]


async def _send(folder: Path) -> None:
    async with sqlite.open(sqlite.Settings(path=str(folder / ".handrail" / "handrail.sqlite"))) as store:
        far = 4_102_444_800_000
        flying = sent("ex_9", started_ms=far)
        await store.dispatch(replace(flying, session=Session(id="se_one")))


def test_a_call_under_way_is_not_proven_away(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it leaves when it ends comes after: the status says that it has to be done again."""
    asyncio.run(_send(folder))

    assert [1, 0] == [main(["sessions", "erase", "se_one", "--by", "ann", "--yes"]) for _ in range(2)]
    assert "under way meanwhile, and on record once they end: ex_9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        pytest.param(["--customer", ""], "an empty name is nobody's", id="empty"),
        pytest.param(["--customer", "ann", "--config", "other.yaml"], "no customer can be told by name", id="no key"),
        pytest.param(["s", "--config", "other.yaml"], "cannot be read: unable to open", id="no records"),
    ],
)
def test_what_cannot_be_asked(folder: Path, subject: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, with why; no key is made by asking."""
    (folder / "other.yaml").write_text(CONFIG + "state: {path: other/handrail.sqlite}\n")

    assert 2 == main(["sessions", "show", *subject])
    assert says in capsys.readouterr().err
    assert not (folder / "other").exists()


def test_an_answer_that_lacks_a_tier_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the others have: the status says that it is not all."""
    found = app.Found(which=Selection(), rows={"local": ()}, away={"warm": "The database is away."})

    assert 1 == sessions.told(found)
    assert "the tier warm cannot be reached: The database is away. What it has is missing here." in (
        capsys.readouterr().err
    )


def test_a_name_that_is_in_anything_is_not_looked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is said; its digests are looked for all the same."""
    assert 0 == main(["sessions", "erase", "--customer", "ann", "--by", "ann", "--yes"])

    lines = capsys.readouterr().out.splitlines()
    assert "not looked for, since it would be found in anything: ann" in lines
    assert [[ANN, "0"]] == [line.split() for line in lines if line.startswith("cu_")]
