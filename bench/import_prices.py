"""Owns how the price table `proxy/accounting/data/prices.json` is made from the package `genai-prices`.

    python bench/import_prices.py              write it, dated today
    python bench/import_prices.py --check      compare the committed file; exit 1 if it differs

One line of the file is one model, so that a new version of the package is a diff which a person can review. Rates that
our Usage does not count (hours, pages, characters, searches) are left out; a model that has no other price stays in the
table without one, so that it is found and not known rather than matched by a looser entry.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import msgspec
from genai_prices import types
from genai_prices.data import providers

from proxy.accounting.prices import Book, Clause, Match, Model, Row, Source, Vendor, digest_of

PACKAGE = "genai-prices"
TARGET = Path(__file__).resolve().parent.parent / "proxy" / "accounting" / "data" / "prices.json"
RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "audio_cache_read",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "cache_image_read_mtok": "image_cache_read",
    "input_video_mtok": "video_input",
    "output_video_mtok": "video_output",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "citation",
    "requests_kcount": "request",
}
NOT_COUNTED = frozenset(
    {
        "audio_hours",
        "input_audio_hours",
        "input_annotated_document_kpages",
        "input_document_kpages",
        "input_mchars",
        "input_text_messages_kcount",
        "storage_searches_kcount",
        "web_searches_kcount",
    }
)
MODES = frozenset({"processing", "service_tier", "speed"})
"""Request contexts that a caller can set on any call; others (search type, route) are not taken over."""
FREE = {("openai", "moderation")}
"""Entries without rates that are known to cost nothing (OpenAI: "The moderation endpoint is free to use")."""


def render(book: Book) -> bytes:
    """Return the file: JSON with one model per line."""
    lines = ["{", f'"digest": {_json(book.digest)},', f'"source": {_json(book.source)},', '"vendors": {']
    for index, (name, vendor) in enumerate(book.vendors.items()):
        head = f'{_json(name)}: {{"url": {_json(vendor.url)}, "fallback": {_json(vendor.fallback)}, "models": ['
        lines.append(head)
        lines += [
            f"{_json(model)}{',' if last < len(vendor.models) else ''}" for last, model in enumerate(vendor.models, 1)
        ]
        lines.append("]}" if index == len(book.vendors) - 1 else "]},")
    return "\n".join([*lines, "}}"]).encode() + b"\n"


def build(imported: str) -> Book:
    """Return the table of the installed package."""
    vendors = {provider.id: _vendor(provider) for provider in sorted(providers, key=lambda one: one.id)}
    source = Source(package=PACKAGE, version=version(PACKAGE), imported=imported)
    return Book(digest=digest_of(vendors), source=source, vendors=vendors)


def main() -> None:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description="Import the price table.")
    parser.add_argument("--check", action="store_true", help="only compare the committed file")
    if not parser.parse_args().check:
        today = datetime.now(UTC).date()  # noqa: TID251 - a development command has no Clock
        book = build(today.isoformat())
        TARGET.write_bytes(render(book))
        sys.stdout.write(f"{TARGET.name}: {PACKAGE} {book.source.version}, {book.digest}\n")
        return
    committed = msgspec.json.decode(TARGET.read_bytes(), type=Book)
    if committed.source.version != version(PACKAGE):
        sys.exit(f"not compared: made from {PACKAGE} {committed.source.version}, installed is {version(PACKAGE)}")
    if render(build(committed.source.imported)) != TARGET.read_bytes():
        sys.exit(f"{TARGET.name} is not what {PACKAGE} {committed.source.version} gives: run this without --check")
    sys.stdout.write(f"{TARGET.name}: as {PACKAGE} {committed.source.version} gives it\n")


def _vendor(provider: types.Provider) -> Vendor:
    return Vendor(
        url=provider.api_pattern,
        models=tuple(_model(provider.id, model) for model in provider.models),
        fallback=tuple(provider.fallback_model_providers or ()),
    )


def _model(provider: str, model: types.ModelInfo) -> Model:
    rows = (
        [_row(model.prices, None)]
        if isinstance(model.prices, types.ModelPrice)
        else [_row(one.prices, one.constraint) for one in model.prices]
    )
    if (provider, model.id) in FREE:
        rows = [Row(rates={"input": "0", "output": "0"})]
    return Model(id=model.id, match=_match(model.match), prices=tuple(rows), modes=_modes(model.price_variants or ()))


def _modes(variants: Iterable[types.PriceVariant]) -> dict[str, tuple[Row, ...]]:
    modes: dict[str, tuple[Row, ...]] = {}
    for variant in variants:
        row = _row(variant.prices, variant.constraint)
        if row.rates and len(variant.when) == 1 and MODES & variant.when.keys():
            (mode,) = variant.when.values()
            modes[mode] = (*modes.get(mode, ()), row)
    return modes


def _row(prices: types.ModelPrice, constraint: object) -> Row:
    written = {key: value for key, value in vars(prices).items() if value is not None and key not in NOT_COUNTED}
    rates = {RATES[key]: _rate(value, key) for key, value in sorted(written.items())}
    if isinstance(constraint, types.StartDateConstraint):
        return Row(since=constraint.start_date.isoformat(), rates=rates)
    if isinstance(constraint, types.TimeOfDateConstraint):
        return Row(daily=(_clock(constraint.start_time), _clock(constraint.end_time)), rates=rates)
    return Row(rates=rates)


def _rate(value: Decimal | types.TieredPrices, key: str) -> str | dict[str, str]:
    if isinstance(value, types.TieredPrices):
        return {"0": _decimal(value.base), **{str(tier.start): _decimal(tier.price) for tier in value.tiers}}
    return _decimal(value / 1000 if key == "requests_kcount" else value)


def _decimal(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _clock(value: time) -> str:
    if value.utcoffset():
        sys.exit(f"{PACKAGE} has a time of day that is not UTC: {value!r}")
    return value.replace(tzinfo=None).isoformat("minutes")


def _match(clause: object) -> Match:
    match clause:
        case types.ClauseEquals(equals=text):
            return _pattern("", text, "")
        case types.ClauseStartsWith(starts_with=text):
            return _pattern("", text, "*")
        case types.ClauseEndsWith(ends_with=text):
            return _pattern("*", text, "")
        case types.ClauseContains(contains=text):
            return _pattern("*", text, "*")
        case types.ClauseRegex(regex=text):
            return Clause(regex=text)
        case types.ClauseOr(or_=clauses):
            return list(chain.from_iterable(one if isinstance(one, list) else [one] for one in map(_match, clauses)))
        case types.ClauseAnd(and_=clauses):
            return Clause(all=tuple(_match(one) for one in clauses))
    sys.exit(f"{PACKAGE} has a clause this command does not know: {clause!r}")


def _pattern(before: str, text: str, after: str) -> str:
    if "*" in text:
        sys.exit(f"a name with a star cannot be written as a pattern: {text!r}")
    return before + text.lower() + after


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    main()
