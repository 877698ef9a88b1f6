"""Owns the proof of the gate: what leaves is what was allowed, whole, and the same however it arrived."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.gate import Gate
from proxy.stretches import ENDLESS
from proxy.terms import ChoiceDelta, Cover, Delta, Reach, Reply, ToolCall, ToolCallDelta, Usage
from tests.streams import passed


def delta(*pieces: ChoiceDelta, frame: bytes = b"x", usage: Usage | None = None) -> Delta:
    """Return one event with these pieces."""
    return Delta(frame=frame, choices=pieces, model="m", usage=usage)


def text(words: str, choice: int = 0) -> Delta:
    """Return an event that adds text."""
    return delta(ChoiceDelta(index=choice, text=words))


def call(index: int, arguments: str = "{}", *, name: str = "", choice: int = 0) -> Delta:
    """Return an event that adds to a tool call; with a name it opens one."""
    piece = ToolCallDelta(index=index, id=f"c{index}" if name else "", name=name, arguments=arguments)
    return delta(ChoiceDelta(index=choice, tool_calls=(piece,)))


def finish(reason: str = "tool_calls", choice: int = 0) -> Delta:
    """Return an event that ends a choice."""
    return delta(ChoiceDelta(index=choice, finish_reason=reason))


def fed(gate: Gate, deltas: Iterable[Delta]) -> list[Delta]:
    """Feed deltas and return what left at once."""
    return [out for one in deltas for out in passed(gate, one)]


def folded(deltas: Iterable[Delta]) -> dict[int, Reply]:
    """Put together what a client received, piece by piece."""
    said: dict[int, str] = {}
    reasons: dict[int, str] = {}
    calls: dict[int, dict[int, ToolCall]] = {}
    for piece in (piece for one in deltas for piece in one.choices):
        said[piece.index] = said.get(piece.index, "") + piece.text
        reasons[piece.index] = piece.finish_reason or reasons.get(piece.index, "")
        of_choice = calls.setdefault(piece.index, {})
        for new in piece.tool_calls:
            old = of_choice.get(new.index, ToolCall(id="", name="", arguments=""))
            of_choice[new.index] = ToolCall(
                id=old.id or new.id,
                name=old.name or new.name,
                arguments=old.arguments + new.arguments,
                index=new.index,
                choice=piece.index,
            )
    return {
        index: Reply(
            choice=index,
            text=said[index],
            tool_calls=tuple(calls[index][number] for number in sorted(calls[index])),
            finish_reason=reasons[index],
            model="m",
        )
        for index in said
    }


def allowed(reply: Reply, drop: dict[tuple[int, int], str]) -> Reply:
    """Say what is to be left of a reply: the plain reading of POLICY.md §4."""
    kept = [made for made in reply.tool_calls if (reply.choice, made.index) not in drop]
    if len(kept) == len(reply.tool_calls):
        return reply
    dropped = [drop[reply.choice, made.index] for made in reply.tool_calls if made not in kept]
    words = "" if kept else next((words for words in dropped if words), "")
    return Reply(
        choice=reply.choice,
        text=reply.text + words,
        tool_calls=tuple(
            ToolCall(id=made.id, name=made.name, arguments=made.arguments, index=number, choice=reply.choice)
            for number, made in enumerate(kept)
        ),
        finish_reason=reply.finish_reason if kept else "stop",
        model=reply.model,
    )


def pieces_of(reply: Reply, size: int) -> list[ChoiceDelta]:
    """Cut one choice into pieces of a size, its calls interleaved, as a stream would bring it."""
    index = reply.choice
    pieces = [ChoiceDelta(index=index)]
    pieces += [ChoiceDelta(index=index, text=reply.text[at : at + size]) for at in range(0, len(reply.text), size)]
    for made in reply.tool_calls:
        opened = ToolCallDelta(index=made.index, id=made.id, name=made.name)
        pieces.append(ChoiceDelta(index=index, tool_calls=(opened,)))
    longest = max((len(made.arguments) for made in reply.tool_calls), default=0)
    for at in range(0, longest, size):
        more = [
            ToolCallDelta(index=made.index, arguments=made.arguments[at : at + size])
            for made in reply.tool_calls
            if at < len(made.arguments)
        ]
        pieces.append(ChoiceDelta(index=index, tool_calls=tuple(more)))
    if reply.finish_reason:
        pieces.append(ChoiceDelta(index=index, finish_reason=reply.finish_reason))
    return pieces


def whole_of(reply: Reply) -> ChoiceDelta:
    """Return one choice as an unstreamed reply brings it."""
    made = tuple(
        ToolCallDelta(index=one.index, id=one.id, name=one.name, arguments=one.arguments) for one in reply.tool_calls
    )
    return ChoiceDelta(index=reply.choice, text=reply.text, tool_calls=made, finish_reason=reply.finish_reason)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Reply], dict[tuple[int, int], str], list[Delta]]:
    """Draw the choices of a reply, which of their calls are dropped, and a stream that brings them."""
    replies = []
    for choice in range(draw(st.integers(1, 2))):
        arguments = draw(st.lists(st.text("{ab}", max_size=5), max_size=3))
        made = [
            ToolCall(id=f"c{index}", name=f"f{index}", arguments=text, index=index, choice=choice)
            for index, text in enumerate(arguments)
        ]
        reason = draw(st.sampled_from(["stop", "tool_calls", "length", ""]))
        words = draw(st.text("xy", max_size=6))
        replies.append(Reply(choice=choice, text=words, tool_calls=tuple(made), finish_reason=reason, model="m"))
    names = [(reply.choice, made.index) for reply in replies for made in reply.tool_calls]
    drop = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(["", "No.", "Not so."]))) if names else {}
    streams = [pieces_of(reply, draw(st.integers(1, 6))) for reply in replies]
    order = draw(st.permutations([number for number, pieces in enumerate(streams) for _ in pieces]))
    left = [iter(pieces) for pieces in streams]
    return replies, drop, [delta(next(left[number])) for number in order]


@given(cases(), st.booleans())
@settings(max_examples=300)
def test_streamed_or_not_the_client_gets_the_same(
    case: tuple[list[Reply], dict[tuple[int, int], str], list[Delta]], hold: bool
) -> None:
    """For any chunking: the calls that were not dropped, numbered anew, and the safe text where none is left."""
    replies, drop, stream = case
    streamed, whole = Gate(hold), Gate(hold)
    early, early_whole = fed(streamed, stream), fed(whole, [delta(*map(whole_of, replies))])
    assert tuple(replies) == streamed.replies() == whole.replies()

    got = folded(early + streamed.release(drop))
    got_whole = folded(early_whole + whole.release(drop))

    expected = {reply.choice: allowed(reply, drop) for reply in replies}
    assert expected == got == got_whole
    assert tuple(expected.values()) == streamed.replies() == whole.replies()


@given(cases())
def test_nothing_of_a_call_leaves_before_the_end(
    case: tuple[list[Reply], dict[tuple[int, int], str], list[Delta]],
) -> None:
    """Before `release`, no piece of any tool call has left; with none dropped, every delta leaves as it came."""
    _, _, stream = case
    gate = Gate()

    early = fed(gate, stream)

    assert [] == [piece for one in early for piece in one.choices if piece.tool_calls]
    assert stream == early + gate.release()


def test_text_passes_at_once() -> None:
    """Without tool calls, and without a rule that holds, nothing waits."""
    gate, stream = Gate(), [text("a"), delta(), text("b"), finish("stop")]

    assert (stream, []) == (fed(gate, stream), gate.release())


def test_everything_after_a_call_begins_is_held() -> None:
    """Text that follows a tool call waits with it, in order."""
    gate = Gate()

    early = fed(gate, [text("a"), call(0, name="f"), text("b"), delta()])

    assert [text("a")] == early
    assert [call(0, name="f"), text("b"), delta()] == gate.release()


def test_hold_keeps_everything() -> None:
    """Where a rule judges the whole message, no part of it leaves before, comments included."""
    gate = Gate(hold=True)

    early = fed(gate, [delta(), text("a"), finish("stop")])

    assert [] == early
    assert [delta(), text("a"), finish("stop")] == gate.release()


def test_a_kept_call_keeps_its_frames() -> None:
    """Deltas that are not concerned leave byte-identical; dropped pieces disappear."""
    gate, opened, more = Gate(), call(0, name="f"), call(0)
    fed(gate, [opened, more, call(1, name="g"), call(1), finish()])

    assert [opened, more, delta(ChoiceDelta(), frame=b""), finish()] == gate.release({(0, 1): "No."})


def test_a_dropped_call_is_replaced_by_words() -> None:
    """The event that ends the choice says the safe text and `stop`; it has no frame and is encoded anew."""
    gate = Gate()
    fed(gate, [call(0, name="f"), call(0), finish(), delta()])

    out = gate.release({(0, 0): "No."})

    spoken = delta(ChoiceDelta(text="No.", finish_reason="stop"), frame=b"")
    assert [delta(ChoiceDelta(), frame=b""), spoken, delta()] == out


def test_words_come_with_the_finish_reason() -> None:
    """Vendors send events after the finish reason: the safe text does not wait for them."""
    gate, late = Gate(), delta(ChoiceDelta(), usage=Usage(input_tokens=1))
    fed(gate, [call(0, name="f"), finish(), late])

    out = gate.release({(0, 0): "No."})

    assert ["", "No.", ""] == [one.choices[0].text for one in out]
    assert late == out[2]


def test_an_event_that_carries_more_than_a_dropped_call_stays() -> None:
    """Usage, or another choice, in the same event as a dropped piece still leaves."""
    gate, usage = Gate(), Usage(input_tokens=1)
    dropped = ChoiceDelta(tool_calls=(ToolCallDelta(index=0, arguments="{"),))
    other = ChoiceDelta(index=1, text="b")
    counted, both = delta(dropped, usage=usage), delta(dropped, other)
    fed(gate, [call(0, name="f"), counted, both, finish()])

    out = gate.release({(0, 0): "No."})

    assert [(usage, (ChoiceDelta(),)), (None, (ChoiceDelta(), other))] == [(o.usage, o.choices) for o in out[1:3]]


def test_a_legacy_call_keeps_its_number() -> None:
    """The legacy function_call has no number to be changed, and is dropped like any other."""
    gate, legacy = Gate(), call(-1, name="f")
    fed(gate, [legacy, call(0, name="g"), call(1, name="h"), finish()])

    out = gate.release({(0, 0): "No."})

    assert legacy == out[0]
    assert [-1, 0] == [made.index for made in gate.replies()[0].tool_calls]
    assert ["f", "h"] == [made.name for made in gate.replies()[0].tool_calls]


def test_dropping_what_is_not_there_changes_nothing() -> None:
    """A name that no call has drops nothing."""
    gate = Gate()
    fed(gate, [call(0, name="f"), finish()])

    assert [call(0, name="f"), finish()] == gate.release({(0, 7): "No.", (3, 0): "No."})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["f", "", ""], ("f", True), id="once"),
        pytest.param(["", "f", "f"], ("f", True), id="with every piece"),
        pytest.param(["re", "fund", ""], ("refund", False), id="in pieces"),
    ],
)
def test_names_add_up(names: list[str], expected: tuple[str, bool]) -> None:
    """A call's name is what most clients put together from its pieces; where pieces differ, it is not clear."""
    gate = Gate()
    for name in names:
        gate.feed(delta(ChoiceDelta(tool_calls=(ToolCallDelta(index=0, name=name),))))

    assert expected == (gate.replies()[0].tool_calls[0].name, gate.clear)


def test_what_was_heard_is_not_forgotten_when_it_is_cut() -> None:
    """The provider bills all that it said, also what a cut takes out of the reply."""
    gate = Gate(reach=Reach(behind=1, ahead=1, waits=True))
    fed(gate, [text("Hi"), call(0), finish()])
    heard = gate.heard()

    gate.cut()

    assert ((("tool_calls", 1),), heard) == (tuple((r.finish_reason, len(r.tool_calls)) for r in heard), gate.heard())
    assert ("", ()) == (gate.replies()[0].finish_reason, gate.replies()[0].tool_calls)


def test_what_is_not_clear_waits() -> None:
    """From what clients may read in different ways on, everything waits for whoever judges it."""
    gate = Gate()
    odd = Delta(frame=b"?", clear=False)

    assert [text("a")] == fed(gate, [text("a"), odd, text("b")])
    assert ([odd, text("b")], False) == (gate.release(), gate.clear)


def test_a_reply_has_every_kind_of_text() -> None:
    """Reasoning and refusal add up beside the text; the first model is the model."""
    gate = Gate()
    for word, model in (("a", "m"), ("b", "other")):
        piece = ChoiceDelta(text=word, reasoning=word, refusal=word)
        gate.feed(Delta(frame=b"x", choices=(piece,), model=model))

    assert (Reply(text="ab", reasoning="ab", refusal="ab", model="m"),) == gate.replies()


def test_another_text_stands_where_the_first_words_stood() -> None:
    """What a choice says instead leaves at once; other words of it are gone, other choices keep their frames."""
    gate = Gate(hold=True)
    used = delta(ChoiceDelta(text="more"), usage=Usage(input_tokens=1))
    fed(gate, [text("se"), text("cret"), text("hello", choice=1), used, finish("stop")])

    found = gate.release(covers={(0, "text", 0): [Cover(start=0, end=10, text="[MASK]")]})

    assert ["[MASK]", "hello", "", ""] == [one.choices[0].text for one in found]
    assert [b"", b"x", b"", b"x"] == [one.frame for one in found]
    assert ["[MASK]", "hello"] == [reply.text for reply in gate.replies()]


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=6))
def test_another_text_is_the_same_in_any_slicing(words: list[str]) -> None:
    """However the reply came, the client gets the whole other text, once."""
    gate = Gate(hold=True)
    fed(gate, [*map(text, words), finish("stop")])

    found = gate.release(covers={(0, "text", 0): [Cover(start=0, end=ENDLESS, text="other")]})

    assert ("other", "stop") == (folded(found)[0].text, folded(found)[0].finish_reason)
