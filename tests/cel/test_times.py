"""Owns the proof of durations and timestamps: as text, in zones, to the nanosecond."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cel
from proxy.cel.times import format_duration, format_timestamp, parse_duration, parse_timestamp
from proxy.cel.values import DURATION_MAX, TIMESTAMP_MAX, TIMESTAMP_MIN
from tests.cel.running import failure, run

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        pytest.param("0", 0, id="a bare zero"),
        pytest.param("1h30m", 5400 * SECOND, id="parts"),
        pytest.param("-1.5s", -3 * SECOND // 2, id="a sign and a fraction"),
        pytest.param("+.5m", 30 * SECOND, id="a fraction alone"),
        pytest.param("1.h", 3600 * SECOND, id="a dot alone"),
        pytest.param("1ms1us1ns1µs1μs", 1_003_001, id="every small unit"),
        pytest.param("0.1234567899s", 123_456_789, id="beyond a nanosecond is cut"),
    ],
)
def test_a_duration_is_read(text: str, nanos: int) -> None:
    """Go's syntax, exactly."""
    assert nanos == parse_duration(text).nanos


@pytest.mark.parametrize("text", ["", "1", "1d", "h", "1h ", "--1s", "1h-1m", "1" * 30 + "s", "1s" * 150, "٣s"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is an error, however long."""
    with pytest.raises(cel.CelError) as caught:
        parse_duration(text)
    assert "invalid_argument" == caught.value.kind


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        pytest.param("1970-01-01T00:00:00Z", 0, id="the epoch"),
        pytest.param("1970-01-01T01:00:00+01:00", 0, id="an offset east"),
        pytest.param("1969-12-31T23:00:00-01:00", 0, id="an offset west"),
        pytest.param("1970-01-01t00:00:00.000000001z", 1, id="a nanosecond"),
        pytest.param("1969-12-31T23:59:59.9Z", -SECOND // 10, id="before the epoch"),
        pytest.param("0001-01-01T00:00:00Z", TIMESTAMP_MIN, id="the first"),
        pytest.param("9999-12-31T23:59:59.999999999Z", TIMESTAMP_MAX, id="the last"),
    ],
)
def test_a_timestamp_is_read(text: str, nanos: int) -> None:
    """RFC 3339 with up to nine decimals."""
    assert nanos == parse_timestamp(text).nanos


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("1970-01-01", "invalid_argument", id="a date alone"),
        pytest.param("1970-01-01T00:00:00", "invalid_argument", id="no zone"),
        pytest.param("1970-02-30T00:00:00Z", "invalid_argument", id="no such day"),
        pytest.param("1970-01-01T24:00:00Z", "invalid_argument", id="no such hour"),
        pytest.param("1970-01-01T00:00:00+24:00", "invalid_argument", id="no such offset"),
        pytest.param("1970-01-01T00:00:00.1234567890Z", "invalid_argument", id="ten decimals"),
        pytest.param("0001-01-01T00:00:00+01:00", "overflow", id="before the first"),
    ],
)
def test_what_is_no_timestamp(text: str, kind: str) -> None:
    """Dates that do not exist are errors."""
    with pytest.raises(cel.CelError) as caught:
        parse_timestamp(text)
    assert kind == caught.value.kind


@given(st.integers(TIMESTAMP_MIN, TIMESTAMP_MAX))
def test_a_written_timestamp_reads_back(nanos: int) -> None:
    """No nanosecond is lost in text."""
    assert nanos == parse_timestamp(format_timestamp(cel.Timestamp(nanos))).nanos


@given(st.integers(-DURATION_MAX, DURATION_MAX))
def test_a_written_duration_reads_back(nanos: int) -> None:
    """No nanosecond is lost in text."""
    assert nanos == parse_duration(format_duration(cel.Duration(nanos))).nanos


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "0s"), (-1_500_000_000, "-1.500s"), (1_000, "0.000001s"), (1, "0.000000001s"), (SECOND * 90, "90s")],
)
def test_fractions_have_three_six_or_nine_digits(nanos: int, text: str) -> None:
    """As protobuf's JSON form writes them."""
    assert text == format_duration(cel.Duration(nanos))


@pytest.mark.parametrize(
    ("accessor", "value"),
    [
        pytest.param("getFullYear()", 2024, id="year"),
        pytest.param("getMonth()", 1, id="months from 0"),
        pytest.param("getDate()", 29, id="days from 1"),
        pytest.param("getDayOfMonth()", 28, id="days from 0"),
        pytest.param("getDayOfWeek()", 4, id="Sunday is 0"),
        pytest.param("getDayOfYear()", 59, id="days of the year from 0"),
        pytest.param("getHours()", 23, id="hours"),
        pytest.param("getMinutes()", 59, id="minutes"),
        pytest.param("getSeconds()", 58, id="seconds"),
        pytest.param("getMilliseconds()", 123, id="milliseconds"),
        pytest.param("getHours('')", 23, id="no zone is UTC"),
        pytest.param("getHours('+05:30')", 5, id="hours east"),
        pytest.param("getMinutes('05:30')", 29, id="an offset without a sign"),
        pytest.param("getDate('-23:59')", 29, id="the day west"),
        pytest.param("getDate('Asia/Tokyo')", 1, id="a day in another month"),
        pytest.param("getHours('America/New_York')", 18, id="a named zone"),
    ],
)
def test_the_fields_of_an_instant(accessor: str, value: int) -> None:
    """Fields count as the language defines, in UTC or in a zone."""
    assert value == run(f"timestamp('2024-02-29T23:59:58.123456789Z').{accessor}")


@pytest.mark.parametrize(
    ("accessor", "value"),
    [("getHours()", -25), ("getMinutes()", -1530), ("getSeconds()", -91_801), ("getMilliseconds()", -234)],
)
def test_the_fields_of_a_span(accessor: str, value: int) -> None:
    """Hours, minutes and seconds are the whole span in that unit, milliseconds the rest of its second."""
    assert value == run(f"duration('-25h30m1.2345s').{accessor}")


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("timestamp(0).getHours('Mars/Base')", "invalid_argument", id="no such zone"),
        pytest.param("timestamp(0).getHours('America')", "invalid_argument", id="a folder of zones"),
        pytest.param("timestamp(0).getHours('../../etc/passwd')", "invalid_argument", id="a path"),
        pytest.param("timestamp(0).getHours('+99:00')", "invalid_argument", id="no such offset"),
        pytest.param("timestamp(0).getHours(1)", "no_such_overload", id="a number as zone"),
        pytest.param("timestamp('0001-01-01T00:00:00Z').getDate('-01:00')", "overflow", id="before the first year"),
        pytest.param("duration('1h').getHours('UTC')", "no_such_overload", id="a span has no zone"),
        pytest.param("duration('1h').getDate()", "no_such_overload", id="a span has no date"),
        pytest.param("'x'.getHours()", "no_such_overload", id="a text"),
    ],
)
def test_fields_that_are_not_there(expression: str, kind: str) -> None:
    """A zone that is none, or a value that has no such field, is an error."""
    assert kind == failure(expression)


def test_a_datetime_and_its_text_agree() -> None:
    """The caller's clock reading is the instant that text names."""
    moment = datetime.datetime(2026, 1, 5, 10, 0, tzinfo=datetime.UTC)

    assert run("now == timestamp('2026-01-05T10:00:00Z')", {"now": cel.Timestamp.from_datetime(moment)}) is True
