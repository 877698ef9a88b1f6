"""Owns the price table: which price a model has at a provider at a time.

In: the bytes of `data/prices.json` and the overrides of config. Out: a Price, or None where none is known.
Never: a guess: a model that no entry names has no price, and no price is never zero.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from functools import lru_cache
from typing import TypeAlias

import msgspec

from proxy.accounting.rates import RATES, REQUEST_RATE, Price, parse_rate
from proxy.errors import ConfigError

_DAY_MS = 86_400_000
_LONGEST_NAME = 256
_ALIASES = {"bedrock": "aws", "gemini": "google", "vertex": "google"}
"""Our providers that sell under another name in the table."""
_COMPACT_DATE = re.compile(r"-(20[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(?=-|:|$)")
_TOKEN_SUFFIX = "_usd_per_mtok"  # noqa: S105 - a unit, not a secret
_OVERRIDES = {f"{name}{_TOKEN_SUFFIX}": name for name in RATES - {REQUEST_RATE}} | {f"{REQUEST_RATE}_usd": REQUEST_RATE}


class Clause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A match that a text pattern cannot say: a regular expression, or several matches at once."""

    regex: str = ""
    all: tuple[Match, ...] = ()


Match: TypeAlias = str | Clause | list[str | Clause]
"""Which names an entry is for: `name`, `name*`, `*name`, `*name*` in lower case, a Clause, or any of a list."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rates in dollars per million tokens (`request`: per request) as decimal text, or by input threshold;
    valid from the start of a UTC date, and within a daily UTC interval if there is one."""

    since: str = ""
    daily: tuple[str, str] | None = None
    rates: dict[str, str | dict[str, str]] = {}


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entry. Of its rows the last that is valid holds, the first if none is; rates of a service mode
    (`batch`, `priority`, …) lie over those, the first valid row of the mode first."""

    id: str
    match: Match
    prices: tuple[Row, ...]
    modes: dict[str, tuple[Row, ...]] = {}


class Vendor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A provider's entries in the order in which they are tried, then those of the vendors whose models it resells."""

    url: str
    models: tuple[Model, ...]
    fallback: tuple[str, ...] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the table comes from."""

    package: str
    version: str
    imported: str


class Book(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file `data/prices.json`."""

    digest: str
    source: Source
    vendors: dict[str, Vendor]


class PriceTable:
    """All known prices: the shipped table under the overrides of config."""

    def __init__(self, book: Book, overrides: Mapping[str, Model] | None = None) -> None:
        self._book = book
        self._overrides = overrides or {}
        self.source = book.source
        self.digest = digest_of([book.digest, self._overrides]) if self._overrides else book.digest
        self._entry = lru_cache(maxsize=4096)(self._find_entry)

    @classmethod
    def from_json(cls, data: bytes) -> PriceTable:
        """Read a table; raise ConfigError when it is not what its own digest says."""
        try:
            book = msgspec.json.decode(data, type=Book)
            problem = "" if digest_of(book.vendors) == book.digest else "its content does not have the digest it states"
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            problem = str(error)
        if problem:
            raise ConfigError(
                [
                    f"price table: {problem}; reinstall handrail, or run `python bench/import_prices.py` in a checkout "
                    "(to change a price, use an override in config)"
                ]
            )
        return cls(book)

    def with_overrides(self, overrides: Mapping[str, Mapping[str, object]]) -> PriceTable:
        """Return a table in which these prices come first, by alias, `provider/model` or model; raise ConfigError
        naming every field that is unknown or not a plain decimal."""
        problems: list[str] = []
        models = {name.lower(): _override(name.lower(), fields, problems) for name, fields in overrides.items()}
        if problems:
            raise ConfigError(problems)
        return PriceTable(self._book, {**self._overrides, **models})

    def find(self, provider: str, model: str, at_ms: int, *, mode: str = "", alias: str = "") -> Price | None:
        """Return the price of a model at a time, in a service mode if it has rates of its own; None if not known."""
        entry = self._entry(provider, model, alias)
        return entry.price(at_ms, mode) if entry is not None else None

    def vendor_of(self, base_url: str) -> str:
        """Return the vendor that sells at a base URL, to be used as `provider`; empty when it is nobody we know."""
        return next((name for name, vendor in self._book.vendors.items() if re.match(vendor.url, base_url)), "")

    def _find_entry(self, provider: str, model: str, alias: str) -> _Entry | None:
        vendor, name = provider.lower(), model.lower()
        for key in (alias.lower(), f"{vendor}/{name}", name):
            if key in self._overrides:
                return _Entry("override", self._overrides[key])
        vendor = _ALIASES.get(vendor, vendor)
        if vendor not in self._book.vendors or len(name) > _LONGEST_NAME:
            return None
        return next(filter(None, (self._search(vendor, spelling) for spelling in _spellings(vendor, name))), None)

    def _search(self, vendor: str, name: str) -> _Entry | None:
        own = self._book.vendors[vendor]
        for model in own.models:
            if matches(model.match, name):
                return _Entry(vendor, model)
        for other in own.fallback:
            for model in self._book.vendors[other].models:
                if matches(model.match, name):
                    # What a reseller charges in another mode is its own affair.
                    return _Entry(other, msgspec.structs.replace(model, modes={}))
        return None


class _Entry:
    """One model's rows, compiled to a Price when a time first asks for them."""

    def __init__(self, vendor: str, model: Model) -> None:
        self._vendor = vendor
        self._model = model
        self._rows = [_Validity(row) for row in model.prices]
        self._modes = {mode: [_Validity(row) for row in rows] for mode, rows in model.modes.items()}
        self._prices: dict[tuple[int, str, tuple[int, ...]], Price | None] = {}

    def price(self, at_ms: int, mode: str) -> Price | None:
        row = len(self._rows) - 1
        while row > 0 and not self._rows[row].holds(at_ms):
            row -= 1
        rules = self._modes.get(mode, ())
        over = tuple(index for index, rule in enumerate(rules) if rule.holds(at_ms)) if rules else ()
        key = (row, mode if over else "", over)
        if key not in self._prices:
            self._prices[key] = self._compile(*key)
        return self._prices[key]

    def _compile(self, row: int, mode: str, over: tuple[int, ...]) -> Price | None:
        standard = self._model.prices[row] if self._model.prices else Row()
        if not standard.rates:
            return None
        written = dict(standard.rates)
        for index in reversed(over):
            written.update(self._model.modes[mode][index].rates)
        since = standard.since or "-".join(standard.daily or ())
        return Price(
            id=f"{self._vendor}/{self._model.id}{since and '@' + since}{mode and '#' + mode}",
            rates={name: parse_rate(usd, per=1 if name == REQUEST_RATE else 10**6) for name, usd in written.items()},
        )


class _Validity:
    """When a row holds, in numbers."""

    def __init__(self, row: Row) -> None:
        self._since_ms = _epoch_ms(row.since) if row.since else 0
        self._daily = (_day_ms(row.daily[0]), _day_ms(row.daily[1])) if row.daily else None

    def holds(self, at_ms: int) -> bool:
        if at_ms < self._since_ms or self._daily is None:
            return at_ms >= self._since_ms
        (start, end), now = self._daily, at_ms % _DAY_MS
        return start <= now < end if start <= end else now >= start or now < end


def matches(match: Match, name: str) -> bool:
    """Say whether a match is for a lower-cased model name. A fine-tune (`ft:…`, whose suffix its owner chose) is
    matched only by a pattern that fixes its beginning, so a word in the suffix cannot give it another price."""
    if isinstance(match, list):
        return any(matches(one, name) for one in match)
    if isinstance(match, Clause):
        if match.regex:
            return not name.startswith("ft:") and re.search(match.regex, name) is not None
        return all(matches(one, name) for one in match.all)
    if match.startswith("*"):
        word = match.strip("*")
        found = word in name if match.endswith("*") else name.endswith(word)
        return found and not name.startswith("ft:")
    return name.startswith(match[:-1]) if match.endswith("*") else name == match


def digest_of(content: object) -> str:
    """Return the digest of a table's content, whatever its layout."""
    return "sha256:" + hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def _spellings(vendor: str, name: str) -> Iterator[str]:
    """Yield a name as it is, with a compact date spelled out, and without the vendor's own prefix."""
    bare = name.removeprefix(vendor + "/")
    for one in dict.fromkeys((name, bare)):
        yield from dict.fromkeys((one, _COMPACT_DATE.sub(r"-\1-\2-\3", one)))


def _override(name: str, fields: Mapping[str, object], problems: list[str]) -> Model:
    rates: dict[str, str | dict[str, str]] = {}
    for field, value in fields.items():
        known = _OVERRIDES.get(field)
        try:
            if known is None:
                raise ValueError(f"unknown field; known are {', '.join(sorted(_OVERRIDES))}")
            rates[known] = str(value)
            parse_rate(rates[known])
        except ValueError as error:
            problems.append(f"prices.{name}.{field}: {error}")
    if not fields:
        problems.append(f"prices.{name}: no rates; give at least input{_TOKEN_SUFFIX}")
    return Model(id=name, match=name, prices=(Row(rates=rates),))


def _epoch_ms(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * 1000


def _day_ms(clock: str) -> int:
    at = time.fromisoformat(clock)
    return (at.hour * 3600 + at.minute * 60 + at.second) * 1000
