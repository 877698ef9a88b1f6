"""Owns the proof of the request side of a walk: in which conversation a call is, and where it may go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from proxy.pipeline import Walk, entry
from proxy.routing import RETRIES_AT_ONCE
from proxy.snapshot import Limits, Snapshot
from proxy.terms import RawRequest, State, UpstreamCall
from tests.fakes import FakeClient, FakeClock, Script, ScriptedReply, ScriptedUpstream
from tests.pipeline.calls import ASK, check_books
from tests.walking import CHAT, CONFIG, PLAIN, Walked, compiled


async def test_attempts_are_capped() -> None:
    """`limits.max_attempts` bounds how many targets are tried."""
    snapshot = replace(PLAIN, limits=Limits(max_attempts=1))
    walked = Walked(Script(status=503), Script(status=503), snapshot=snapshot)

    await walked.call({**ASK, "model": "both"})

    check_books(walked, State.FAULT, [State.FAULT])


async def test_what_was_not_routed_goes_nowhere() -> None:
    """A walk that has no route yet has no target."""
    raw = RawRequest(method="POST", path=CHAT, headers={}, body=b"{}", peer="127.0.0.1")

    assert [] == list(entry.targets(Walk(Walked().house, raw, FakeClient(gone=False))))


async def test_a_storm_is_not_multiplied() -> None:
    """Where all targets refuse, calls are soon sent once each; the last one's record says so, and its client gets the
    provider's own refusal."""
    walked = Walked(*[Script(status=429, headers={"retry-after": "7"})] * 1000)
    outcomes = [await walked.call({**ASK, "model": "both"}) for _ in range(200)]

    attempts = [len(exchange.attempts) for exchange in walked.seen]
    assert (200 + RETRIES_AT_ONCE, 1) == (sum(attempts), attempts[-1])
    route = walked.seen[-1].route
    assert route
    assert route.reason.endswith("small is spared retries")
    assert {(429, "7")} == {(head.status, head.headers["retry-after"]) for o in outcomes if (head := o.head)}


async def test_nobody_else_is_asked_for_a_client_that_has_left() -> None:
    """A call whose client has left is read to its end for the books, but no other target is paid for it."""
    walked = Walked(Script(status=503), Script(status=503))

    await walked.call({**ASK, "model": "both"}, gone=True)

    check_books(walked, State.CLIENT_GONE, [State.FAULT])


class Late(ScriptedUpstream):
    """A provider that lets a minute pass before each of its answers."""

    def __init__(self, clock: FakeClock, *scripts: Script) -> None:
        super().__init__(*scripts)
        self._clock = clock

    @asynccontextmanager
    async def send(self, call: UpstreamCall) -> AsyncIterator[ScriptedReply]:
        """Let the time pass, then play the next script."""
        self._clock.at_ms += 60_000
        async with super().send(call) as reply:
            yield reply


async def test_a_target_that_answers_late_rests_from_then_on() -> None:
    """The rest of a target begins when it has failed, not when the call began that it kept waiting."""
    walked = Walked()
    walked.house.upstream = walked.upstream = Late(walked.clock, *[Script(refuse="first_byte_timeout")] * 5)
    for _ in range(5):
        await walked.call(ASK)

    assert not walked.house.health.healthy("large", walked.clock.monotonic_ms())


ANSWER = b'{"id":"c","model":"large","choices":[{"index":0,"finish_reason":"stop","message":{"content":"%s"}}]}'


HANDS_OVER = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  escalation: [{id: e, when: 'request.user_text.contains("human")', to: tier2, message: One moment.}]
"""


class Agent:
    """An agent that names no conversation."""

    def __init__(self, *answers: str, snapshot: Snapshot = PLAIN) -> None:
        self.walked = Walked(*(Script(chunks=(ANSWER % said.encode(),)) for said in answers), snapshot=snapshot)

    async def call(self, *said: str, prompt: str = "", user: str = "", key: object = None) -> str:
        """Send a history in which user and assistant take turns; return the name of its session."""
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
        system = [{"role": "system", "content": prompt}] if prompt else []
        cached = {} if key is None else {"prompt_cache_key": key}
        await self.walked.call({"model": "large", "messages": [*system, *messages], "user": user, **cached})
        return self.walked.seen[-1].session.id


async def test_customers_who_open_alike_keep_their_own_conversations() -> None:
    """As many as have said the same may go on, each in a session of its own, which stays its own."""
    agent = Agent("Hello!", "Hello!", "Which one?", "Why?", "Done.", "Done.")
    opened = [await agent.call("Hi") for _ in range(2)]
    second = [await agent.call("Hi", "Hello!", text) for text in ("my order", "a refund")]
    third = [
        await agent.call("Hi", "Hello!", *more) for more in (("my order", "Which one?", "1"), ("a refund", "Why?", "2"))
    ]

    assert sorted(opened) == sorted(second)
    assert second == third


async def test_nobody_takes_the_place_of_a_call_that_failed() -> None:
    """A conversation whose call came to nothing may be found again where it was."""
    agent = Agent("Hello!", "Hello!")
    opened = {await agent.call("Hi") for _ in range(2)}
    agent.walked.upstream.scripts = [Script(refuse="connect_failed"), *[Script(chunks=(ANSWER % b"Yes?",))] * 2]
    failed = await agent.call("Hi", "Hello!", "my order")
    again = [await agent.call("Hi", "Hello!", text) for text in ("my order", "a refund")]

    assert opened == {*again}
    assert failed == again[0]


async def test_who_can_be_anybody_begins_anew() -> None:
    """Where several have said the same and all have gone on, a call that goes back there starts a conversation."""
    agent = Agent(*["Which order is it about?"] * 2, "a", "b", "c")
    opened = {await agent.call("where is my order?") for _ in range(2)}
    for text in ("1", "2"):
        await agent.call("where is my order?", "Which order is it about?", text)
    back = await agent.call("where is my order?", "Which order is it about?", "3")

    assert (False, "new", 1) == (back in opened, *_link(agent.walked))


async def test_a_conversation_that_is_known_alone_is_gone_on_with() -> None:
    """A question that was edited belongs to the conversation that it was edited in."""
    agent = Agent("Which order is it about?", "a", "b")
    opened = await agent.call("where is my order?")
    await agent.call("where is my order?", "Which order is it about?", "1")
    back = await agent.call("where is my order?", "Which order is it about?", "2")

    assert (opened, "trace", 2) == (back, *_link(agent.walked))


async def test_a_cache_key_tells_who_opened_alike() -> None:
    """Where system prompts change and all open alike, a key for each conversation tells which goes on."""
    agent = Agent(*["Hello!"] * 2, "a", "b")
    opened = {key: await agent.call("Hi", prompt=f"It is {key}.", key=key) for key in ("one", "two")}

    second = {key: await agent.call("Hi", "Hello!", "well", prompt="Later.", key=key) for key in ("two", "one")}

    assert (opened, "key", 2) == (second, *_link(agent.walked))


async def test_a_cache_key_for_all_tells_nothing() -> None:
    """An agent that sends one key for all its conversations has none joined by it."""
    agent = Agent(*["Hello!"] * 2, "a")
    opened = {await agent.call("Hi", prompt=f"It is {number}.", key="k") for number in (1, 2)}
    third = await agent.call("Hi", "Hello!", "well", prompt="It is 3.", key="k")

    assert (3, "new") == (len({*opened, third}), agent.walked.seen[-1].session.link)


async def test_a_conversation_that_has_gone_on_is_not_told_by_its_cache_key() -> None:
    """Who says what it has said, and is not where it stands, may be another: nothing is joined."""
    agent = Agent("Hello!", "a", "b")
    opened = await agent.call("Hi", prompt="It is one.", key="k")
    assert opened == await agent.call("Hi", "Hello!", "well", prompt="It is two.", key="k")

    other = await agent.call("Hi", "Hello!", "so", prompt="It is three.", key="k")

    assert (False, "new") == (other == opened, agent.walked.seen[-1].session.link)


@pytest.mark.parametrize(
    "keys", [(None, "k"), ("k", None), ("k", "l"), ("", ""), (7, 7)], ids=["late", "lost", "new", "empty", "no text"]
)
async def test_without_the_same_cache_key_nothing_is_joined_by_it(keys: tuple[object, object]) -> None:
    """The key has to have been there, a text, and the same."""
    agent = Agent("Hello!", "a")
    opened = await agent.call("Hi", prompt="It is one.", key=keys[0])

    second = await agent.call("Hi", "Hello!", "well", prompt="It is two.", key=keys[1])

    assert opened != second


async def test_a_cache_key_is_its_callers_and_users() -> None:
    """Users with the same key are as far apart as ever."""
    agent = Agent("Hello!", "a")
    ann = await agent.call("Hi", prompt="It is one.", user="ann", key="k")
    eve = await agent.call("Hi", "Hello!", "well", prompt="It is two.", user="eve", key="k")

    assert ann != eve


async def test_users_are_never_joined() -> None:
    """What one user has said leads another nowhere; the same user goes on under any system prompt."""
    agent = Agent(*["Hello!"] * 4)
    ann = await agent.call("Hi", prompt="It is one.", user="ann")
    eve = await agent.call("Hi", "Hello!", "well", prompt="It is one.", user="eve")
    anybody = await agent.call("Hi", "Hello!", "well", prompt="It is one.")
    again = await agent.call("Hi", "Hello!", "well", prompt="It is two.", user="ann")

    assert (3, ann) == (len({ann, eve, anybody}), again)


async def test_a_record_tells_its_customer_by_a_digest() -> None:
    """The same for the same name, in another conversation as well; the name itself is in no record."""
    agent = Agent(*["Hello!"] * 3)
    for user in ("ann@example.org", "ann@example.org", ""):
        await agent.call("Hi", user=user)

    first, second, nobody = agent.walked.seen
    assert (True, first.customer, "") == (first.customer.startswith("cu_"), second.customer, nobody.customer)
    assert first.session.id != second.session.id
    assert b"ann@" not in msgspec.json.encode(agent.walked.seen)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        pytest.param("", ("a human!", "One moment.", "hello?"), id="going on"),
        pytest.param("It is two.", ("a human!", "One moment.", "hello?"), id="with another prompt"),
        pytest.param("", ("a human!", "One moment.", "never mind"), id="saying something else instead"),
    ],
)
async def test_a_hand_off_is_not_escaped(tmp_path: Path, prompt: str, said: tuple[str, ...]) -> None:
    """A conversation that a human owns is kept from the model, whatever the next call changes."""
    agent = Agent(snapshot=await asyncio.to_thread(compiled, CONFIG, HANDS_OVER, tmp_path))
    await agent.call("a human!")
    await agent.call("a human!", "One moment.", "hello?")
    await agent.call(*said, prompt=prompt)

    assert ([], State.DENIED) == (agent.walked.upstream.sent, agent.walked.seen[-1].state)


def _link(walked: Walked) -> tuple[str, int]:
    session = walked.seen[-1].session
    return session.link, session.turn


async def test_a_caller_asks_for_its_own_models_alone() -> None:
    """A call for a model outside the caller's scope is refused before policy, money and provider; it is on record."""
    known = PLAIN.identify(RAW, 0)
    snapshot = replace(PLAIN, identify=lambda raw, at_ms: replace(known, models=("small",)))
    walked = Walked(Script(chunks=(ANSWER % b"Hi",)), snapshot=snapshot)

    refused = await walked.call({**ASK, "model": "large"})
    await walked.call({**ASK, "model": "small"})

    assert (True, True) == (b"permission_error" in refused.body, b"model_not_allowed" in refused.body)
    assert ["large", "small"] == [exchange.model_asked for exchange in walked.seen]
    assert [0, 1] == [len(exchange.attempts) for exchange in walked.seen]


RAW = RawRequest(method="POST", path="/", headers={}, body=b"", peer="p")


@pytest.mark.parametrize(("size", "turns"), [(entry.LARGE // 2, 0), (entry.LARGE, 1)], ids=["small", "large"])
async def test_a_large_body_is_read_in_a_turn_of_its_own(size: int, turns: int) -> None:
    """Reading takes some milliseconds for each MiB, so whoever has little to do goes first."""
    walked = Walked(Script(status=503))
    went = list[int]()

    async def meanwhile() -> None:
        went.append(len(walked.upstream.sent))

    walked.meanwhile = meanwhile
    await walked.call({**ASK, "messages": [{"role": "user", "content": "x" * size}]})

    assert [0] * turns == went


NATIVE = compiled(CONFIG.replace('invalid/v1"', 'invalid/v1", options: {responses: true}'))
RESPONSES = "/v1/responses"


def responded(reply_id: str) -> Script:
    """Return a response by this name."""
    tree = {"id": reply_id, "status": "completed", "model": "large", "output": []}
    return Script(chunks=(msgspec.json.encode(tree),))


async def went_on(previous: str, **more: str) -> list[tuple[int, str, str, int]]:
    """Make a call and one that goes on from a reply; return of each its status, conversation, how that was found, and
    its turn."""
    walked = Walked(responded("resp_1"), responded("resp_2"), snapshot=NATIVE)
    await walked.call({"model": "large", "input": "Hi", "user": "ann"}, path=RESPONSES)
    await walked.call({"model": "large", "input": "And?", "previous_response_id": previous, **more}, path=RESPONSES)
    return [(one.status, one.session.id, one.session.link, one.session.turn) for one in walked.seen]


async def test_a_call_goes_on_from_the_reply_that_it_names() -> None:
    """Its history is the provider's; its conversation is known all the same."""
    first, second = await went_on("resp_1", user="ann")

    assert [(200, "new", 1), (200, "previous", 2)] == [(one[0], *one[2:]) for one in (first, second)]
    assert first[1] == second[1]


@pytest.mark.parametrize(
    ("previous", "more"),
    [
        pytest.param("resp_9", {"user": "ann"}, id="a reply that nobody got"),
        pytest.param("resp_1", {"user": "bob"}, id="one that another user got"),
    ],
)
async def test_a_reply_of_another_s_is_not_gone_on_from(previous: str, more: dict[str, str]) -> None:
    """The provider knows one caller only, and would show anybody's history to whoever names it."""
    _, second = await went_on(previous, **more)

    assert 400 == second[0]


async def test_a_name_is_stronger_than_a_reply() -> None:
    """But whose reply it is has to be known in any case."""
    walked = Walked(responded("resp_1"), responded("resp_2"), snapshot=NATIVE)
    await walked.call({"model": "large", "input": "Hi"}, path=RESPONSES)
    body = {"model": "large", "input": "And?", "previous_response_id": "resp_1", "metadata": {"session_id": "mine"}}

    await walked.call(body, path=RESPONSES)

    assert ["new", "metadata"] == [one.session.link for one in walked.seen]
