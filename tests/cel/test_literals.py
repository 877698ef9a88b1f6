"""Owns the proof of the values of literals."""

import pytest

from proxy import cel
from proxy.cel import literals
from proxy.cel.values import kind_of
from tests.cel.running import exactly


@pytest.mark.parametrize(
    ("terminal", "text", "value"),
    [
        pytest.param("INT_LIT", "-9223372036854775808", -(2**63), id="the least int"),
        pytest.param("INT_LIT", "0x7fffffffffffffff", 2**63 - 1, id="the greatest int"),
        pytest.param("INT_LIT", "-0x10", -16, id="a negative hexadecimal"),
        pytest.param("UINT_LIT", "0xFFFFFFFFFFFFFFFFu", cel.UInt(2**64 - 1), id="the greatest uint"),
        pytest.param("UINT_LIT", "12U", cel.UInt(12), id="a decimal uint"),
        pytest.param("FLOAT_LIT", "-1.5e3", -1500.0, id="a double"),
        pytest.param("BOOL_LIT", "true", True, id="true"),
        pytest.param("BOOL_LIT", "false", False, id="false"),
        pytest.param("NULL_LIT", "null", None, id="null"),
        pytest.param("STRING_LIT", r"'\a\b\f\n\r\t\v\\\?\"\'\`'", "\a\b\f\n\r\t\v\\?\"'`", id="every plain escape"),
        pytest.param("STRING_LIT", r"'\x41\X42\u00e9\U0001F600\101'", "ABé😀A", id="every numbered escape"),
        pytest.param("STRING_LIT", r"'\xff'", "ÿ", id="an escape in a string is a code point"),
        pytest.param("STRING_LIT", r"r'\n'", r"\n", id="a raw string"),
        pytest.param("STRING_LIT", "'''a\r\nb\rc'''", "a\nb\nc", id="line breaks become one kind"),
        pytest.param("STRING_LIT", "''", "", id="an empty string"),
        pytest.param("STRING_LIT", "''''''", "", id="an empty triple string"),
        pytest.param("BYTES_LIT", r"b'é\xff\377\n'", b"\xc3\xa9\xff\xff\n", id="an escape in bytes is a byte"),
        pytest.param("BYTES_LIT", r"br'\xff'", rb"\xff", id="raw bytes"),
    ],
)
def test_a_literal_has_its_value(terminal: str, text: str, value: object) -> None:
    """Numbers, strings and bytes mean what the language says."""
    read, kind = literals.READERS[terminal]

    assert (exactly(value), kind) == (exactly(read(text)), kind_of(value))


@pytest.mark.parametrize(
    ("terminal", "text"),
    [
        pytest.param("INT_LIT", "9223372036854775808", id="an int too large"),
        pytest.param("INT_LIT", "-9223372036854775809", id="an int too small"),
        pytest.param("UINT_LIT", "18446744073709551616u", id="a uint too large"),
        pytest.param("FLOAT_LIT", "1e999", id="a double too large"),
        pytest.param("STRING_LIT", r"'\q'", id="an unknown escape"),
        pytest.param("STRING_LIT", r"'\xf'", id="a hexadecimal escape cut short"),
        pytest.param("STRING_LIT", r"'\400'", id="an octal escape above a byte"),
        pytest.param("STRING_LIT", r"'\ud800'", id="half a surrogate pair"),
        pytest.param("STRING_LIT", r"'\U00110000'", id="beyond Unicode"),
        pytest.param("BYTES_LIT", r"b'\u0041'", id="a character escape in bytes"),
        pytest.param("BYTES_LIT", r"b'\8'", id="an unknown escape in bytes"),
        pytest.param("BYTES_LIT", "b'\ud800'", id="bytes of what no text can hold"),
    ],
)
def test_a_literal_without_a_value_is_refused(terminal: str, text: str) -> None:
    """What does not fit, or is no escape, is an error and never something near it."""
    with pytest.raises(ValueError, match=r".+"):
        literals.READERS[terminal][0](text)
