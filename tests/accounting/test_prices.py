"""Proves that prices are those of genai-prices, that none is guessed, and that no table is altered unseen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_CEILING, localcontext
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices import types
from genai_prices.data import providers
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.accounting import Price, PriceTable, price_table
from proxy.accounting.prices import Book, Clause, Match, Model, Row, Vendor, digest_of, matches
from proxy.errors import ConfigError
from proxy.terms import Usage

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "proxy" / "accounting" / "data" / "prices.json"
TABLE = price_table()
NOW_MS = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp() * 1000)
COUNTED = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "input_audio_mtok", "output_audio_mtok"}
PRICED_AT_ZERO = ("openai", "moderation")


def names(clause: object) -> Iterator[str]:
    """Yield the texts of a match clause: real names of models, for the most part."""
    for value in vars(clause).values():
        yield from [value] if isinstance(value, str) else (name for one in value for name in names(one))


REFS = sorted({(p.id, name) for p in providers for model in p.models for name in {model.id, *names(model.match)}})

IDS = {model.id for p in providers for model in p.models}


def found_by_genai(provider: str, ref: str) -> types.ModelInfo | None:
    """Return the entry that genai-prices finds."""
    try:
        return get_snapshot().find_provider_model(ref, None, provider, None)[1]
    except LookupError:
        return None


def without_date(price_id: str) -> str:
    """Return the entry's id within a price's id, `vendor/entry@date`."""
    entry = price_id.partition("/")[2]
    return entry if entry in IDS else entry.rpartition("@")[0]


@pytest.mark.parametrize("provider", [pytest.param(p.id, id=p.id) for p in providers])
def test_every_known_name_finds_the_same_entry(provider: str) -> None:
    """All names in the data, and some with a compact date, find the entry that genai-prices finds, or nothing."""
    known = [name for owner, name in REFS if owner == provider]
    for ref in (*known, *(f"{name}-20251211" for name in known[::10])):
        price, expected = TABLE.find(provider, ref, NOW_MS), found_by_genai(provider, ref)
        if price is not None:
            assert expected is not None, ref
            assert expected.id == without_date(price.id), ref


@given(
    ref=st.sampled_from(REFS),
    day=st.integers(int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()), NOW_MS // 1000),
    mode=st.sampled_from(("", "batch", "priority", "flex", "fast")),
    tokens=st.tuples(*[st.integers(0, 400_000)] * 7),
)
@settings(max_examples=600)
def test_costs_equal_genai_prices_to_the_nano_dollar(
    ref: tuple[str, str], day: int, mode: str, tokens: tuple[int, ...]
) -> None:
    """For any model, time, service mode and usage our cost is that of genai-prices, rounded up once."""
    check_cost(*ref, day, mode, tokens)


def test_every_entry_costs_what_genai_prices_says() -> None:
    """The same for every single entry of the table, with every kind of token."""
    for provider, ref in REFS:
        check_cost(provider, ref, NOW_MS // 1000, "", (310_000, 2000, 300, 40, 5000, 600, 70))


def check_cost(provider: str, ref: str, at_s: int, mode: str, tokens: tuple[int, ...]) -> None:
    """Assert that both tables give the same cost for the tokens that the price covers, or that both give none."""
    price = TABLE.find(provider, ref, at_s * 1000, mode=mode)
    model = found_by_genai(provider, ref)
    if model is None:
        assert price is None
        return
    at = datetime.fromtimestamp(at_s, UTC)
    rates = {key for key, value in vars(model.get_prices(at)).items() if value is not None}
    plain, read, write, audio, text, reasoning, spoken = tokens
    if not rates & COUNTED:
        assert price is None or (provider, model.id) == PRICED_AT_ZERO
        return
    if "output_mtok" not in rates:
        text = reasoning = spoken = 0
    assert price is not None
    usage = Usage(
        input_tokens=plain + read + write + audio,
        cache_read_tokens=read,
        cache_write_tokens=write,
        audio_input_tokens=audio,
        output_tokens=text + reasoning + spoken,
        reasoning_tokens=reasoning,
        audio_output_tokens=spoken,
    )

    assert cost_by_genai(provider, ref, at, mode, usage) == price.cost(usage).nanousd, (provider, ref)


def cost_by_genai(provider: str, ref: str, at: datetime, mode: str, usage: Usage) -> int:
    """Return what genai-prices charges, in nano-dollars rounded up."""
    counts: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "input_audio_tokens": usage.audio_input_tokens,
        "cache_audio_read_tokens": 0,
        "output_tokens": usage.output_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "output_audio_tokens": usage.audio_output_tokens,
    }
    context = {"processing": "batch"} if mode == "batch" else {"service_tier": mode, "speed": mode} if mode else None
    with localcontext(prec=60):
        total = genai_prices.calc_price(
            genai_prices.Usage(**counts),
            ref,
            provider_id=provider,
            genai_request_timestamp=at,
            price_context=context,
        ).total_price
        return int((total * 10**9).to_integral_value(ROUND_CEILING))


def test_the_committed_table_is_what_the_import_gives() -> None:
    """`bench/import_prices.py` reproduces the file byte for byte from the version that it names."""
    done = subprocess.run(
        [sys.executable, "bench/import_prices.py", "--check"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.stderr.startswith("not compared"):
        pytest.skip(done.stderr)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        pytest.param("openai", "gpt-4o-2024-08-06", "openai/gpt-4o", id="dated-name"),
        pytest.param("openai", "GPT-4o", "openai/gpt-4o", id="any-case"),
        pytest.param("openai", "openai/gpt-4o", "openai/gpt-4o", id="own-prefix"),
        pytest.param("openai", "openai/gpt-5.2-20251211", "openai/gpt-5.2", id="own-prefix-and-compact-date"),
        pytest.param("openai", "gpt-4o-2031-01-01", None, id="date-nobody-knows"),
        pytest.param("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "openai/ft:gpt-4o-mini", id="fine-tune"),
        pytest.param("openai", "ft:gpt-4o-mini:org::id", None, id="fine-tune-without-its-own-price"),
        pytest.param("openai", "ft:gpt-9:org:moderation:id", None, id="fine-tune-named-like-a-free-model"),
        pytest.param("openai", "omni-moderation-latest", "openai/moderation", id="free"),
        pytest.param("openai", "whisper-1", None, id="priced-by-the-hour"),
        pytest.param("groq", "openai/gpt-4o", None, id="foreign-prefix"),
        pytest.param("nobody", "gpt-4o", None, id="unknown-provider"),
        pytest.param("openai", "gpt-4o" + "-x" * 200, None, id="overlong"),
        pytest.param("azure", "gpt-4o", "openai/gpt-4o", id="azure"),
        pytest.param("vertex", "gemini-2.5-pro", "google/gemini-2.5-pro", id="vertex"),
        pytest.param("gemini", "gemini-2.5-pro", "google/gemini-2.5-pro", id="gemini"),
        pytest.param("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "aws/", id="bedrock"),
    ],
)
def test_names_as_they_occur(provider: str, model: str, expected: str | None) -> None:
    """A name has the price of the entry that names it, and otherwise none: never a relative's."""
    price = TABLE.find(provider, model, NOW_MS)

    assert price is None if expected is None else price is not None and price.id.startswith(expected)


def test_resellers_charge_their_sources_standard_price() -> None:
    """Azure sells OpenAI's models at OpenAI's prices, but OpenAI's batch discount is not Azure's."""
    own = TABLE.find("openai", "gpt-6-sol", NOW_MS, mode="batch")
    resold = TABLE.find("azure", "gpt-6-sol", NOW_MS, mode="batch")

    assert own is not None
    assert resold is not None
    assert ("openai/gpt-6-sol#batch", "openai/gpt-6-sol") == (own.id, resold.id)


def table(*models: Model, **others: Vendor) -> PriceTable:
    """Build a table of one vendor `v`, which resells what the others sell."""
    vendors = {"v": Vendor(url=r"https://v\.example", models=models, fallback=tuple(others)), **others}
    return PriceTable(Book(digest=digest_of(vendors), source=TABLE.source, vendors=vendors))


def row(usd: str = "", since: str = "", daily: tuple[str, str] | None = None, **rates: str | dict[str, str]) -> Row:
    """Build a row with one input rate, or with the rates given."""
    return Row(since=since, daily=daily, rates={"input": usd} if usd else rates)


def usd_at(prices: PriceTable, at: str, mode: str = "") -> int | None:
    """Return the cost of a million input tokens of model `m` at a time, in whole dollars."""
    price = prices.find("v", "m", int(datetime.fromisoformat(at).timestamp() * 1000), mode=mode)
    cost = None if price is None else price.cost(Usage(input_tokens=10**6)).nanousd
    return None if cost is None else cost // 10**9


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        pytest.param("2024-01-01T00:00Z", 1, id="before-all"),
        pytest.param("2025-06-09T23:59:59.999Z", 1, id="last-moment-of-the-old"),
        pytest.param("2025-06-10T00:00Z", 2, id="first-moment-of-the-new"),
        pytest.param("2025-06-10T00:00+02:00", 1, id="dates-are-utc"),
        pytest.param("2026-01-01T12:00Z", 3, id="newest"),
    ],
)
def test_prices_change_at_their_dates(at: str, usd: int) -> None:
    """The newest row that has begun holds; before any has, the first."""
    rows = (row("1", since="2024-06-01"), row("2", since="2025-06-10"), row("3", since="2026-01-01"))

    assert usd == usd_at(table(Model(id="m", match="m", prices=rows)), at)


@pytest.mark.parametrize(
    ("daily", "hours"),
    [
        pytest.param(("01:00", "04:00"), {1, 2, 3}, id="within-a-day"),
        pytest.param(("22:00", "02:00"), {22, 23, 0, 1}, id="over-midnight"),
    ],
)
def test_prices_change_within_a_day(daily: tuple[str, str], hours: set[int]) -> None:
    """An off-peak row holds in its UTC interval, its end excluded."""
    prices = table(Model(id="m", match="m", prices=(row("2"), row("1", daily=daily))))

    assert hours == {hour for hour in range(24) if usd_at(prices, f"2026-11-24T{hour:02}:00Z") == 1}


def test_a_service_mode_lies_over_the_standard_price() -> None:
    """A mode changes the rates it names while it is valid, its first valid row first; the rest stay standard."""
    modes: dict[str, tuple[Row, ...]] = {
        "batch": (row("5", since="2026-06-01"), row("4", since="2026-01-01"), row(output="3", since="2026-01-01")),
    }
    prices = table(Model(id="m", match="m", prices=(row(input="8", output="9"),), modes=modes))

    price = prices.find("v", "m", NOW_MS, mode="batch")

    assert [
        8,
        4,
        5,
    ] == [usd_at(prices, at, "batch") for at in ("2025-01-01T00:00Z", "2026-02-01T00:00Z", "2026-07-01T00:00Z")]
    assert 8 == usd_at(prices, "2026-07-01T00:00Z", "priority")
    assert price is not None
    assert "v/m#batch" == price.id
    assert 3000 == price.cost(Usage(output_tokens=1)).nanousd


@pytest.mark.parametrize(
    ("match", "yes", "no"),
    [
        pytest.param("m-1", "m-1", "m-10", id="equals"),
        pytest.param("m-*", "m-10", "am-1", id="starts-with"),
        pytest.param("*-m", "x-m", "x-m1", id="ends-with"),
        pytest.param("*m*", "amz", "axz", id="contains"),
        pytest.param(["a", "b*"], "bc", "c", id="any"),
        pytest.param(Clause(regex=r"^m-\d+$"), "m-12", "m-1x", id="regex"),
        pytest.param(Clause(all=("a*", ["*b", "*c"])), "axc", "axd", id="all"),
        pytest.param("ft:m*", "ft:m:x", "m", id="fine-tune"),
        pytest.param(["*m*", "*m", Clause(regex="m$"), "ft:n"], "m", "ft:x:m", id="fine-tune-suffix-is-not-a-model"),
    ],
)
def test_matches(match: Match, yes: str, no: str) -> None:
    """Each kind of match is for what it says and for nothing else."""
    assert matches(match, yes)
    assert not matches(match, no)


def test_the_first_entry_that_matches_holds_even_without_a_price() -> None:
    """A model known without a price does not fall through to a looser entry or to a reseller's source."""
    other = Vendor(url="x", models=(Model(id="any", match="*", prices=(row("1"),)),))
    prices = table(Model(id="m", match="m", prices=()), Model(id="free", match="f", prices=(row(),)), o=other)

    assert prices.find("v", "m", NOW_MS) is None
    assert prices.find("v", "f", NOW_MS) is None
    assert prices.find("v", "x", NOW_MS) == prices.find("o", "x", NOW_MS) is not None


def test_overrides_come_first() -> None:
    """An override for an alias, then for a model at a provider, then for a model, then the table."""
    prices = table(Model(id="m", match="*", prices=(row("1"),))).with_overrides(
        {
            "fast": {"input_usd_per_mtok": 4},
            "v/M": {"input_usd_per_mtok": "3", "output_usd_per_mtok": 0.5, "request_usd": "0.01"},
            "m": {"input_usd_per_mtok": "2"},
        }
    )

    def paid(price: Price | None) -> tuple[str, int | None]:
        assert price is not None
        return price.id, price.cost(Usage(input_tokens=1000)).nanousd

    assert ("override/fast", 4_000_000) == paid(prices.find("v", "m", NOW_MS, alias="Fast"))
    assert ("override/v/m", 13_000_000) == paid(prices.find("v", "m", NOW_MS))
    assert ("override/m", 2_000_000) == paid(prices.find("w", "m", NOW_MS))
    assert ("v/m", 1_000_000) == paid(prices.find("v", "z", NOW_MS))


def test_overrides_report_every_problem() -> None:
    """A wrong override is refused with the place and what would be right, all of them at once."""
    with pytest.raises(ConfigError) as caught:
        TABLE.with_overrides(
            {
                "a": {"input_usd_per_mtok": "-1", "inputs": 1},
                "b": {"output_usd_per_mtok": True},
                "c": {},
                "d": {"input_usd_per_mtok": 1},
            }
        )

    where = [problem.partition(":")[0] for problem in caught.value.problems]
    assert ["prices.a.input_usd_per_mtok", "prices.a.inputs", "prices.b.output_usd_per_mtok", "prices.c"] == where
    assert "input_usd_per_mtok, " in caught.value.problems[1]


def test_the_digest_names_the_prices_in_force() -> None:
    """Records tell tables apart: the same overrides give the same digest, others another."""
    one, same, other = ({"m": {"input_usd_per_mtok": usd}} for usd in ("1", "1", "2"))

    assert TABLE.digest.startswith("sha256:")
    assert TABLE.digest == TABLE.with_overrides({}).digest
    assert TABLE.with_overrides(one).digest == TABLE.with_overrides(same).digest != TABLE.digest
    assert TABLE.with_overrides(other).digest != TABLE.with_overrides(one).digest


def test_overrides_add_up() -> None:
    """Overriding twice keeps the first overrides."""
    twice = TABLE.with_overrides({"a": {"input_usd_per_mtok": 1}}).with_overrides({"b": {"input_usd_per_mtok": 2}})

    assert [
        "override/a",
        "override/b",
        None,
    ] == [price and price.id for price in (twice.find("", name, NOW_MS) for name in "abc")]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        pytest.param(b'"input":"2.5"', b'"input":"0.5"', "digest", id="a-price-was-edited"),
        pytest.param(b'"prices":', b'"price":', "unknown field", id="another-shape"),
        pytest.param(b"claude-2", b"claude-\xff", "utf-8", id="not-utf-8"),
        pytest.param(b"]}\n}}\n", b"", "truncated", id="cut-off"),
    ],
)
def test_an_altered_table_is_refused(before: bytes, after: bytes, problem: str) -> None:
    """What was edited by hand does not load, and the error says how to set a price."""
    data = DATA.read_bytes()
    assert before in data

    with pytest.raises(ConfigError, match=f"(?i){problem}.*use an override"):
        PriceTable.from_json(data.replace(before, after))


@pytest.mark.parametrize(
    ("base_url", "vendor"),
    [
        pytest.param("https://api.openai.com/v1", "openai", id="openai"),
        pytest.param("https://api.groq.com/openai/v1", "groq", id="groq"),
        pytest.param("https://team.openai.azure.com/openai/v1", "azure", id="azure"),
        pytest.param("http://localhost:8000/v1", "", id="own-server"),
    ],
)
def test_a_base_url_names_its_vendor(base_url: str, vendor: str) -> None:
    """An OpenAI-compatible address is priced as the vendor that it belongs to, one's own server as nobody."""
    assert vendor == TABLE.vendor_of(base_url)
