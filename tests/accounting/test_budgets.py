"""Proves that windows tile time in every zone and that no interleaving of holds exceeds a cap."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.accounting import ENDLESS, Period, Window, admits, period_at, remaining, window_key, zone_named

CALENDAR = (Window.MINUTE, Window.HOUR, Window.DAY, Window.WEEK, Window.MONTH)
ZONES = ("UTC", "Europe/Madrid", "America/St_Johns", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia", "America/Havana")
HOUR_MS = 3_600_000


def ms(text: str) -> int:
    """Read an ISO time as epoch milliseconds."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "zone", "key", "start", "end"),
    [
        pytest.param(
            "minute", "UTC", "minute:2026-11-24T23:45Z", "2026-11-24T23:45Z", "2026-11-24T23:46Z", id="minute"
        ),
        pytest.param("hour", "UTC", "hour:2026-11-24T23:00Z", "2026-11-24T23:00Z", "2026-11-25T00:00Z", id="hour"),
        pytest.param("day", "UTC", "day:2026-11-24", "2026-11-24T00:00Z", "2026-11-25T00:00Z", id="day"),
        pytest.param(
            "day",
            "Europe/Madrid",
            "day:2026-11-25@Europe/Madrid",
            "2026-11-25T00:00+01:00",
            "2026-11-26T00:00+01:00",
            id="local-day",
        ),
        pytest.param("week", "UTC", "week:2026-11-23", "2026-11-23T00:00Z", "2026-11-30T00:00Z", id="week"),
        pytest.param("month", "UTC", "month:2026-11-01", "2026-11-01T00:00Z", "2026-12-01T00:00Z", id="month"),
        pytest.param(
            "month",
            "America/New_York",
            "month:2026-11-01@America/New_York",
            "2026-11-01T00:00-04:00",
            "2026-12-01T00:00-05:00",
            id="month-across-clock-change",
        ),
    ],
)
def test_windows_have_a_key_a_start_and_an_end(window: str, zone: str, key: str, start: str, end: str) -> None:
    """Keys are readable; calendar windows follow the local calendar, others UTC."""
    at_ms = ms("2026-11-24T23:45:59.999Z")

    period = period_at(Window(window), at_ms, zone_named(zone))

    assert Period(key=key, start_ms=ms(start), end_ms=ms(end)) == period
    assert key == window_key(Window(window), at_ms, zone_named(zone))


@pytest.mark.parametrize("window", [Window.CONVERSATION, Window.NONE])
def test_some_windows_never_end(window: Window) -> None:
    """A conversation's budget and a budget without window have one key for ever."""
    assert Period(key=ENDLESS) == period_at(window, 0)


@given(
    window=st.sampled_from(CALENDAR),
    zone=st.sampled_from(ZONES),
    at_ms=st.integers(min_value=ms("1990-01-01T00:00Z"), max_value=ms("2040-01-01T00:00Z")),
)
def test_windows_tile_time(window: Window, zone: str, at_ms: int) -> None:
    """Every moment is in exactly one window, and the next one begins when it ends."""
    check_tile(window, zone, at_ms)


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        pytest.param("America/St_Johns", "2010-11-07T00:01:00-02:30", id="back-over-midnight"),
        pytest.param("Africa/Cairo", "2026-04-24T01:00:00+03:00", id="midnight-is-skipped"),
        pytest.param("America/Havana", "2026-11-01T01:00:00-04:00", id="midnight-comes-twice"),
        pytest.param("Pacific/Apia", "2011-12-31T00:00:00+14:00", id="a-day-is-skipped"),
        pytest.param("Europe/Madrid", "2026-10-25T03:00:00+02:00", id="hour-comes-twice"),
    ],
)
def test_windows_tile_clock_changes(zone: str, around: str) -> None:
    """Clock changes at midnight neither lose time nor count it twice."""
    for minutes in range(-36 * 60, 36 * 60, 15):
        check_tile(Window.DAY, zone, ms(around) + minutes * 60_000)


def check_tile(window: Window, zone: str, at_ms: int) -> None:
    """Assert that the window at a time contains it, agrees with its own edges and touches the next."""
    tz = zone_named(zone)
    period = period_at(window, at_ms, tz)
    assert period.start_ms is not None
    assert period.end_ms is not None
    after = period_at(window, period.end_ms, tz)

    assert period.start_ms <= at_ms < period.end_ms
    assert period_at(window, period.start_ms, tz) == period == period_at(window, period.end_ms - 1, tz)
    assert period.end_ms == after.start_ms
    assert after.key != period.key


def test_days_with_a_clock_change_have_23_or_25_hours() -> None:
    """A daily budget lasts the whole local day."""
    madrid = zone_named("Europe/Madrid")

    def length(day: str) -> int:
        period = period_at(Window.DAY, ms(day), madrid)
        return (period.end_ms or 0) - (period.start_ms or 0)

    assert 23 * HOUR_MS == length("2026-03-29T12:00Z")
    assert 25 * HOUR_MS == length("2026-10-25T12:00Z")


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../etc/passwd", "Europe", "a\x00b"])
def test_unknown_zones_are_refused(name: str) -> None:
    """A misspelt zone is an error at load, with an example of a right one."""
    with pytest.raises(ValueError, match="Europe/Madrid"):
        zone_named(name)


def test_known_zones_are_found() -> None:
    """UTC needs no zone database."""
    assert zone_named("utc") is UTC
    assert ZoneInfo("Europe/Madrid") == zone_named("Europe/Madrid")


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        pytest.param(30, True, id="reaches-the-cap"),
        pytest.param(31, False, id="exceeds-the-cap"),
        pytest.param(0, True, id="nothing"),
        pytest.param(-1, False, id="negative"),
    ],
)
def test_a_hold_may_reach_the_cap(amount: int, expected: bool) -> None:
    """The cap itself may be spent, one nano-dollar more may not, and nothing makes room by being negative."""
    assert admits(100, 50, 20, amount) is expected


def test_nothing_fits_over_a_cap_that_is_already_exceeded() -> None:
    """A cap that was lowered below what is spent admits nothing, not even a hold of zero."""
    assert not admits(100, 101, 0, 0)
    assert 0 == remaining(100, 101, 0)


@given(cap=st.integers(0, 10**12), settled=st.integers(0, 10**12), reserved=st.integers(0, 10**12))
def test_remaining_is_the_largest_hold_that_fits(cap: int, settled: int, reserved: int) -> None:
    """What remains is admitted and one more is not."""
    left = remaining(cap, settled, reserved)

    assert (settled + reserved <= cap) is admits(cap, settled, reserved, left)
    assert not admits(cap, settled, reserved, left + 1)


class Ledger(RuleBasedStateMachine):
    """A budget on which any number of calls hold, settle at no more than their hold, or give up, in any order."""

    cap = 1000

    def __init__(self) -> None:
        super().__init__()
        self.settled = 0
        self.holds: list[int] = []

    @rule(amount=st.integers(-10, 1500))
    def reserve(self, amount: int) -> None:
        """Hold an amount if it is admitted."""
        if admits(self.cap, self.settled, sum(self.holds), amount):
            self.holds.append(amount)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """End one hold at what was used, which its bound covers."""
        hold = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
        self.settled += data.draw(st.integers(0, hold))

    @invariant()
    def never_exceeds(self) -> None:
        """RELIABILITY I1: settled and held together never exceed the cap."""
        assert self.settled + sum(self.holds) <= self.cap
        assert all(hold >= 0 for hold in self.holds)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=50, stateful_step_count=30)
