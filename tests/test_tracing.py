"""Owns the proof of trace identifiers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tracing import context, parse_traceparent, span_id_for, trace_id_for

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN, True), id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, False), id="not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", (TRACE, SPAN, True), id="more flags"),
        pytest.param(f" 00-{TRACE}-{SPAN}-01\t", (TRACE, SPAN, True), id="space around"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01", (TRACE, SPAN, True), id="a later version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-what-else", (TRACE, SPAN, True), id="a longer later version"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-what-else", None, id="version 00 is not longer"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01.what", None, id="a later version without a dash"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="version ff"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="no span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", None, id="upper case"),
        pytest.param(f"00-{TRACE[:-1]}-{SPAN}-01", None, id="a short trace"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", None, id="short flags"),
        pytest.param(f"00-{TRACE}-{SPAN}", None, id="no flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-0\u0661", None, id="a digit of another script"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(value: str, expected: tuple[str, str, bool] | None) -> None:
    """W3C Trace Context §3.2, its invalid values and its rule for later versions included."""
    assert expected == parse_traceparent(value)


@given(st.text())
def test_any_other_text_is_no_traceparent(value: str) -> None:
    """A header of any content is read or passed over, never an error."""
    found = parse_traceparent(value)

    assert found is None or value.strip().count("-") >= 3


def test_a_call_joins_the_trace_of_its_client() -> None:
    """With a valid header the exchange's root span is a child of the client's."""
    expected = (TRACE, span_id_for("ex_1"), SPAN)

    assert expected == context(f"00-{TRACE}-{SPAN}-01", "ex_1")


def test_a_call_without_a_trace_begins_its_own() -> None:
    """Without a valid header trace and root span are derived from the exchange."""
    assert (trace_id_for("ex_1"), span_id_for("ex_1"), "") == context("nonsense", "ex_1")


def test_ids_are_the_same_everywhere() -> None:
    """An id depends on its name alone, so that a record that is read later names the same spans."""
    expected = ("6a53ed96de85b3b4eaa8f492638bea42", "1fba6aac80bc739f")

    assert expected == (trace_id_for("ex_1"), span_id_for("ex_1"))


@given(st.sets(st.text(alphabet=st.characters(codec="utf-8")), min_size=2))
def test_names_do_not_share_ids(names: set[str]) -> None:
    """Different names have different ids of the shape that the standard asks for."""
    traces, spans = {trace_id_for(name) for name in names}, {span_id_for(name) for name in names}

    assert (len(names), len(names)) == (len(traces), len(spans))
    assert all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces)
    assert all(re.fullmatch("[0-9a-f]{16}", span) for span in spans)
