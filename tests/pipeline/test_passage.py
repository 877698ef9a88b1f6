"""Owns the proof of a reply's way to the client: the same verdicts and texts in any slicing, and nothing too early."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.config.policies import FUNCTIONS
from proxy.errors import Denied
from proxy.gate import STEPS
from proxy.pipeline.passage import Passage, ended, merged, spoken
from proxy.policy import PolicySet
from proxy.recording import Draft
from proxy.redaction import Vault
from proxy.stretches import SPOKEN, texts
from proxy.terms import (
    ChoiceDelta,
    Cover,
    Decision,
    Delta,
    Facts,
    How,
    Mode,
    Phase,
    Reach,
    Reply,
    RuleHit,
    Span,
    ToolCall,
    ToolCallDelta,
    Verdict,
)
from tests.policy.written import compiled, facts, policy

NUMBER = "N-[0-9]{1,40}"
MASK = {"phase": "chunk", "action": "mask", "pattern": NUMBER}
MASKING = compiled(policy(MASK, {"phase": "chunk", "action": "tokenize", "kinds": ["email"]}))
DENYING = compiled(policy(MASK, {"phase": "chunk", "action": "deny", "when": 'chunk.text.contains("forbidden")'}))
REACH = MASKING.reach or Reach(behind=0, ahead=0, waits=False)
KEY = b"a key of these tests"
Said = dict[tuple[int, str], str]


def streamed(
    policies: PolicySet, vault: Vault, facts: Facts, deltas: Iterable[Delta]
) -> Iterator[tuple[list[Delta], Decision | None]]:
    """Yield what each delta lets leave, last what the end does; a decision that cuts the reply comes with what leaves
    before it, and nothing comes after it."""
    policies = policies.narrow(facts.caller.agent, facts.request.model, facts.caller.tenant)
    draft = Draft("test", "", facts.at_ms, 0.0)
    draft.stream = True
    passage = Passage(policies, vault, draft, hold=policies.holds_response, now_ms=lambda: 0.0)
    for step in (*((delta,) for delta in deltas), None):
        left: list[Delta] = []
        try:
            left.extend(passage.feed(step, facts) if step else passage.close(facts))
        except Denied as denied:
            yield left, denied.decision
            return
        yield left, None


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(ChoiceDelta(index=0, reasoning="hm"), id="a thought"),
        pytest.param(ChoiceDelta(index=0, finish_reason="stop"), id="a finish reason"),
    ],
)
def test_no_half_of_a_find_leaves(between: ChoiceDelta) -> None:
    """A text is not over where another one is said in between, or its choice is said to have ended: clients read on."""
    pieces = (ChoiceDelta(index=0, text="Call N-12"), between, ChoiceDelta(index=0, text="34 now"))

    left, _ = run(MASKING, [Delta(frame=b"x", choices=(piece,)) for piece in pieces])

    assert "Call [PATTERN] now" == "".join(p.text for some in left for delta in some for p in delta.choices)


def test_no_end_marker_leaves_before_the_safe_text() -> None:
    """Where the end of a text denies it, the provider's own end marker goes: nobody reads what stands after one."""
    said = [Delta(frame=b"x", choices=(ChoiceDelta(index=0, text="forbidden"),)), Delta(frame=b"end", final=True)]

    left, decision = run(DENYING, said)

    assert decision is not None
    assert [] == [delta for some in left for delta in some if delta.final]


def test_what_waits_counts_as_it_came() -> None:
    """A delta into which a value was put back, and so has no frame, still counts while it waits."""
    vault = Vault(KEY, "s")
    vault.covers((Span(rule="r", kind="email", how=How.TOKENIZE, start=0, end=3, place=""),), "ann")
    (placeholder,) = vault.values
    passage = Passage(MASKING, vault, Draft("test", "", 0, 0.0), hold=True, now_ms=lambda: 0.0)

    said = [Delta(frame=b"x" * 100, choices=(ChoiceDelta(index=0, text=placeholder),)) for _ in range(3)]

    assert ([], 300) == (list(passage.feed(said, facts())), passage.gate.held_bytes)


def run(policies: PolicySet, deltas: Iterable[Delta]) -> tuple[list[list[Delta]], Decision | None]:
    """Let deltas pass; return what each let leave, and what cut them."""
    steps = list(streamed(policies, Vault(KEY, "s"), facts(), deltas))
    return [left for left, _ in steps], steps[-1][1]


def joined(left: Iterable[Iterable[Delta]]) -> Said:
    """Put together what a client got."""
    said: Said = {}
    for channel, text in (found for step in left for delta in step for found in texts(delta)):
        said[channel[:2]] = said.get(channel[:2], "") + text
    return said


def piece(choice: int, **fields: str) -> ChoiceDelta:
    """Return what an event adds to one choice."""
    return replace(ChoiceDelta(index=choice), **fields)


def event(choice: int, field: str, text: str) -> Delta:
    """Return an event that adds to one text."""
    return Delta(frame=f"{choice}{field}{text}".encode(), choices=(piece(choice, **{field: text}),))


def finish(choice: int = 0) -> Delta:
    """Return an event that ends a choice."""
    return Delta(frame=b"finish", choices=(ChoiceDelta(index=choice, finish_reason="stop"),))


def whole(said: Said) -> Delta:
    """Return an unstreamed reply."""
    choices = sorted({choice for choice, _ in said})
    pieces = [piece(n, finish_reason="stop", **{field: said.get((n, field), "") for field in SPOKEN}) for n in choices]
    return Delta(frame=b"whole", choices=tuple(pieces))


def words(*odd: str) -> st.SearchStrategy[str]:
    """Draw texts of plain words and of odd ones."""
    plain = ["so ", "and then, ", "é🙂", "word", " ", "\n", "N", "-", "7"]
    return st.lists(st.sampled_from([*plain, *odd]), max_size=40).map("".join)


@st.composite
def slicings(draw: st.DrawFn, texts: st.SearchStrategy[str], most: int = 2) -> tuple[Said, list[Delta]]:
    """Draw the texts of a reply, and a stream that brings them: each choice in its order, the choices interleaved."""
    said: Said = {}
    streams: list[list[Delta]] = []
    for choice in range(draw(st.integers(1, most))):
        stream = []
        for field in draw(
            st.lists(st.sampled_from(SPOKEN), unique=True).map(lambda some: sorted(some, key=SPOKEN.index))
        ):
            said[choice, field] = text = draw(texts)
            cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
            pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            stream += [event(choice, field, piece) for piece in pieces]
        streams.append([*stream, finish(choice)])
    order = draw(st.permutations([number for number, stream in enumerate(streams) for _ in stream]))
    left = [iter(stream) for stream in streams]
    return {at: text for at, text in said.items() if text}, [next(left[number]) for number in order]


@given(slicings(words("N-4111", "N-12345678901234567890", " ann@example.org ")))
@settings(max_examples=150)
def test_streamed_or_not_the_same_is_covered(case: tuple[Said, list[Delta]]) -> None:
    """Whatever the slicing, each text is what the whole text says with every find covered; nothing of one is in it."""
    said, stream = case

    left, denied = run(MASKING, stream)
    left_whole, denied_whole = run(MASKING, [whole(said)])

    assert joined(left) == joined(left_whole)
    assert (None, None) == (denied, denied_whole)
    assert {at: re.sub(NUMBER, "[PATTERN]", text) for at, text in said.items() if "@" not in text} == {
        at: text for at, text in joined(left).items() if "@" not in said[at]
    }
    assert not any("ann@" in text or re.search(NUMBER, text) for text in joined(left).values())


@given(slicings(words("N-4111", "forbidden ", "forbid"), most=1))
@settings(max_examples=150)
def test_streamed_or_not_the_same_is_denied(case: tuple[Said, list[Delta]]) -> None:
    """Whatever the slicing, the same decision cuts the reply at the same character, before anything it is about."""
    said, stream = case

    left, denied = run(DENYING, stream)
    left_whole, denied_whole = run(DENYING, [whole(said)])

    assert (joined(left), denied) == (joined(left_whole), denied_whole)
    assert any("forbidden" in text for text in said.values()) == (denied is not None)
    assert not any("forbidden" in text or re.search(NUMBER, text) for text in joined(left).values())


@given(slicings(words("forbidden ", "forbid")))
@settings(max_examples=50)
def test_whatever_comes_first_one_choice_that_is_denied_denies_all(case: tuple[Said, list[Delta]]) -> None:
    """Of choices that speak at the same time each is judged; which is denied first is a matter of the stream."""
    said, stream = case

    left, denied = run(DENYING, stream)

    assert any("forbidden" in text for text in said.values()) == (denied is not None)
    assert not any("forbidden" in text for text in joined(left).values())


@given(slicings(words()))
@settings(max_examples=50)
def test_what_nothing_covers_keeps_its_bytes(case: tuple[Said, list[Delta]]) -> None:
    """Deltas that no rule changes leave whole and in order, the very same."""
    _, stream = case
    stream = [delta for delta in stream if not re.search("N|-", "".join(joined([[delta]]).values()))]

    left, _ = run(MASKING, stream)

    assert stream == [delta for step in left for delta in step]


def test_text_leaves_once_it_is_judged() -> None:
    """With 42 characters held back, in steps of ten, a word leaves when 52 characters have come, not at the end."""
    stream = [event(0, "text", "word ") for _ in range(20)]

    left, _ = run(compiled(policy({**MASK, "pattern": "N-[0-9]{39}"})), [*stream, finish()])

    assert 42 == MASK_REACH
    assert [0] * 10 + [2] * 1 == [len(step) for step in left[:11]]


def test_reasoning_does_not_wait_for_the_answer_to_end() -> None:
    """Once the answer begins nothing more is awaited of the reasoning: it leaves."""
    stream = [event(0, "reasoning", "Let me see N-1"), event(0, "text", "Yes.")]

    left, _ = run(MASKING, stream)

    assert ["Let me see [PATTERN]"] == [delta.choices[0].reasoning for delta in left[1]]


def test_reasoning_that_goes_on_after_the_answer_is_judged_with_what_was_before() -> None:
    """A find in two pieces, the answer in between: its first piece has left, the rest does not."""
    stream = [event(0, "reasoning", "N-"), event(0, "text", "Yes."), event(0, "reasoning", "42 is it"), finish()]

    left, _ = run(MASKING, stream)

    assert {(0, "reasoning"): "N- is it", (0, "text"): "Yes."} == joined(left)


def test_a_find_that_grows_after_its_text_seemed_over_stays_covered() -> None:
    """What was covered once is covered still, and what belongs to it as well."""
    stream = [event(0, "reasoning", "N-4"), event(0, "text", "Yes."), event(0, "reasoning", "2 is it"), finish()]

    left, _ = run(MASKING, stream)

    assert "[PATTERN] is it" == joined(left)[0, "reasoning"]


def test_a_call_waits_for_the_end_and_so_does_what_follows() -> None:
    """From the first piece of a call on all waits, judged all the same; a denial then lets no call leave."""
    call = ToolCallDelta(index=0, id="c", name="f", arguments="{}")
    calls = Delta(frame=b"call", choices=(ChoiceDelta(tool_calls=(call,)),))
    stream = [event(0, "text", "Before. "), calls, event(0, "text", "forbidden"), finish()]

    left, denied = run(DENYING, stream)

    assert denied is not None
    assert ({}, [[], [], [], []]) == (joined(left), left[:4])
    assert Verdict.DENY is denied.verdict


def test_a_stretch_that_is_denied_lets_what_is_judged_leave() -> None:
    """Where the denial comes late the text before it leaves, its last delta split, and no call with it."""
    call = ToolCallDelta(index=0, id="c", name="f", arguments="{}")
    calls = Delta(frame=b"call", choices=(ChoiceDelta(tool_calls=(call,)),))
    plain = event(0, "text", "." * 999)

    left, _ = run(DENYING, [plain, calls, event(0, "text", "forbidden"), finish()])
    left_whole, _ = run(
        DENYING, [Delta(frame=b"w", choices=(*plain.choices, *calls.choices, *event(0, "text", "forbidden").choices))]
    )

    assert joined(left) == joined(left_whole)
    assert [()] == [piece.tool_calls for delta in left[-1] for piece in delta.choices]
    assert 700 < len(joined(left)[0, "text"]) < 999


def test_a_rule_that_only_looks_on_holds_nothing() -> None:
    """In shadow every delta leaves at once; what the rule would have done is on record."""
    policies = compiled(policy({**MASK, "mode": "shadow"}))
    draft = Draft("ex", "", 0, 0.0)
    passage, stream = (
        Passage(policies, Vault(KEY, "s"), draft, hold=False, now_ms=lambda: 0.0),
        [event(0, "text", "N-1 ")] * 40,
    )

    left = [list(passage.feed([delta], facts())) for delta in stream]

    assert [[delta] for delta in stream] == left
    assert [] == list(passage.close(facts()))
    assert (Verdict.ALLOW, Verdict.REDACT) == (draft.texts["0.text"].verdict, draft.texts["0.text"].shadow_verdict)


def test_one_decision_stands_for_a_text() -> None:
    """All that was found in a text is in one decision, at its place in the whole text; no other is there."""
    draft = Draft("ex", "", 0, 0.0)
    passage = Passage(MASKING, Vault(KEY, "s"), draft, hold=False, now_ms=lambda: 1.0)
    passage.gate.feed(event(1, "text", "nothing"))

    list(passage.feed([event(0, "text", f"N-1{'.' * 400}N-2")], facts()))
    list(passage.close(facts()))

    assert {"0.text"} == set(draft.texts)
    found = draft.texts["0.text"]
    assert ("ex-chunk0.text", "0.text", Verdict.REDACT, "p/r0@1.0.0") == (
        found.id,
        found.subject,
        found.verdict,
        found.rule,
    )
    assert [(0, 3), (403, 406)] == [(span.start, span.end) for span in found.spans]
    assert ["p/r0@1.0.0"] == [hit.id for hit in found.rules]


def test_an_unstreamed_reply_that_is_cut_is_kept_for_one_body() -> None:
    """It cannot leave in parts: what is left of it waits for the text that it ends with."""
    draft = Draft("ex", "", 0, 0.0)
    passage = Passage(DENYING, Vault(KEY, "s"), draft, hold=False, now_ms=lambda: 0.0)

    list(passage.feed([whole({(0, "text"): "." * 999 + "forbidden"})], facts()))
    with pytest.raises(Denied):
        list(passage.close(facts()))

    (left,) = passage.left
    assert passage.said == left.choices[0].text
    after = ended(left, Reply(text="No.", finish_reason="content_filter"))
    assert (passage.said + "No.", "content_filter", b"") == (
        after.choices[0].text,
        after.choices[0].finish_reason,
        after.frame,
    )


def test_an_error_of_a_rule_denies_the_step() -> None:
    """A rule that fails is never no match: the reply is cut there, with a neutral text."""
    policies = compiled(policy({"phase": "chunk", "action": "deny", "when": "request.metadata.none == chunk.text"}))

    left, denied = run(policies, [event(0, "text", "hello"), finish()])

    assert {} == joined(left)
    assert denied is not None
    assert ("policy_error", Verdict.DENY) == (denied.reason, denied.verdict)


@pytest.mark.parametrize(("first", "second"), [(Verdict.REDACT, Verdict.DENY), (Verdict.DENY, Verdict.REDACT)])
def test_the_heavier_decision_counts(first: Verdict, second: Verdict) -> None:
    """Of two decisions on one text the heavier says how it ends; rules and spans are those of both, once."""

    def decided(verdict: Verdict) -> Decision:
        hits = tuple(RuleHit(id=name, action=verdict, mode=Mode.ENFORCE) for name in ("both", verdict))
        spans = tuple(Span(rule="both", kind="k", how=How.MASK, start=at, end=at + 1) for at in (0, len(verdict)))
        return Decision(id="d", phase=Phase.CHUNK, verdict=verdict, rule=verdict, rules=hits, spans=spans)

    found = merged(decided(first), decided(second))

    assert (Verdict.DENY, "deny") == (found.verdict, found.rule)
    assert {"both", "redact", "deny"} == {hit.id for hit in found.rules}
    assert [0, 4, 6] == [span.start for span in found.spans]


def test_a_reply_is_covered_text_by_text() -> None:
    """A span says by its place which text of the reply it is of."""
    spans = [Span(rule="r", kind="k", how=How.MASK, start=0, end=1, place=place) for place in ("", "reasoning")]
    decision = Decision(id="d", phase=Phase.RESPONSE, verdict=Verdict.REDACT, spans=tuple(spans))
    reply = Reply(choice=1, text="abc", reasoning="def", refusal="ghi")
    passage = Passage(MASKING, Vault(KEY, "s"), Draft("ex", "", 0, 0.0), hold=False, now_ms=lambda: 0.0)

    covers = passage.covers(decision, reply)

    cover = [Cover(start=0, end=1, text="[K]")]
    assert {(1, "text", 0): cover, (1, "reasoning", 0): cover} == covers
    assert Reply(choice=1, text="[K]bc", reasoning="[K]ef", refusal="ghi") == spoken(reply, covers)


@pytest.mark.parametrize(
    ("places", "rewrites", "expected"),
    [
        pytest.param([], {}, '{"b": ["abc"], "a": 1.50}', id="nothing changes a byte"),
        pytest.param(["/b/0"], {}, '{"a":1.5,"b":["[K]bc"]}', id="a string is covered"),
        pytest.param([], {"a": 2}, '{"a":2,"b":["abc"]}', id="an argument is rewritten"),
        pytest.param(["/a"], {"a": "xyz"}, '{"a":"[K]yz","b":["abc"]}', id="what was rewritten is covered"),
    ],
)
def test_arguments_are_changed_as_a_tree(places: list[str], rewrites: dict[str, Any], expected: str) -> None:
    """What is changed is written anew as canonical JSON, never edited as a text; what is not keeps its spelling."""
    spans = tuple(Span(rule="r", kind="k", how=How.MASK, start=0, end=1, place=place) for place in places)
    decision = Decision(id="d", phase=Phase.TOOL_CALL, verdict=Verdict.REDACT, spans=spans, rewrites=rewrites)
    passage = Passage(MASKING, Vault(KEY, "s"), Draft("ex", "", 0, 0.0), hold=False, now_ms=lambda: 0.0)

    assert expected == passage.arguments(decision, ToolCall(id="c", name="f", arguments='{"b": ["abc"], "a": 1.50}'))


def test_a_text_that_was_rewritten_covers_all_that_was_there() -> None:
    """What is taken out of it counts in the new text."""
    spans = (Span(rule="r", kind="k", how=How.MASK, start=0, end=3),)
    decision = Decision(
        id="d", phase=Phase.RESPONSE, verdict=Verdict.REWRITE, spans=spans, rewrites={"text": "new text"}
    )
    passage = Passage(MASKING, Vault(KEY, "s"), Draft("ex", "", 0, 0.0), hold=False, now_ms=lambda: 0.0)
    reply = Reply(text="old")

    assert "[K] text" == spoken(reply, passage.covers(decision, reply)).text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("email", f"{'a' * 64}@{'b' * 60}.{'c' * 60}.example.org", id="email"),
        pytest.param("card", "4111 1111 1111 1111", id="card"),
        pytest.param("iban", "DE89 3704 0044 0532 0130 00", id="iban"),
        pytest.param("phone", "+49 (30) 12345-6789", id="phone"),
        pytest.param("ip", "2001:db8:85a3:1234:5678:8a2e:370:7334", id="ip"),
        pytest.param("ssn", "219-09-9999", id="ssn"),
        pytest.param("openai", f"sk-proj-{'aB3' * 52}", id="openai"),
        pytest.param("github", f"github_pat_{'aB3' * 27}", id="github"),
    ],
)
def test_no_piece_of_a_find_leaves_wherever_it_stands(kind: str, value: str) -> None:
    """At every place of a step, and letter by letter, what the guards find is covered whole before any of it leaves."""
    rule = {"phase": "chunk", "action": "mask", "kinds": [kind]}
    policies = compiled(policy(rule), functions=FUNCTIONS)
    assert policies.reach is not None
    size = policies.reach.ahead // STEPS

    for place in range(0, size, 7):
        before = "so. " * (size // 2) + "." * place + " "
        left, _ = run(policies, [event(0, "text", letter) for letter in f"{before}{value} is it"])
        assert {(0, "text"): f"{before}[{kind.upper()}] is it"} == joined(left)


def test_a_find_without_end_cuts_the_reply() -> None:
    """Of what is longer than a window no piece leaves: where it ends cannot be told, and that is an error."""
    policies = compiled(policy({"phase": "chunk", "action": "mask", "kinds": ["openai"]}), functions=FUNCTIONS)
    stream = [event(0, "text", text) for text in ("Here: ", "sk-proj-", *["aB3" * 20] * 40, " is it.")]

    left, denied = run(policies, stream)

    assert denied is not None
    assert ({}, "policy_error") == (joined(left), denied.reason)


def test_a_long_text_is_judged_in_turns() -> None:
    """After some milliseconds others have their turn; what goes on comes to the same as what was judged in one go."""
    stream = [whole({(0, "text"): f"{'word ' * 400}N-42{' word' * 100}"})]
    clock = count()  # It is read when a turn begins, and when a step begins and ends.
    draft = Draft("ex", "", 0, 0.0)
    passage = Passage(MASKING, Vault(KEY, "s"), draft, hold=False, now_ms=clock.__next__, turn_ms=14.5)

    left, turns = list(passage.feed(stream, facts())), 0
    while passage.behind:
        left += passage.go_on(facts())
        turns += 1
    left += passage.close(facts())

    steps = (len(stream[0].choices[0].text) - REACH.ahead) // (REACH.ahead // STEPS) + 1
    assert steps // 7 == turns
    assert joined([left]) == joined(run(MASKING, stream)[0])


def test_how_long_bytes_waited_is_on_record() -> None:
    """From when the oldest came that waits: the longest time counts."""
    times: Sequence[float] = [10.0, 30.0, 45.0]
    clock = iter([*times, *[50.0] * 9])
    draft = Draft("ex", "", 0, 0.0)
    passage = Passage(MASKING, Vault(KEY, "s"), draft, hold=False, now_ms=lambda: next(clock))

    for _ in range(3):
        list(passage.feed([event(0, "text", "word")], facts()))

    assert 35.0 == draft.hold_ms


MASK_REACH = compiled(policy({**MASK, "pattern": "N-[0-9]{39}"})).rules[0].ahead


@pytest.mark.parametrize(("turn_ms", "slow"), [(1.5, True), (9999.0, False)], ids=["dear", "cheap"])
def test_a_turn_that_took_all_of_its_time_is_told(turn_ms: float, slow: bool) -> None:
    """What comes next should wait for a turn then."""
    draft = Draft("ex", "", 0, 0.0)
    passage = Passage(MASKING, Vault(KEY, "s"), draft, hold=False, now_ms=count().__next__, turn_ms=turn_ms)

    list(passage.feed([event(0, "text", "word " * 400)], facts()))

    assert slow is passage.slow
