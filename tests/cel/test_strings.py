"""Owns the proof of the string functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from tests.cel.running import exactly, failure, run, units


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("'abc'.contains('b') && 'abc'.contains('') && !'abc'.contains('B')", True, id="contains"),
        pytest.param("'abc'.startsWith('ab') && !'abc'.startsWith('b')", True, id="startsWith"),
        pytest.param("'abc'.endsWith('bc') && !'abc'.endsWith('b')", True, id="endsWith"),
        pytest.param("'é😀'.charAt(1) + 'a'.charAt(0) + 'a'.charAt(1)", "😀a", id="charAt, the end included"),
        pytest.param(
            "['abcb'.indexOf('b'), 'abcb'.indexOf('b', 2), 'a'.indexOf('x'), 'a'.indexOf('', 1)]",
            [1, 3, -1, 1],
            id="indexOf",
        ),
        pytest.param(
            "['abcb'.lastIndexOf('b'), 'abcb'.lastIndexOf('b', 2), 'ab'.lastIndexOf('')]", [3, 1, 2], id="lastIndexOf"
        ),
        pytest.param("'abcd'.substring(2) + 'abcd'.substring(1, 3) + 'ab'.substring(2)", "cdbc", id="substring"),
        pytest.param(
            "'aXbX'.replace('X', '--') + 'aaa'.replace('a', 'b', 2) + 'a'.replace('a', 'b', 0)",
            "a--b--bbaa",
            id="replace",
        ),
        pytest.param("'ab'.replace('', '-')", "-a-b-", id="replace between characters"),
        pytest.param("'a,b,c'.split(',')", ["a", "b", "c"], id="split"),
        pytest.param("'a,b,c'.split(',', 2)", ["a", "b,c"], id="split into at most two"),
        pytest.param("'a,b'.split(',', 1) + 'a,b'.split(',', 0) + 'a'.split(',', -1)", ["a,b", "a"], id="split limits"),
        pytest.param(
            "'abc'.split('') + 'abc'.split('', 2) + ''.split('') + 'ab'.split('', 9)",
            ["a", "b", "c", "a", "bc", "a", "b"],
            id="split into characters",
        ),
        pytest.param("['a', 'b'].join() + ['a', 'b'].join('-') + [].join('x')", "aba-b", id="join"),
        pytest.param("'\\u00a0\\u2003\\t a b\\u3000\\n'.trim()", "a b", id="trim of every white space"),
        pytest.param("'\\u200b\\u180ea'.trim() == 'a'", False, id="trim of nothing else"),
        pytest.param("'aé😀'.reverse()", "😀éa", id="reverse"),
        pytest.param("'ÀBC😀'.lowerAscii() + 'àbc[{'.upperAscii()", "Àbc😀àBC[{", id="only ASCII letters change case"),
    ],
)
def test_string_functions(expression: str, value: object) -> None:
    """Positions count code points; nothing depends on a locale."""
    assert exactly(value) == exactly(run(expression))


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("'abc'.charAt(4)", "index_out_of_range", id="beyond the end"),
        pytest.param("'abc'.charAt(-1)", "index_out_of_range", id="before the start"),
        pytest.param("'abc'.indexOf('a', 4)", "index_out_of_range", id="a search from beyond"),
        pytest.param("'abc'.lastIndexOf('a', -1)", "index_out_of_range", id="a search from before"),
        pytest.param("'abc'.substring(2, 1)", "index_out_of_range", id="an end before the start"),
        pytest.param("'abc'.substring(4)", "index_out_of_range", id="a start beyond"),
        pytest.param("'abc'.substring(0, 4)", "index_out_of_range", id="an end beyond"),
        pytest.param("'abc'.contains(1)", "no_such_overload", id="a number in a text"),
        pytest.param("dyn(1).contains('1')", "no_such_overload", id="a text in a number"),
        pytest.param("'abc'.charAt('1')", "no_such_overload", id="a text as position"),
        pytest.param("'abc'.replace('a', 1)", "no_such_overload", id="a number as replacement"),
        pytest.param("'abc'.split(',', '1')", "no_such_overload", id="a text as limit"),
        pytest.param("['a', 1].join()", "no_such_overload", id="a number among texts"),
        pytest.param("'abc'.join()", "no_such_overload", id="a text joined"),
    ],
)
def test_string_functions_that_fail(expression: str, kind: str) -> None:
    """A position outside the text and an argument of another kind are errors."""
    assert kind == failure(expression)


def test_a_subclass_of_text_is_text() -> None:
    """An enum of texts is searched like any other text."""

    class Word(str):
        """Stand for a StrEnum member."""

        __slots__ = ()

    assert run("w.contains('b') && 'abc'.contains(w.charAt(1))", {"w": Word("abc")}) is True


@pytest.mark.parametrize(
    ("expression", "least"),
    [
        pytest.param("s.contains('y')", 64_000 // 256, id="reading"),
        pytest.param("s.substring(1) == ''", 64_000 // 64, id="cutting"),
        pytest.param("s.replace('x', 'xxxx') == ''", 4 * 64_000 // 64, id="growing"),
        pytest.param("s.split('').size()", 64_000 // 8, id="splitting"),
        pytest.param("l.join(s) == ''", 640_000 // 64, id="joining"),
        pytest.param("s.upperAscii() + s.trim() + s.reverse() == ''", 3 * 64_000 // 64, id="copying"),
    ],
)
def test_text_is_paid_by_its_length(expression: str, least: int) -> None:
    """Reading text is cheap, making it costs its room."""
    assert units(expression, {"s": "x" * 64_000, "l": [""] * 11}) >= least


def test_growth_is_paid_before_it_happens() -> None:
    """A text that the budget cannot pay for is never made."""
    program = cel.compile("s.replace('', s).replace('', s) == ''")

    with pytest.raises(cel.CelError) as caught:
        program.evaluate({"s": "x" * 50_000}, cel.Budget(100_000))
    assert "budget" == caught.value.kind


TEXT = st.text(alphabet="ab,é😀 ", max_size=12)


@given(TEXT, st.sampled_from([",", "a", "", "é😀"]))
def test_joining_undoes_splitting(text: str, separator: str) -> None:
    """split and join with the same separator give the text back."""
    assert text == run("t.split(s).join(s)", {"t": text, "s": separator})


@given(TEXT, TEXT)
def test_a_found_position_is_where_the_part_is(text: str, part: str) -> None:
    """indexOf finds what contains sees, and substring cuts it out again."""
    position = run("t.indexOf(p)", {"t": text, "p": part})

    assert run("t.contains(p)", {"t": text, "p": part}) is (position != -1)
    assert position == -1 or run("t.substring(i, i + size(p)) == p", {"t": text, "p": part, "i": position}) is True
