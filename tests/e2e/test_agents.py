"""Owns the proof that agents of openai-agents and LangChain, unchanged, live with what Handrail decides."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.cli import main
from proxy.terms import Exchange
from tests.e2e.frameworks import QUIET, AgentsSdk, Framework, LangChain
from tests.e2e.rig import WAIT_S, Provider, Served, handrail, until

# openai-agents ends the async generators of the loop that it then goes on using, and Python warns of the next one.
pytestmark = pytest.mark.filterwarnings("ignore:asynchronous generator .* was scheduled after loop:ResourceWarning")

KEY = bytes(range(32))
CONFIG = """\
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: "unix:FOLDER/admin"
providers: {model: {dialect: openai, base_url: "PROVIDER", prices: openai}}
policies: [policy.yaml]
handoff: {url: "WEBHOOK", secret_file: webhook.secret}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: support, version: 1.0.0}
spec:
  actions:
    - {id: cap, tools: [issue_refund], require: num(tool.args.amount_usd) <= 100.0, message: I may not refund that.}
    - id: lead
      tools: [issue_refund]
      require: num(tool.args.amount_usd) <= 50.0
      action: require_approval
      message: A colleague has to approve this first.
  escalation:
    - {id: human, when: 'request.user_text.contains("human")', to: tier2, message: I will get a colleague for you.}
"""
OWNED = "A colleague of mine has taken this over and will get back to you here."
ORDERS = itertools.count(2001)
"""Each conversation is about an order of its own: two whose histories are the same would be one."""


# --- the world ------------------------------------------------------------------------------------------------------


class Webhook:
    """A server that takes every packet, and remembers it as it came."""

    def __init__(self) -> None:
        self.taken: list[tuple[Mapping[str, str], bytes]] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serve while the block lasts; gives the URL."""
        taken = self.taken

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}/hook"
            server.shutdown()
            thread.join(WAIT_S)

    def told(self, order: str) -> bool:
        """Say whether anything was sent about an order."""
        return bool(self.about(order))

    def about(self, order: str) -> list[tuple[Mapping[str, str], bytes]]:
        """Return what was sent about an order."""
        return [(headers, body) for headers, body in self.taken if order.encode() in body]


class World(NamedTuple):
    """A Handrail with its policy, the configuration it has, and the webhook that it tells of hand-offs."""

    handrail: Served
    config: Path
    webhook: Webhook

    def desk(self, *arguments: str) -> Any:
        """Do as a colleague does: give a command, and read what it prints."""
        with redirect_stdout(io.StringIO()) as printed:
            assert 0 == main([*arguments, "--config", str(self.config), "--json"])
        return json.loads(printed.getvalue())

    def waiting(self, command: str, order: str) -> list[Any]:
        """Return what `handrail COMMAND list` shows about an order."""
        return [item for item in self.desk(command, "list") if order in json.dumps(item)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start all of it, and point the agents at it by the environment alone."""
    folder, webhook = tmp_path_factory.mktemp("agents"), Webhook()
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "webhook.secret").write_text(f"whsec_{base64.b64encode(KEY).decode()}")
    with Provider().running() as provider, webhook.listening() as url, pytest.MonkeyPatch.context() as patch:
        text = CONFIG.replace("FOLDER", str(folder)).replace("PROVIDER", provider.url).replace("WEBHOOK", url)
        (folder / "handrail.yaml").write_text(text)
        with handrail(folder / "handrail.yaml") as served:
            for name, value in {"OPENAI_BASE_URL": served.base_url, "OPENAI_API_KEY": "placeholder", **QUIET}.items():
                patch.setenv(name, value)
            yield World(served, folder / "handrail.yaml", webhook)


@pytest.fixture(scope="module", params=[AgentsSdk, LangChain], ids=["openai-agents", "langchain"])
def agent(request: pytest.FixtureRequest, world: World) -> Iterator[Framework]:
    """Give each agent in turn."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield request.param(loop)
    asyncio.set_event_loop(None)
    loop.close()


class Customer:
    """A customer in a conversation with an agent, about one order."""

    def __init__(self, agent: Framework, streamed: bool) -> None:
        self.order = f"A{next(ORDERS)}"
        self._agent = agent
        self._streamed = streamed
        self._history: list[Any] = []

    def says(self, words: str) -> str:
        """Say something more; return what the agent answers when its run has ended."""
        answer = self._agent.run(f"{words} for order {self.order}.", self._history, streamed=self._streamed)
        self._history = answer.history
        return answer.text

    @property
    def refunds(self) -> list[float]:
        """Return the amounts that the agent's tool has paid back."""
        return [amount for order, amount in self._agent.shop.refunds if order == self.order]


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    """Say in which of the two ways the agent is run."""
    return bool(request.param)


@pytest.fixture
def customer(agent: Framework, streamed: bool) -> Customer:
    """Give a customer who has not said anything yet."""
    return Customer(agent, streamed)


# --- what the agents live through -----------------------------------------------------------------------------------


def test_readmes_example_runs_as_it_stands(agent: Framework) -> None:
    """The code that README shows refunds what it says, and prints the model's answer."""
    assert "Refunded $20.00 for order A1001.\n" == agent.printed
    assert ("A1001", 20.0) == agent.shop.refunds[0]


def test_a_refund_within_limits_is_made(customer: Customer, streamed: bool, world: World) -> None:
    """The tool runs once; the calls before and after it are one conversation, and of the kind that was meant."""
    began_ms = int(time.time() * 1000)

    said = customer.says("Please refund $50")

    def calls() -> list[Exchange]:
        return [exchange for exchange in world.handrail.records() if exchange.started_ms >= began_ms]

    assert until(lambda: 2 == len(calls()))
    first, second = calls()
    assert (f"Refunded $50.00 for order {customer.order}.", [50.0]) == (said, customer.refunds)
    assert (first.session.id, 1, 2) == (second.session.id, first.session.turn, second.session.turn)
    assert {streamed} == {first.stream, second.stream}


def test_a_refund_over_the_limit_is_never_made(customer: Customer) -> None:
    """The tool does not run, the run ends with the rule's words, and the conversation goes on."""
    said = customer.says("Please refund $400")

    assert ("I may not refund that.", []) == (said, customer.refunds)
    assert f"Refunded $30.00 for order {customer.order}." == customer.says("Then please refund $30")
    assert [30.0] == customer.refunds


def test_an_approved_refund_is_made_once(customer: Customer, world: World) -> None:
    """It waits until a colleague approves it, is then made, and waits again when it is asked for again."""
    pending = "A colleague has to approve this first."
    assert (pending, []) == (customer.says("Please refund $80"), customer.refunds)

    [held] = world.waiting("approvals", customer.order)
    approved = world.desk("approvals", "approve", held["id"], "--by", "lead")

    assert ("approved", "lead") == (approved["state"], approved["decided_by"])
    assert f"Refunded $80.00 for order {customer.order}." == customer.says("Please refund the $80 now")
    assert pending == customer.says("And please refund $80 again")
    assert [80.0] == customer.refunds


def test_a_hand_over_is_told_once(customer: Customer, agent: Framework, streamed: bool, world: World) -> None:
    """One signed packet arrives however the agent goes on, nothing more is refunded, and the list has it."""
    customer.says("Please refund $20")
    assert "I will get a colleague for you." == customer.says("I want a human")
    assert [OWNED, OWNED] == [customer.says("Please refund $5"), customer.says("A human please")]

    # Packets go out in rounds: when a second one of later has come, the round of ours is over, whatever was in it.
    for other in (Customer(agent, streamed), Customer(agent, streamed)):
        other.says("A human please")
        assert until(partial(world.webhook.told, other.order))
    [(headers, body)] = world.webhook.about(customer.order)
    packet = json.loads(body)["data"]
    assert signature(headers, body) == headers["webhook-signature"]
    assert [packet["id"]] == [handoff["id"] for handoff in world.waiting("escalations", customer.order)]
    assert ("tier2", f"I want a human for order {customer.order}.") == (packet["queue"], packet["open_question"])
    assert ([("issue_refund", "ok")], [20.0]) == (
        [(tried["tool"], tried["outcome"]) for tried in packet["tried"]],
        customer.refunds,
    )


def signature(headers: Mapping[str, str], body: bytes) -> str:
    """Sign what was received as Standard Webhooks says."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()}"
