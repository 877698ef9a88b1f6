"""Owns the arithmetic of limits: when a budget's window begins and ends, and whether a hold fits under its cap.

In: times and integers. Out: windows and answers. Never: a clock, a store, a float.
"""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

ENDLESS = "all"
"""Key of a window that never ends."""
_FIXED_MS = {"minute": 60_000, "hour": 3_600_000}


class Window(enum.StrEnum):
    """How long a budget lasts before it starts anew. A conversation's budget lasts as long as the conversation."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    CONVERSATION = "conversation"
    NONE = "none"


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """One window: the key under which its counters are kept, and when it began and ends (both None: never)."""

    key: str
    start_ms: int | None = None
    end_ms: int | None = None


def zone_named(name: str) -> tzinfo:
    """Return an IANA time zone, read from the system or the package `tzdata`; raise ValueError if there is none."""
    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a known time zone: use an IANA name such as Europe/Madrid") from error


def period_at(window: Window, at_ms: int, zone: tzinfo = UTC) -> Period:
    """Return the window that holds at a time. Days, weeks (from Monday) and months follow the zone's calendar through
    its clock changes; minutes and hours are those of UTC and always equally long.

    Invariant: windows of one kind and zone have different keys, do not overlap and leave no time out.
    """
    if window in _FIXED_MS:
        start = at_ms - at_ms % _FIXED_MS[window]
        stamp = datetime.fromtimestamp(start // 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
        return Period(key=f"{window}:{stamp}", start_ms=start, end_ms=start + _FIXED_MS[window])
    if window in (Window.CONVERSATION, Window.NONE):
        return Period(key=ENDLESS)
    first, after = _calendar(window, datetime.fromtimestamp(at_ms // 1000, zone).date())
    if at_ms >= _midnight_ms(after, zone):
        # Clocks went back over midnight (Newfoundland did until 2011): the day that has begun goes on.
        first, after = _calendar(window, after)
    suffix = "" if zone is UTC else f"@{zone}"
    return Period(key=f"{window}:{first}{suffix}", start_ms=_midnight_ms(first, zone), end_ms=_midnight_ms(after, zone))


def window_key(window: Window, at_ms: int, zone: tzinfo = UTC) -> str:
    """Return the key of the window that holds at a time: `day:2026-11-24`, `month:2026-11-01@Europe/Madrid`, `all`."""
    return _key_in_second(window, at_ms // 1000, zone)


@lru_cache(maxsize=256)
def _key_in_second(window: Window, at_s: int, zone: tzinfo) -> str:
    # Every call asks; no window begins or ends within a second.
    return period_at(window, at_s * 1000, zone).key


def admits(cap: int, settled: int, reserved: int, amount: int) -> bool:
    """Say whether a hold fits: what is settled, held and asked for may reach the cap and never exceed it.
    A negative amount never fits: it would make room that nobody gave."""
    return amount >= 0 and settled + reserved + amount <= cap


def remaining(cap: int, settled: int, reserved: int) -> int:
    """Return the largest amount that would be admitted, 0 when the cap is reached."""
    return max(0, cap - settled - reserved)


def _calendar(window: Window, today: date) -> tuple[date, date]:
    if window is Window.DAY:
        return today, today + timedelta(days=1)
    if window is Window.WEEK:
        monday = today - timedelta(days=today.weekday())
        return monday, monday + timedelta(days=7)
    first = today.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def _midnight_ms(day: date, zone: tzinfo) -> int:
    """Return when a local day begins. Where clocks skip midnight, `fold=0` reads it by the offset before the change,
    which is the moment of the change: the first moment of that day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000
