"""Owns the proof of proxy/cli/paint.py: colours only where somebody sees them."""

import contextlib
import io
import json

import pytest

from proxy.cli.paint import clean, document, paint, rows


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        pytest.param(io.StringIO(), {"TERM": "xterm"}, "x", id="pipe"),
        pytest.param(Terminal(), {"TERM": "xterm"}, "\033[31mx\033[0m", id="terminal"),
        pytest.param(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, "x", id="asked not to"),
        pytest.param(Terminal(), {"TERM": "dumb"}, "x", id="dumb terminal"),
    ],
)
def test_colours_are_for_terminals(
    stream: io.StringIO, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text is coloured on a terminal that wants it, and plain everywhere else."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with contextlib.redirect_stdout(stream):
        painted = paint("x", "red")

    assert expected == painted


def test_rows_line_up_and_empty_ones_are_left_out() -> None:
    """Names are padded, values of several lines are indented under the first, empty values say nothing."""
    assert "  a    1\n       2\n  bcd  3" == rows([("a", "1\n2"), ("", ""), ("none", ""), ("bcd", "3")])


def test_what_others_wrote_cannot_steer_a_terminal() -> None:
    """Whatever cannot be printed, line ends included, is a blank."""
    assert "a [31m b" == clean("a\x1b[31m\nb")


@pytest.mark.parametrize("steering", ["\x1b[2J", "\x9b2J", "\x7f", "\u202e", "\u2066"], ids=ascii)
def test_json_cannot_steer_a_terminal(steering: str) -> None:
    """What a customer said is printed in escapes where a terminal might obey it, and reads back as it was."""
    shown = document({"said": f"Zoë {steering}"})

    assert {"said": f"Zoë {steering}"} == json.loads(shown)
    assert (True, True) == (shown.isprintable(), "Zoë" in shown)
