"""Owns tenants who use the same names for everything that a client can choose, each with canaries of its own.

A tenant makes its calls one after the other, so what it has to get is known; all tenants make theirs at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from bench.security.asking import Headers, Reply
from bench.security.forging import bearer

USER = "ann"
"""Whom all tenants name as their user."""
TALKS, REFUNDS, HANDED = ("s0", "s1", "s2", "s3"), ("s4", "s5"), "s6"
"""The names of conversations, the same for all: of talk, of refunds, and of one that a human gets."""
TOOL = {
    "type": "function",
    "function": {
        "name": "refund",
        "parameters": {"type": "object", "properties": {"amount": {"type": "number"}, "order": {"type": "string"}}},
    },
}
ASKED = [{"role": "user", "content": "I want a refund please"}]
MADE = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "refund", "arguments": '{"amount": 1, "order": "A-1"}'},
}
TOLD = [
    *ASKED,
    {"role": "assistant", "content": None, "tool_calls": [MADE]},
    {"role": "tool", "tool_call_id": "call_1", "content": '{"status": "ok"}'},
]
QUESTION = {"role": "user", "content": "plain: where is my order? I have waited for it so long."}
LONGEST = 6
"""Turns of a conversation that nothing names."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call, what had to come of it, and what came."""

    tenant: int
    what: str
    reply: Reply
    owned: bool = False
    """A human has the conversation."""
    called: bool = False
    """The tool call is let through: it was approved for this tenant."""
    repeated: bool = False
    """It is the answer to a call that this tenant made before."""
    has: tuple[str, ...] = ()
    """What the reply has to have in it."""
    marked: bool = False
    """This tenant has marked this conversation before."""


class World(Protocol):
    """What a tenant calls."""

    def post(self, host: int, headers: Headers, body: bytes) -> Reply:
        """Make a call at one of the hosts."""

    def approve(self, record: str) -> bool:
        """Have a human approve what a call left waiting; say whether anything was."""

    def foreign(self, tenant: int, dice: random.Random) -> str:
        """Return a placeholder that the provider has seen of another tenant."""


class Tenant:
    """One of them."""

    def __init__(self, number: int, key: str, world: World, dice: random.Random, hosts: int) -> None:
        self.number = number
        self.calls: list[Call] = []
        self._proof = bearer(key)
        self._world = world
        self._dice = dice
        self._chance = random.Random(dice.random())  # noqa: S311 - a schedule, not a secret
        """For what depends on when others call; what is called does not."""
        self._hosts = hosts
        self._marked: set[str] = set()
        self._approved: set[str] = set()
        self._handed = False
        self._keys = 0
        self._turns: list[Any] = []

    def canary(self) -> str:
        """Return what nobody else has."""
        return f"cn{self.number:02}x{self._dice.randbytes(8).hex()}"

    def run(self, calls: int) -> None:
        """Make so many calls, or a few more."""
        ways: dict[Callable[[], None], int] = {
            self.talk: 10, self.go_on: 6, self.again: 4, self.refund: 3, self.tell: 2, self.mark: 1, self.hand_over: 2,
        }  # fmt: skip
        while len(self.calls) < calls:
            self._dice.choices([*ways], [*ways.values()])[0]()

    # --- the ways -----------------------------------------------------------------------------------------------------

    def talk(self) -> None:
        """Say what only this tenant knows, and an address that all know; name what the provider calls another's."""
        name, canary = self._dice.choice(TALKS), self.canary()
        mail, foreign = f"{canary}@mail.example", self._world.foreign(self.number, self._chance)
        text = f"Note {canary}: write to {mail} or ann@example.org, <<{foreign}>>"
        has = (canary, mail, "ann@example.org", f"<<{foreign}>>")
        self._call("talk", name, [{"role": "user", "content": text}], has=has)

    def go_on(self) -> None:
        """Go on with a conversation that only its history tells, and which all have word for word."""
        self._turns.append(QUESTION)
        reply = self._call("history", "", self._turns, prompt_cache_key="all").reply
        self._turns = [*self._turns, {"role": "assistant", "content": spoken(reply.body)}]
        if len(self._turns) >= 2 * LONGEST:
            self._turns = []

    def again(self) -> None:
        """Make a call twice under a key that all use, with a body that all send, or one of its own."""
        same = self._keys % 2 == 0
        key, self._keys = (("idempotency-key", f"k{self._keys}"),), self._keys + 1
        text = "plain: the same of all" if same else f"Once {self.canary()}"
        host, body = self._dice.randrange(self._hosts), self._body([{"role": "user", "content": text}])
        marked = "s0" in self._marked
        self._sent("first under its key", "s0", host, body, key, marked=marked)
        self._sent("again under its key", "s0", host, body, key, marked=marked, repeated=True)

    def refund(self) -> None:
        """Ask for what a human has to approve; every second tenant gets approvals, each for one call."""
        name = self._dice.choice(REFUNDS)
        called = name in self._approved
        self._approved.discard(name)
        reply = self._call("refund", name, ASKED, called=called, tools=[TOOL]).reply
        if not called and self.number % 2 == 0 and self._world.approve(reply.decision):
            self._approved.add(name)

    def tell(self) -> None:
        """Bring a result of the tool call; who never got the call made it up."""
        self._call("result", self._dice.choice(REFUNDS), TOLD, tools=[TOOL])

    def mark(self) -> None:
        """Have the conversation marked; two of three tenants never do."""
        if self.number % 3 == 0:
            name = self._dice.choice(TALKS)
            self._call("mark", name, [{"role": "user", "content": f"plain: mark me {self.canary()}"}])
            self._marked.add(name)

    def hand_over(self) -> None:
        """Ask for a human in a conversation, which every fourth tenant does; the others go on talking in theirs."""
        wants = self.number % 4 == 1 and not self._handed
        self._handed = self._handed or wants
        text = f"{'I want a person' if wants else 'Still here'} {self.canary()}"
        self._call("handed over", HANDED, [{"role": "user", "content": text}], owned=self._handed)

    # --- calling ------------------------------------------------------------------------------------------------------

    def _body(self, messages: list[Any], **more: object) -> bytes:
        tree = {"model": "m", "messages": messages, "stream": self._dice.random() < 0.5, "user": USER, **more}
        return msgspec.json.encode(tree)

    def _call(
        self,
        what: str,
        name: str,
        messages: list[Any],
        *,
        owned: bool = False,
        called: bool = False,
        has: tuple[str, ...] = (),
        **more: object,
    ) -> Call:
        metadata = {"user_id": "c-1", **({"conversation_id": name} if name else {})}
        body, host = self._body(messages, metadata=metadata, **more), self._dice.randrange(self._hosts)
        by_header = name if self._dice.random() < 0.5 else ""
        return self._sent(what, by_header, host, body, owned=owned, called=called, has=has, marked=name in self._marked)

    def _sent(self, what: str, name: str, host: int, body: bytes, more: Headers = (), **expected: Any) -> Call:
        session: Headers = (("x-handrail-session", name),) if name else ()
        reply = self._world.post(host, (*self._proof, *session, *more), body)
        self.calls.append(Call(tenant=self.number, what=what, reply=reply, **expected))
        return self.calls[-1]


def spoken(body: bytes) -> str:
    """Return the text of a reply, streamed or not."""
    if not body.startswith(b"data:"):
        tree = msgspec.json.decode(body)
        return "".join(choice["message"].get("content") or "" for choice in tree.get("choices", ()))
    events = (line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line.startswith(b"data: {"))
    choices = (choice for event in events for choice in msgspec.json.decode(event).get("choices", ()))
    return "".join(choice["delta"].get("content") or "" for choice in choices)
