"""Owns the proof of proxy/conversation.py: which conversation a call belongs to, what calls know together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.conversation import LOOK_BACK, REMEMBERED_CALLS, REMEMBERED_TOOLS, History, claimed, results, together
from proxy.terms import Booked, Caller, Issued, Level, Message, RawRequest, Reply, Request, Session, ToolCall

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


def test_a_claim_is_the_callers_own() -> None:
    """Two principals that name the same session do not share it."""
    mine, _ = claimed(raw(x_handrail_session="s"), request(), CALLER)
    yours, _ = claimed(raw(x_handrail_session="s"), request(), OTHER)

    assert mine != yours


def test_the_next_request_is_found_by_the_reply() -> None:
    """The digest after a reply is the newest prefix of the request that quotes it."""
    reply = Reply(text="which order?", tool_calls=(CALL,))
    said = Message(role="assistant", text=reply.text, tool_calls=reply.tool_calls)
    answer = Message(role="tool", text="42", tool_call_id="c1")

    ended = History(CALLER, [HELLO]).extended(reply)

    assert ended == History(CALLER, [HELLO, said, answer]).prefixes[0]


def test_a_call_that_is_written_anew_is_the_same_call() -> None:
    """An agent that reads a call's arguments and sends them back in its own spelling goes on with its conversation."""
    ours, theirs = (
        replace(CALL, arguments=text) for text in ('{"order":"é","n":1.0}', r'{"order": "\u00e9", "n": 1.0}')
    )

    ended = History(CALLER, [HELLO]).extended(Reply(tool_calls=(ours,)))

    assert [ended] == list(History(CALLER, [HELLO, Message(role="assistant", tool_calls=(theirs,))]).prefixes)


def test_prefixes_are_longest_first_and_few() -> None:
    """Only the newest assistant messages are looked up, the longest history first."""
    turns = [HELLO, Message(role="assistant", text="yes")] * (LOOK_BACK + 3)

    prefixes = History(CALLER, turns).prefixes

    assert LOOK_BACK == len(prefixes)
    assert History(CALLER, turns[:-2]).prefixes[0] == prefixes[1]


def test_callers_are_never_joined() -> None:
    """The same history of another principal has other digests."""
    turns = [HELLO, Message(role="assistant", text="yes")]

    assert History(CALLER, turns).prefixes != History(OTHER, turns).prefixes


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1, max_size=3, unique=True))
def test_different_histories_have_different_digests(texts: list[tuple[str, str]]) -> None:
    """Moving text from one field to another changes the digest: no two histories look the same."""
    digests = {
        History(CALLER, [Message(role="assistant", text=text, tool_call_id=call)]).prefixes[0] for text, call in texts
    }

    assert len(texts) == len(digests)


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
