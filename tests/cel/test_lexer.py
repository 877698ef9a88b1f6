"""Owns the proof of the tokens, and that text the parser must not see is refused before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from proxy.cel.lexer import MAX_NESTING, MAX_SOURCE_BYTES, position, tokenize


@pytest.mark.parametrize(
    ("source", "tokens"),
    [
        pytest.param("a.b", "IDENT . IDENT", id="names"),
        pytest.param("true false null in", "BOOL_LIT BOOL_LIT NULL_LIT in", id="words"),
        pytest.param(
            "1 0xFf 2u 0x1U 1.5 .5 1e9 2.5E-3", "INT_LIT INT_LIT UINT_LIT UINT_LIT" + " FLOAT_LIT" * 4, id="numbers"
        ),
        pytest.param("""'a' "b" r'c' '''d''' R\"\"\"e\"\"\" """, "STRING_LIT " * 5, id="strings"),
        pytest.param("""b'a' B"b" br'c' bR'''d'''""", "BYTES_LIT " * 4, id="bytes"),
        pytest.param(r"""'it\'s' "a\"b" r'\' "x" '''a'b''c'''""", "STRING_LIT " * 5, id="quotes inside quotes"),
        pytest.param(
            "&& || <= >= == != < > + - * / % ! ? : , .", "&& || <= >= == != < > + - * / % ! ? : , .", id="symbols"
        ),
        pytest.param("a // b\n\t+ c\r\n", "IDENT + IDENT", id="white space and a comment"),
        pytest.param("a.`b-c/d`", "IDENT . IDENT", id="a field in backticks"),
        pytest.param("a.while", "IDENT . IDENT", id="a reserved word as a field"),
        pytest.param("[1, 2,]", "[ INT_LIT , INT_LIT ]", id="a comma before a closing bracket"),
        pytest.param("{1: 2,}", "{ INT_LIT : INT_LIT }", id="a comma before a closing brace"),
        pytest.param("f(1,)", "IDENT ( INT_LIT , )", id="a comma before a parenthesis stays"),
    ],
)
def test_text_becomes_tokens(source: str, tokens: str) -> None:
    """Each piece of text has the terminal name the grammar knows it by."""
    assert tokens.split() == [token.type for token in tokenize(source)]


@pytest.mark.parametrize(
    ("source", "tokens"),
    [
        pytest.param("-1", ["-1"], id="at the start"),
        pytest.param("a -1", ["a", "-", "1"], id="after a name"),
        pytest.param("a[0]-1", ["a", "[", "0", "]", "-", "1"], id="after a bracket"),
        pytest.param("2 - -1.5", ["2", "-", "-1.5"], id="after a minus"),
        pytest.param("(-1)", ["(", "-1", ")"], id="after an opening"),
        pytest.param("-1u", ["-", "1u"], id="a uint has no sign"),
    ],
)
def test_a_minus_belongs_to_the_number_unless_it_subtracts(source: str, tokens: list[str]) -> None:
    """What stands before the minus decides, so that -9223372036854775808 is one literal and a-1 a subtraction."""
    assert tokens == [str(token) for token in tokenize(source)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("a == 'b", "1:6: unterminated string", id="an open quote"),
        pytest.param('"a\nb"', "1:1: unterminated string", id="a line break in a plain string"),
        pytest.param("'''a'", "1:1: unterminated string", id="an open triple quote"),
        pytest.param(r"'\'", "1:1: unterminated string", id="an escaped closing quote"),
        pytest.param("a\n  $ b", "2:3: unexpected character '$'", id="a character of no token"),
        pytest.param("a | b", "1:3: unexpected character '|'", id="half an operator"),
        pytest.param("f(a", "1:2: '(' is never closed", id="an open bracket"),
        pytest.param("f(a]", "1:4: ']' closes nothing", id="a wrong bracket"),
        pytest.param("a)", "1:2: ')' closes nothing", id="a bracket too many"),
        pytest.param("if", "1:1: 'if' is a reserved word", id="a reserved word"),
        pytest.param("`a`", "1:1: a name in backticks may only follow a dot", id="a loose name in backticks"),
    ],
)
def test_text_that_is_no_token_is_refused_with_its_place(source: str, message: str) -> None:
    """The scan ends at the first thing it cannot read and points there."""
    with pytest.raises(cel.CelSyntaxError) as caught:
        tokenize(source)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        pytest.param("a" * MAX_SOURCE_BYTES, "é" * (MAX_SOURCE_BYTES // 2) + "a", id="bytes"),
        pytest.param("(" * MAX_NESTING + "1" + ")" * MAX_NESTING, "[" * (MAX_NESTING + 1), id="nesting"),
    ],
)
def test_size_and_nesting_end_where_they_say(within: str, beyond: str) -> None:
    """The largest expression is read, one more is refused before the parser sees it."""
    assert tokenize(within)
    with pytest.raises(cel.CelSyntaxError, match=r"longer than|deeper than"):
        tokenize(beyond)


def test_a_position_counts_from_one() -> None:
    """Line and column are those an editor shows."""
    assert [(1, 1), (1, 3), (2, 1)] == [position("ab\ncd", offset) for offset in (0, 2, 3)]


@given(st.text(alphabet="\"'\\rb`ax(){}[],.-1u/*\n ", max_size=60))
def test_any_text_is_read_or_refused(source: str) -> None:
    """Tokens cover the text they come from in order, and nothing but a syntax error is raised."""
    try:
        tokens = tokenize(source)
    except cel.CelSyntaxError:
        return

    assert all(source[token.start_pos : token.end_pos].replace("- ", "-").startswith(token[0]) for token in tokens)
