"""Owns the proof that a customer is known on every channel, and is erased to the last byte while Handrail serves."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from proxy import identity
from proxy.cli import main
from proxy.conversation import user_of
from proxy.journal import lines
from proxy.stores.sqlite import Reader
from proxy.terms import Caller, Table
from tests.e2e.endings import says, simulate
from tests.e2e.rig import LISTENERS, Served, handrail, until
from tests.postgres_servers import PASSWORD, shared_server

CANARY = "the canary sings"
NAME = "ann@example.org"
KEYS = {name: identity.new_key(name.encode().ljust(identity.RANDOM_BYTES)) for name in ("chat", "phone")}
CONFIG = """\
agent: {id: support, tenant: shop}
providers: {model: {dialect: simulated, prices: openai}}
policies: [policy.yaml]
auth: {keys_file: keys.yaml}
audit: {}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  spend:
    - {id: each, scope: user, window: day, limitUSD: 5}
    - {id: named, key: request.metadata.customer_id, window: day, limitUSD: 5}
  actions:
    - {id: large, tools: [refund], require: num(tool.args.amount) <= 50.0, action: require_approval}
    - {id: total, tools: [refund], totals: {usd: {value: tool.args.amount, limit: 1000, window: month, per: user}}}
  escalation: [{id: human, when: 'request.user_text.contains("human")', to: tier2, message: One moment.}]
  rules:
    - {id: keep, phase: post, when: "true", action: record}
"""
TOOL = {"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}


WARM = """\
state: {content_key_file: content.key}
tiers: {warm: {postgres: {url: "URL", password_file: pg.password}}}
"""


@pytest.fixture(params=["one file", "sealed, and in PostgreSQL"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Serve two callers of one tenant: with what Handrail keeps by itself, or with another tier and content sealed."""
    entries = [{"name": name, "sha256": digest, "agent": name} for name, (_, digest) in KEYS.items()]
    (tmp_path / "keys.yaml").write_text(json.dumps(entries))
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "content.key").write_text("ab" * 32)
    (tmp_path / "pg.password").write_text(PASSWORD)
    more = "" if request.param == "one file" else WARM.replace("URL", shared_server().url)
    (tmp_path / "handrail.yaml").write_text(LISTENERS + CONFIG + more)
    with handrail(tmp_path / "handrail.yaml") as served:
        yield served
    if more:
        # The server is everybody's.
        asyncio.run(shared_server().run(f"TRUNCATE {', '.join(f'handrail.{table}' for table in Table)}"))


def call(served: Served, channel: str, customer: str, said: str, session: str = "", **directives: object) -> None:
    """Make one call on a channel."""
    metadata = {"customer_id": customer, **simulate(**directives)} if directives else {"customer_id": customer}
    metadata |= {"session_id": session} if session else {}
    with openai.OpenAI(base_url=served.base_url, api_key=KEYS[channel][0], max_retries=0) as client:
        ask: Any = client.chat.completions.create
        ask(model="gpt-5-mini", messages=says(said), tools=[TOOL], metadata=metadata)


def talk(served: Served) -> None:
    """Let one customer write on one channel and phone on the other, beside another customer."""
    refunds = [{"name": "refund", "arguments": {"amount": amount, "note": CANARY}} for amount in (20, 80)]
    call(served, "chat", NAME, f"hello, {CANARY}", "one", text=f"Yes, {CANARY}.")
    call(served, "chat", NAME, "refund both", "one", tools=refunds)
    call(served, "phone", NAME, f"a human, {CANARY}")
    call(served, "phone", "bob@example.org", "hello, the other bird sings", "two")
    assert until(lambda: 4 == len(kept(served)))


def kept(served: Served) -> list[str]:
    """Return the calls that something was kept of."""
    with Reader(str(served.state)) as reader:
        return [name for (name,) in reader._connection.execute("SELECT exchange_id FROM facts")]


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def sessions(served: Served, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command beside the process that serves; return its status and what it said."""

    def run(verb: str, *more: str) -> tuple[int, str]:
        status = main(["sessions", verb, "--config", str(served.state.parent.parent / "handrail.yaml"), *more])
        return status, capsys.readouterr().out

    return run


def all_bytes(folder: Path) -> bytes:
    """Read every file of a folder."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def erasures(served: Served) -> list[dict[str, Any]]:
    """Return the audit log's entries about erasures."""
    entries = (json.loads(line) for _, line in lines(served.state.parent / "audit"))
    return [entry for entry in entries if entry["kind"] == "erased"]


def erased(sessions: Command) -> bool:
    """Erase the customer; return whether nothing is left. While the file is being read the command says: once more."""
    status, said = sessions("erase", "--customer", NAME, "--by", "dpo", "--yes")
    last = said.splitlines()[-1]
    assert (status, last) in ((0, "nothing is left of it"), (1, "not all of it is gone: run this again")), said
    return status == 0


def rows(sessions: Command) -> dict[str, int]:
    """Return how many rows of the customer every tier has."""
    tiers: dict[str, int] = json.loads(sessions("export", "--customer", NAME)[1])["tiers"]
    return tiers


def test_a_customer_is_known_and_erased_on_every_channel(served: Served, sessions: Command) -> None:
    """What was said to two agents is found under one name. An erasure beside the serving process leaves no byte of it
    in any file, touches nobody else, keeps the audit log as it was signed and is on record there; then the conversation
    begins anew. It can be done again."""
    talk(served)
    assert until(lambda: 1 == len({*rows(sessions).values()})), "every tier gets every row"
    known = json.loads(sessions("show", "--customer", NAME, "--json")[1])["conversations"]
    calls = [call for one in known for call in one["calls"]]
    digests = {user_of(NAME, msgspec.convert(call["caller"], Caller)) for call in calls}
    digests.add(known[0]["links"][0]["customer"])
    names = {NAME, *digests, *(one["id"] for one in known), *(call["id"] for call in calls)}
    names |= {hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in names}
    assert ([2, 1], [0, 1], [1, 0]) == tuple([len(one[k]) for one in known] for k in ("calls", "handoffs", "held"))
    assert {"chat", "phone"} == {link["channel"] for one in known for link in one["links"]}
    exported, dry = (sessions(*what, "--customer", NAME) for what in (["export"], ["erase"]))
    assert (0, True, 0, True) == (exported[0], CANARY in exported[1], dry[0], "nothing was erased" in dry[1])
    folder = served.state.parent
    before = all_bytes(folder)

    assert [True, True] == [until(lambda: erased(sessions)) for _ in range(2)]

    found = {name for name in names if name.encode() in before}
    assert digests | {call["id"] for call in calls} <= found
    assert set() == {name for name in [*names, CANARY] if name.encode() in all_bytes(folder)}
    assert set() == {name for name in [*digests, NAME, CANARY] if name.encode() in all_bytes(folder / "audit")}
    assert [1, 0] == [sessions("show", "--customer", name)[0] for name in (NAME, "bob@example.org")]
    assert until(lambda: len(erasures(served)) > 1 and [] == erasures(served)[-1]["away"])
    first, *_, last = erasures(served)
    assert [("dpo", 2), ("dpo", 0)] == [(entry["by"], entry["conversations"]) for entry in (first, last)]
    assert 0 == main(["audit", "verify", "--records", "--config", str(folder.parent / "handrail.yaml")])
    call(served, "chat", NAME, "hello again", "one")
    assert until(lambda: 2 == len(served.records()))
    assert {1} == {record.session.turn for record in served.records()}
