"""Owns the proof of proxy/conversation.py: which conversation a call belongs to, what calls know together."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.conversation import (
    LOOK_BACK,
    REMEMBERED_CALLS,
    REMEMBERED_TOOLS,
    End,
    History,
    claimed,
    customer,
    reply_mark,
    results,
    together,
    user,
    user_of,
)
from proxy.terms import Booked, Caller, Issued, Level, Message, RawRequest, Reply, Request, Session, Stand, ToolCall

CALLER = Caller(agent="a", level=Level.ASSIST, principal="local")
OTHER = Caller(agent="a", level=Level.ASSIST, principal="key:other")
HELLO = Message(role="user", text="hello")
CALL = ToolCall(id="c1", name="look", arguments="{}")


def raw(**headers: str) -> RawRequest:
    """Make a request with headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawRequest(method="POST", path="/v1/chat/completions", headers=named, body=b"{}", peer="p")


def request(**metadata: str) -> Request:
    """Make a request with metadata."""
    return Request(dialect="chat", model="m", messages=(HELLO,), metadata=metadata, body={}, raw=b"")


@pytest.mark.parametrize(
    ("headers", "metadata", "link"),
    [
        pytest.param({}, {}, "", id="none"),
        pytest.param({"x_handrail_session": "s"}, {}, "header", id="header"),
        pytest.param({"x_handrail_session": "s"}, {"session_id": "t"}, "header", id="header first"),
        pytest.param({}, {"thread_id": "t"}, "metadata", id="metadata"),
        pytest.param({}, {"session_id": "", "topic": "t"}, "", id="empty and other metadata"),
    ],
)
def test_a_session_is_claimed_by_header_then_metadata(
    headers: dict[str, str], metadata: dict[str, str], link: str
) -> None:
    """A claim is taken from the header, else from known metadata keys."""
    name, found = claimed(raw(**headers), request(**metadata), CALLER)

    assert (link, bool(link)) == (found, name.startswith("se_"))


@pytest.mark.parametrize(
    ("named", "metadata", "same"),
    [
        pytest.param("u", {}, True, id="user"),
        pytest.param("", {"user_id": "u"}, True, id="metadata user_id"),
        pytest.param("", {"customer_id": "u"}, True, id="metadata customer_id"),
        pytest.param("v", {"user_id": "u"}, False, id="user first"),
        pytest.param("", {"topic": "u"}, False, id="other metadata"),
        pytest.param("", {}, False, id="nobody"),
    ],
)
def test_a_user_is_named_by_field_or_metadata(named: str, metadata: dict[str, str], same: bool) -> None:
    """Whom a call speaks for is taken from its field `user`, else from known metadata keys."""
    mine = user(replace(request(**metadata), user=named), CALLER)

    assert same == (mine == user(replace(request(), user="u"), CALLER))
    assert bool(mine) == bool(named or {"user_id", "customer_id"} & {*metadata})
    assert mine != user(replace(request(**metadata), user=named), OTHER) or not mine


@pytest.mark.parametrize(
    ("name", "tenant", "key", "same"),
    [
        pytest.param("ann", "t", b"k", True, id="the same name"),
        pytest.param("bob", "t", b"k", False, id="another name"),
        pytest.param("ann", "u", b"k", False, id="another tenant"),
        pytest.param("ann", "t", b"l", False, id="another key: without it names cannot be tried out"),
        pytest.param("nn", "ta", b"k", False, id="parts that only together are the same"),
        pytest.param("\udc80", "t", b"k", False, id="half a character"),
        pytest.param("", "t", b"k", False, id="nobody"),
    ],
)
def test_a_customer_is_the_same_on_every_channel(name: str, tenant: str, key: bytes, same: bool) -> None:
    """Whoever calls: the digest is of the tenant and the name alone, and only the key's holder can make it."""
    digest = customer(name, tenant, key)

    assert same == (digest == customer("ann", "t", b"k"))
    assert bool(name) == digest.startswith("cu_")


def test_a_claim_is_the_callers_own() -> None:
    """Two principals that name the same session do not share it, nor do two agents or tenants of one store."""
    callers = (CALLER, OTHER, replace(CALLER, agent="b"), replace(CALLER, tenant="t"))

    assert 4 == len({claimed(raw(x_handrail_session="s"), request(), caller) for caller in callers})
    assert 4 == len({reply_mark(caller, "r") for caller in callers})


def test_a_user_is_the_callers_own() -> None:
    """Two principals that name the same user do not share its budget, nor do two tenants; an agent's user is one."""
    callers = (CALLER, OTHER, replace(CALLER, agent="b"), replace(CALLER, tenant="t"))

    assert 3 == len({user_of("ann", caller) for caller in callers})


# --- where conversations end ------------------------------------------------------------------------------------------


def said(*texts: str) -> list[Message]:
    """Make a history in which user and assistant take turns."""
    return [Message(role=("user", "assistant")[number % 2], text=text) for number, text in enumerate(texts)]


ORDER = said(
    "where is my order 4711?", "It left on Monday, it should be there by now.", "it is not", "I am sorry.", "and?"
)
CLOCK = Message(role="system", text="It is noon.")


def end(messages: Sequence[Message], caller: Caller = CALLER, user: str = "") -> End:
    """Return the end at a history's newest reply."""
    found = History(caller, messages, user).end
    assert found
    return found


def told(left: Sequence[Message], shown: Sequence[Message], reply: Reply) -> bool:
    """Say whether a call that shows so much tells the conversation that a reply to this history left."""
    return not set(History(CALLER, left).extended(reply).marks).isdisjoint(History(CALLER, shown).marks)


def test_the_next_request_is_found_by_the_reply() -> None:
    """What a reply leaves is what the request that quotes it shows."""
    reply = Reply(text="which order?", tool_calls=(CALL,))
    quoted = Message(role="assistant", text=reply.text, tool_calls=reply.tool_calls)
    answer = Message(role="tool", text="42", tool_call_id="c1")

    left, shown = History(CALLER, ORDER).extended(reply), History(CALLER, [*ORDER, quoted, answer])

    assert (left, left.marks) == (shown.end, shown.marks[: len(left.marks)])


def test_a_history_can_be_extended_more_than_once() -> None:
    """What one reply leaves does not depend on another that was made up before."""
    history = History(CALLER, ORDER)
    first, _ = (history.extended(Reply(text=text)) for text in ("yes", "no"))

    assert first == history.extended(Reply(text="yes"))


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(replace(CALL, arguments=r'{"n": 1.0, "order": "\u00e9"}'), id="arguments"),
        pytest.param(replace(CALL, arguments='{ "order":"é","n":1.0 }'), id="spaces"),
    ],
)
def test_a_call_that_is_written_anew_is_the_same_call(reply: ToolCall) -> None:
    """An agent that reads a call's arguments and sends them back in its own spelling goes on with its conversation."""
    ours = replace(CALL, arguments='{"order":"é","n":1.0}')

    left = History(CALLER, [HELLO]).extended(Reply(text="I look.", tool_calls=(ours,)))

    assert left.whole == end([HELLO, Message(role="assistant", text=" I look.\n", tool_calls=(reply,))]).whole


@pytest.mark.parametrize(
    ("messages", "caller", "user"),
    [
        pytest.param(ORDER[:4], OTHER, "", id="principal"),
        pytest.param(ORDER[:4], replace(CALLER, agent="b"), "", id="agent"),
        pytest.param(ORDER[:4], replace(CALLER, tenant="t"), "", id="tenant"),
        pytest.param(ORDER[:4], CALLER, "u", id="user"),
        pytest.param([CLOCK, *ORDER[:4]], CALLER, "", id="system prompt"),
        pytest.param([*ORDER[:3], *said("", "I am sorry?")[1:]], CALLER, "", id="reply"),
    ],
)
def test_an_end_is_one_conversations(messages: list[Message], caller: Caller, user: str) -> None:
    """Calls that differ in anything at all have another end."""
    assert end(ORDER[:4]).whole != end(messages, caller, user).whole


def test_callers_are_never_joined() -> None:
    """The same history of another principal or tenant shows none of the marks that this one left."""
    for other in (OTHER, replace(CALLER, tenant="t")):
        assert set(end(ORDER).marks).isdisjoint(end(ORDER, other).marks)


CALLED = Message(role="assistant", text="I look.", tool_calls=(CALL,))
ANSWERED = Message(role="tool", text="42", tool_call_id="c1")
LONG = Reply(text="It is at the depot in Leeds, Mr Miller.")
QUOTED = Message(role="assistant", text=LONG.text)


@pytest.mark.parametrize(
    ("left", "reply", "shown"),
    [
        pytest.param(ORDER, LONG, [CLOCK, *ORDER, QUOTED, HELLO], id="another system prompt"),
        pytest.param(ORDER, LONG, [*ORDER[2:], QUOTED, HELLO], id="the newest messages only"),
        pytest.param(ORDER, LONG, [*said("In short: an order."), *ORDER[2:], QUOTED, HELLO], id="a summary and those"),
        pytest.param(ORDER, Reply(tool_calls=(CALL,)), [CALLED, ANSWERED], id="a call that was let through"),
        pytest.param(ORDER, LONG, [*ORDER, replace(QUOTED, text=f"{LONG.text}\n\nYours, A."), HELLO], id="signed"),
        pytest.param(ORDER[:3], LONG, [*ORDER[:3], QUOTED, *said("no", "One moment."), HELLO], id="more was said"),
        pytest.param([HELLO], LONG, [CLOCK, HELLO, QUOTED], id="an opening, if it was marked"),
    ],
)
def test_less_than_all_tells_a_conversation(left: list[Message], reply: Reply, shown: list[Message]) -> None:
    """Agents change prompts, cut histories short and write replies anew: what is left of a history tells it."""
    marks = History(CALLER, left).extended(reply, owned=True).marks

    assert not set(marks).isdisjoint(History(CALLER, shown).marks)


@pytest.mark.parametrize(
    ("left", "reply", "shown"),
    [
        pytest.param([HELLO], LONG, [CLOCK, HELLO, QUOTED], id="an opening"),
        pytest.param([HELLO], LONG, [HELLO, replace(QUOTED, text=f"{LONG.text} A."), HELLO], id="an opening, signed"),
        pytest.param(ORDER[:3], Reply(text="Yes."), [*ORDER[1:3], *said("", "Yes.")[1:], HELLO], id="too little"),
        pytest.param(ORDER, Reply(text="Yes."), [*ORDER, *said("", "Yes, A.")[1:], HELLO], id="too short a reply"),
        pytest.param(ORDER, LONG, [*said("Where?", "Here."), *ORDER[-2:], QUOTED], id="other messages before"),
        pytest.param(ORDER, LONG, [*ORDER, CALLED, ANSWERED], id="another call"),
        pytest.param(ORDER, LONG, [*ORDER, QUOTED, CALLED, ANSWERED], id="a call that is not known"),
        pytest.param(ORDER, LONG, [*ORDER, QUOTED, CALLED, ANSWERED, *said("", "Yes.")[1:]], id="nor the one before"),
        pytest.param(ORDER, LONG, [], id="nothing"),
        pytest.param(ORDER, LONG, [HELLO], id="no reply"),
    ],
)
def test_too_little_tells_nothing(left: list[Message], reply: Reply, shown: list[Message]) -> None:
    """What anybody may have said, and what a conversation that is known would know, leads nowhere."""
    assert not told(left, shown, reply)


def test_an_opening_of_a_named_user_is_marked() -> None:
    """Where calls name their user, the little that was said is said by few."""
    left, shown = History(CALLER, [HELLO], "u").extended(LONG), History(CALLER, [CLOCK, HELLO, QUOTED], "u")

    assert left.marks[0] == shown.marks[0]


def test_few_older_places_are_looked_up() -> None:
    """The newest come first, and a long history does not make a call search for long."""
    history = History(CALLER, [*ORDER[:4] * 10, HELLO])

    assert LOOK_BACK + 2 == len(history.marks)
    assert list(history.marks[2:4]) == [History(CALLER, (ORDER[:4] * 10)[:n]).marks[0] for n in (38, 36)]


def test_a_call_leaves_its_conversation_at_its_end() -> None:
    """With a reply it stands there, marked."""
    history = History(CALLER, ORDER, "u")
    ends = history.extended(LONG)

    left = Stand(session_id="s", turn=3, user="u", end=ends.whole, marks=ends.marks)
    assert left == history.stand(Session(id="s", turn=3), ends)


@pytest.mark.parametrize(
    ("messages", "turn"), [pytest.param(ORDER, 2, id="a later call"), pytest.param([HELLO], 2, id="the first call")]
)
def test_a_call_without_a_reply_leaves_it_where_it_was(messages: list[Message], turn: int) -> None:
    """It stands where it stood, if it stood anywhere, and has left nothing."""
    history = History(CALLER, messages)

    left = Stand(session_id="s", turn=turn, end=history.end.whole if history.end else "")
    assert left == history.stand(Session(id="s", turn=3), None)


TURNS = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool", "system"]), st.text(max_size=4)), max_size=6)


@settings(max_examples=60)
@given(TURNS, TURNS)
def test_different_histories_have_different_ends(one: list[tuple[str, str]], two: list[tuple[str, str]]) -> None:
    """Two calls have one end only if they say the same in the same roles: system prompts, and all others in order."""

    def parts(turns: list[tuple[str, str]]) -> tuple[list[str], list[tuple[str, str]]]:
        prompts = [text.strip() for role, text in turns if role == "system"]
        return prompts, [(role, text.strip()) for role, text in turns if role != "system"]

    first, second = (
        History(CALLER, [Message(role=role, text=text) for role, text in turns]).extended(LONG) for turns in (one, two)
    )
    assert (parts(one) == parts(two)) == (first.whole == second.whole)


@settings(max_examples=60)
@given(
    TURNS, st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=1, max_size=3), st.text(max_size=30)
)
def test_every_reply_is_found_by_the_call_that_quotes_it(
    turns: list[tuple[str, str]], calls: list[tuple[str, str]], text: str
) -> None:
    """Whatever was said and called, the next call shows the end that the reply left and every mark of it."""
    messages = [Message(role=role, text=said_) for role, said_ in turns]
    reply = Reply(text=text, tool_calls=tuple(ToolCall(id=a, name=b, arguments=a) for a, b in calls))

    left = History(CALLER, messages).extended(reply)
    quoted = Message(role="assistant", text=text, tool_calls=reply.tool_calls)
    shown = History(CALLER, [*messages, quoted, *ORDER[:1]])

    assert shown.end
    assert left.whole == shown.end.whole
    assert {*left.marks} <= {*shown.marks}


# --- tool results -----------------------------------------------------------------------------------------------------


def test_results_answer_calls_that_were_let_through() -> None:
    """A result is verified if its call was issued and it is the only answer; new ones follow the assistant's turn."""
    calls = tuple(ToolCall(id=f"c{n}", name="look", arguments="{}") for n in range(3))
    messages = (
        Message(role="assistant", tool_calls=calls[:1]),
        Message(role="tool", text="old", tool_call_id="c0"),
        Message(role="assistant", tool_calls=calls[1:]),
        Message(role="tool", text="once", tool_call_id="c1"),
        Message(role="tool", text="twice", tool_call_id="c2"),
        Message(role="tool", text="again", tool_call_id="c2"),
        Message(role="tool", text="made up", tool_call_id="c9"),
    )
    issued = tuple(Issued(id=f"c{n}", tool="look", at_ms=1000) for n in range(3))

    found = results(messages, Session(id="s", issued=issued), 5000)

    assert [
        ("old", "look", True, 4000, False),
        ("once", "look", True, 4000, True),
        ("twice", "look", False, 0, True),
        ("again", "look", False, 0, True),
        ("made up", "", False, 0, True),
    ] == [(r.text, r.tool, r.verified, r.age_ms, r.new) for r in found]


def test_no_results() -> None:
    """A history without tool messages has none."""
    assert () == results((Message(role="user", text="hi"),), Session(id="s"), 0)


# --- calls side by side ----------------------------------------------------------------------------------------------


def issued(number: int, *booked: str) -> Issued:
    """Make a call that was let through at its number, with what its result may give back."""
    held = tuple(Booked(id=name, total="p/usd", amount_nano=1, counters=()) for name in booked)
    return Issued(id=f"c{number}", tool="refund", at_ms=number, booked=held)


@pytest.mark.parametrize(
    ("known", "newer", "expected"),
    [
        pytest.param((issued(2),), (issued(1),), (issued(1), issued(2)), id="each call, in order"),
        pytest.param((issued(1),), (issued(1, "b"),), (issued(1),), id="settled by the other"),
        pytest.param((issued(1, "b"),), (issued(1),), (issued(1),), id="settled by this one"),
        pytest.param((issued(1, "b"),), (issued(1, "b"),), (issued(1, "b"),), id="open"),
        pytest.param((), (issued(1, "b"), issued(1)), (issued(1, "b"), issued(1)), id="one id twice"),
    ],
)
def test_calls_of_both_are_known(
    known: tuple[Issued, ...], newer: tuple[Issued, ...], expected: tuple[Issued, ...]
) -> None:
    """Calls that either let through stay known, and what a result has settled stays settled."""
    both = together(Session(id="s", issued=known), Session(id="s", issued=newer))

    assert expected == both.issued


@pytest.mark.parametrize(
    ("known", "newer", "expected"),
    [
        pytest.param(None, None, None, id="none"),
        pytest.param(Level.ASSIST, None, Level.ASSIST, id="known"),
        pytest.param(Level.EXECUTE, Level.ASSIST, Level.ASSIST, id="lower"),
        pytest.param(Level.ASSIST, Level.EXECUTE, Level.ASSIST, id="not higher again"),
    ],
)
def test_the_lower_level_stands(known: Level | None, newer: Level | None, expected: Level | None) -> None:
    """No call raises what another one has lowered."""
    assert expected is together(Session(id="s", level=known), Session(id="s", level=newer)).level


def test_what_sessions_know_is_bounded() -> None:
    """Of calls the newest are known, of tools the first, each as it was first offered; turns do not go back."""
    first = Session(
        id="s",
        turn=3,
        issued=tuple(map(issued, range(REMEMBERED_CALLS))),
        tools={f"t{n}": "old" for n in range(REMEMBERED_TOOLS - 1)},
    )
    both = together(first, Session(id="s", issued=(issued(99),), tools={"new": "b", "late": "c", "t0": "changed"}))

    assert (3, REMEMBERED_CALLS, "c1", "c99") == (
        both.turn,
        len(both.issued),
        both.issued[0].id,
        both.issued[-1].id,
    )
    assert ({**first.tools, "new": "b"}) == both.tools


def test_a_result_of_one_id_that_two_calls_share_is_not_verified() -> None:
    """Whose result it is cannot be told, so it neither counts as made by a call nor gives anything back."""
    history = (
        HELLO,
        Message(role="assistant", text="", tool_calls=(CALL,)),
        Message(role="tool", text="{}", tool_call_id="c1"),
    )
    calls = tuple(Issued(id="c1", tool=tool, at_ms=1) for tool in ("look", "refund"))

    (result,) = results(history, Session(id="s", issued=calls), 2)

    assert not result.verified


@pytest.mark.parametrize(
    ("caller", "key", "found"),
    [
        pytest.param(CALLER, "k", True, id="the same"),
        pytest.param(CALLER, "l", False, id="another key"),
        pytest.param(CALLER, "", False, id="no key"),
        pytest.param(OTHER, "k", False, id="another caller"),
    ],
)
def test_a_cache_key_leaves_marks_of_its_own(caller: Caller, key: str, found: bool) -> None:
    """Only a call of the same caller with the same key finds them, whatever the system prompt says by then."""
    said = Reply(text="hi")
    before = History(CALLER, (Message(role="system", text="one"), HELLO), key="k")
    plain = History(CALLER, (Message(role="system", text="one"), HELLO))
    after = History(caller, (Message(role="system", text="two"), HELLO, Message(role="assistant", text="hi")), key=key)

    left = before.stand(Session(id="s"), before.extended(said)).marks

    assert found == bool(after.end and {*after.end.keyed} & {*left})
    assert {*plain.stand(Session(id="s"), plain.extended(said)).marks} < {*left}
