"""Owns the proof of proxy/redaction.py: what covers personal data, and that it comes back whole in any slicing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.redaction import FEW, MOST_WAITING, Marks, Restorer, Vault, marks
from proxy.terms import ChoiceDelta, Delta, How, Span, ToolCallDelta

TEXT = 'I am ann@example.org, "Ann"'
MAIL = "ann@example.org"


def span(how: How, start: int = 5, end: int = 20, kind: str = "email") -> Span:
    """Return a span of TEXT."""
    return Span(rule="p/r@1.0.0", kind=kind, how=how, start=start, end=end)


def vault_of(*spans: Span, text: str = TEXT) -> tuple[Vault, list[str]]:
    """Return a vault after these spans were covered, and what covers them."""
    vault = Vault(b"key", "se_1")
    return vault, [cover.text for cover in vault.covers(spans, text)]


def deltas(texts: Sequence[str], field: str = "text") -> list[Delta]:
    """Return one delta per text."""
    if field == "arguments":
        pieces = [ChoiceDelta(tool_calls=(ToolCallDelta(index=0, arguments=text),)) for text in texts]
    else:
        pieces = [replace(ChoiceDelta(), **{field: text}) for text in texts]
    return [Delta(frame=b"kept", choices=(piece,)) for piece in pieces]


def said(found: Sequence[Delta], field: str = "text") -> str:
    """Return what deltas add up to."""
    if field == "arguments":
        return "".join(call.arguments for delta in found for piece in delta.choices for call in piece.tool_calls)
    return "".join(getattr(piece, field) for delta in found for piece in delta.choices)


def test_a_mask_names_the_kind_alone() -> None:
    """Nothing of the value is left."""
    vault, covers = vault_of(span(How.MASK))

    assert (["[EMAIL]"], {}) == (covers, vault.values)


def test_a_hash_is_the_same_for_the_same_value_alone() -> None:
    """Two texts can be told to mean the same person, by whoever has no key, and no more."""
    _, first = vault_of(span(How.HASH))
    _, same = vault_of(span(How.HASH, 0, 15), text=MAIL)
    _, other = vault_of(span(How.HASH, 0, 3), text="bob")

    assert first == same != other
    assert first != [cover.text for cover in Vault(b"another key", "se_1").covers([span(How.HASH)], TEXT)]


def test_a_placeholder_is_stable_in_its_conversation() -> None:
    """The next call of the conversation makes the same placeholder; another conversation another one."""
    vault, (placeholder,) = vault_of(span(How.TOKENIZE))

    assert {placeholder: MAIL} == vault.values
    assert [placeholder] == [cover.text for cover in vault.covers([span(How.TOKENIZE)], TEXT)]
    assert [placeholder] == vault_of(span(How.TOKENIZE))[1]
    assert placeholder != Vault(b"key", "se_2").covers([span(How.TOKENIZE)], TEXT)[0].text


def test_a_vault_keeps_its_values_to_itself() -> None:
    """They do not get into logs by accident."""
    vault, _ = vault_of(span(How.TOKENIZE))

    assert "Vault(1 values)" == repr(vault)


def test_values_are_hidden_in_arguments_of_the_history() -> None:
    """A value that came back to the agent does not go to the provider with the next turn."""
    vault, (placeholder,) = vault_of(span(How.TOKENIZE, 22, 27, "name"))

    assert f'{{"name":"{placeholder}"}}' == vault.hide_arguments(json.dumps({"name": '"Ann"'}, separators=(",", ":")))


def test_a_value_that_is_part_of_another_hides_no_half_of_it() -> None:
    """Of `joann@…` no `jo` stays where `ann@…` is known as well."""
    text = f"{MAIL} jo{MAIL}"
    vault, (_, longer) = vault_of(span(How.TOKENIZE, 0, 15), span(How.TOKENIZE, 16, 33), text=text)

    assert f'{{"to":"{longer}"}}' == vault.hide_arguments(f'{{"to":"jo{MAIL}"}}')


@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "as it is"])
def test_values_are_hidden_however_json_spells_them(ascii_only: bool) -> None:
    """Many encoders write letters beyond ASCII as escapes."""
    vault, (placeholder,) = vault_of(span(How.TOKENIZE, 0, 4, "name"), text="José")

    assert json.dumps({"n": placeholder}) == vault.hide_arguments(json.dumps({"n": "José"}, ensure_ascii=ascii_only))


@pytest.mark.parametrize("field", ["text", "reasoning", "refusal", "arguments"])
@given(st.lists(st.integers(0, 60), max_size=8), st.sampled_from(["", "[", "[EMAIL", "[EMAIL_"]))
def test_values_come_back_in_any_slicing(field: str, cuts: list[int], end: str) -> None:
    """However a reply is cut, it says the same with every value in its place, and nothing is lost at the end."""
    vault, (placeholder,) = vault_of(span(How.TOKENIZE))
    whole = f"a [b] {placeholder}{placeholder} [EMAIL_ c{end}"
    edges = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    restorer = Restorer(vault)

    slices = [whole[a:b] for a, b in itertools.pairwise(edges)]
    found = [delta for piece in deltas(slices, field) for delta in restorer.feed(piece)] + restorer.close()

    assert whole.replace(placeholder, MAIL) == said(found, field)
    assert len(slices) == len(found)


def test_what_is_not_concerned_keeps_its_frame() -> None:
    """Only deltas that say something else are written anew."""
    vault, (placeholder,) = vault_of(span(How.TOKENIZE))
    restorer = Restorer(vault)

    found = [d for piece in deltas(["Hi ", placeholder[:4], placeholder[4:], " there"]) for d in restorer.feed(piece)]

    assert [b"kept", b"", b"", b"kept"] == [delta.frame for delta in found]


def test_values_stand_in_arguments_as_json_has_them() -> None:
    """A quote in a value does not end the string that it stands in."""
    vault, (placeholder,) = vault_of(span(How.TOKENIZE, 22, 27, "name"))
    (delta,) = Restorer(vault).feed(deltas([json.dumps({"n": placeholder})], "arguments")[0])

    assert {"n": '"Ann"'} == json.loads(said([delta], "arguments"))


def test_nothing_to_put_back_costs_nothing() -> None:
    """Without placeholders deltas pass as they are."""
    delta = Delta(frame=b"kept", choices=(ChoiceDelta(text="[EMAIL_"),))

    assert [delta] == Restorer(Vault(b"key", "se_1")).feed(delta)


@given(st.lists(st.sampled_from(range(4)), max_size=80))
def test_choices_that_speak_at_the_same_time_get_their_values_back(turns: list[int]) -> None:
    """However many choices take turns, letter by letter, each says every value that is its own."""
    vault, (placeholder,) = vault_of(span(How.TOKENIZE))
    whole, restorer = f"a [ {placeholder}.", Restorer(vault)
    left = {index: iter(whole) for index in range(4)}
    order = [*turns, *(index for _ in whole for index in range(4))]

    spoken = [ChoiceDelta(index=index, text=letter) for index in order if (letter := next(left[index], ""))]
    found = [d for piece in spoken for d in restorer.feed(Delta(frame=b"kept", choices=(piece,)))] + restorer.close()

    texts = ["".join(d.choices[0].text for d in found if d.choices[0].index == index) for index in range(4)]
    assert [whole.replace(placeholder, MAIL)] * 4 == texts


def test_no_channel_keeps_the_others_waiting_for_ever() -> None:
    """A text that stops where a placeholder may begin lets all go at last, and keeps nothing waiting again."""
    vault, _ = vault_of(span(How.TOKENIZE))
    restorer = Restorer(vault)
    opens = ToolCallDelta(index=0, id="c", name="f")
    assert 1 == len(restorer.feed(Delta(frame=b"kept", choices=(ChoiceDelta(tool_calls=(opens,)),))))
    restorer.feed(deltas(["["])[0])

    large = Delta(frame=b"x" * MOST_WAITING, choices=(ChoiceDelta(reasoning="a"),))
    counts = [len(restorer.feed(delta)) for delta in (*deltas(["a"], "reasoning"), large, large)]

    assert [0, 3, 1] == counts


@pytest.mark.parametrize("how", [How.MASK, How.HASH, How.TOKENIZE])
@pytest.mark.parametrize("kind", ["email", "credit_card"])
def test_marks_are_known_again(how: How, kind: str) -> None:
    """Whatever stands in the place of a value, it is seen what it was; of another kind, or written otherwise, it is no
    mark."""
    _, (mark,) = vault_of(span(how, kind=kind))
    text = f"I am {mark}, not [email], [OTHER] or [EMAI"

    assert [(kind, 5, 5 + len(mark))] == list(marks(text, ("email", "credit_card")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Ann, joann@example.org", "[1], [2]", id="the longest first"),
        pytest.param("An ann@example.org", "An ann@example.org", id="what only begins like one"),
        pytest.param('é "q" x' + json.dumps(['é "q"']), "[3] x" + json.dumps(["[3]"]), id="as text and in JSON"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_marks_stand_in_the_place_of_all_values(text: str, expected: str) -> None:
    """Wherever they stand, and however they are spelt."""
    for others in (0, FEW):
        known = Marks()
        for value, mark in {"Ann": "[1]", "joann@example.org": "[2]", 'é "q"': "[3]"}.items():
            known.add(value, mark)
        for number in range(others):
            known.add(f"other{number}", "[other]")

        assert expected == known.hidden(text)


@given(st.lists(st.text("ab", min_size=1, max_size=12), max_size=6, unique=True), st.text("abc", max_size=60))
def test_reading_a_text_once_finds_what_looking_for_each_value_does(values: list[str], text: str) -> None:
    """However many values there are, none that stands in a text is missed."""
    known, expected = Marks(), text
    for number in range(FEW):
        known.add(f"other{number}", "[other]")
    for number, value in enumerate(values):
        known.add(value, f"[{number}]")
    for value in sorted(values, key=lambda value: (-len(value), value)):
        expected = expected.replace(value, f"[{values.index(value)}]")

    assert expected == known.hidden(text)
