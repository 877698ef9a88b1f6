"""Owns durations and timestamps as text, and the fields of an instant or a span.

In: text, or a Timestamp or Duration with an optional zone. Out: values to the nanosecond. Never: the current time.
"""

import datetime
import re
import zoneinfo
from collections.abc import Callable
from typing import Any

from .errors import Budget, CelError, no_overload
from .functions import Function
from .values import DURATION_MAX, NANOS, Duration, Timestamp, duration, kind_of, timestamp

_UNITS = {"h": 3600 * NANOS, "m": 60 * NANOS, "s": NANOS, "ms": 1_000_000, "us": 1000, "µs": 1000, "μs": 1000, "ns": 1}
_PART = r"(?:[0-9]{1,19}(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"[+-]?(?:0|(?:{_PART})+)")
_PARTS = re.compile(r"([0-9]*)(?:\.([0-9]*))?([a-zµμ]+)")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:[.,](\d{1,9}))?(?:[Zz]|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_OFFSET = re.compile(r"([+-]?)(\d{1,2}):(\d{2})", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,40}(?:/[A-Za-z0-9_+\-]{1,40}){0,2}")


def parse_duration(text: str) -> Duration:
    """Read Go's duration syntax: "1h30m", "-1.5s", "0"."""
    if len(text) > 200 or not _DURATION.fullmatch(text):
        raise CelError("invalid_argument", "cannot read this as a duration, such as '1h30m' or '2.5s'", text)
    nanos = sum(_part(*match.groups("")) for match in _PARTS.finditer(text))
    return duration(-nanos if text[0] == "-" else nanos)


def _part(whole: str, fraction: str, unit: str) -> int:
    scale = _UNITS[unit]
    decimals: int = int(fraction or "0") * scale // 10 ** len(fraction)
    return int(whole or "0") * scale + decimals


def format_duration(value: Duration) -> str:
    """Write a duration in seconds."""
    seconds, nanos = divmod(abs(value.nanos), NANOS)
    return f"{'-' if value.nanos < 0 else ''}{seconds}{_fraction(nanos)}s"


def _fraction(nanos: int) -> str:
    """Write a fraction of a second with 0, 3, 6 or 9 digits, as protobuf's JSON form does."""
    digits = f"{nanos:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}" if digits else ""


def parse_timestamp(text: str) -> Timestamp:
    """Read RFC 3339 with up to nine decimals."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise CelError("invalid_argument", "cannot read this as an RFC 3339 timestamp", text)
    fraction, sign, hours, minutes = match.group(7, 8, 9, 10)
    try:
        year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
        local = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
        offset = _offset(sign, hours, minutes) if sign else datetime.timedelta()
    except ValueError as error:
        raise CelError("invalid_argument", f"this is not a date and time ({error})", text) from None
    nanos = Timestamp.from_datetime(local).nanos + int((fraction or "").ljust(9, "0"))
    return timestamp(nanos - int(offset.total_seconds()) * NANOS)


def format_timestamp(value: Timestamp) -> str:
    """Write RFC 3339 in UTC."""
    seconds = value.moment().replace(microsecond=0, tzinfo=None)
    return f"{seconds.isoformat()}{_fraction(value.nanos % NANOS)}Z"


def _offset(sign: str, hours: str, minutes: str) -> datetime.timedelta:
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError("the offset is out of range")
    span = datetime.timedelta(hours=int(hours), minutes=int(minutes))
    return -span if sign == "-" else span


def zone(name: object) -> datetime.tzinfo:
    """Find a zone by its IANA name or as an offset such as "+05:30"; no name is UTC."""
    if not isinstance(name, str):
        raise no_overload("a time zone", kind_of(name))
    if not name:
        return datetime.UTC
    try:
        offset = _OFFSET.fullmatch(name)
        if offset:
            return datetime.timezone(_offset(*offset.groups()))
        if _ZONE.fullmatch(name):
            return zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        pass
    raise CelError("invalid_argument", "unknown time zone", name)


_Reader = Callable[[datetime.datetime], int]
_MOMENT: dict[str, _Reader] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
}
# Fields that a duration has too: how to read them from a moment, and the nanoseconds in one of them.
_SHARED: dict[str, tuple[_Reader, int]] = {
    "getHours": (lambda moment: moment.hour, 3600 * NANOS),
    "getMinutes": (lambda moment: moment.minute, 60 * NANOS),
    "getSeconds": (lambda moment: moment.second, NANOS),
    "getMilliseconds": (lambda moment: moment.microsecond // 1000, 1_000_000),
}


def _accessor(name: str, read: _Reader, unit: int = 0) -> Function:
    def get(_: Budget, value: Any, *where: object) -> int:
        kind = kind_of(value)
        if kind == "timestamp":
            return read(_local(value, zone(*where) if where else datetime.UTC))
        if kind != "duration" or not unit or where:
            raise no_overload(name, kind)
        whole: int = abs(value.nanos) // unit % (1000 if unit < NANOS else DURATION_MAX)
        return -whole if value.nanos < 0 else whole

    return Function(call=get, least=1, most=2, metered=True, method=True, plain=False, kind="int")


def _local(value: Timestamp, where: datetime.tzinfo) -> datetime.datetime:
    try:
        return value.moment(where)
    except (OverflowError, ValueError):
        raise CelError("overflow", "the local time is outside the years 1 to 9999") from None


FUNCTIONS = {name: _accessor(name, read) for name, read in _MOMENT.items()} | {
    name: _accessor(name, read, unit) for name, (read, unit) in _SHARED.items()
}
