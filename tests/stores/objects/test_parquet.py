"""Owns the proof that objects say all of a row to anybody, and that footers tell what is not in them."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.stores.objects import parquet
from proxy.terms import Cost, Row, Selection, Table
from tests.stores.objects.buckets import NOW_MS, of, row
from tests.stores.samples import exchange

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.builds(
    Row,
    table=st.just(Table.EXCHANGES),
    id=TEXTS,
    version=st.integers(-(2**63), 2**63 - 1),
    at_ms=st.integers(0, 2**45),
    session_id=TEXTS,
    customer=TEXTS,
    body=TEXTS.map(str.encode),
)


def columns(*rows: Row) -> dict[str, list[object]]:
    """Read an object as another program would."""
    read: dict[str, list[object]] = pq.read_table(pa.BufferReader(parquet.encode(rows))).to_pydict()
    return read


@given(st.lists(ROWS, min_size=1, max_size=5))
def test_rows_come_back_as_they_were(rows: list[Row]) -> None:
    """Every field of a row survives, exactly."""
    assert rows == parquet.rows_of(parquet.encode(rows), Table.EXCHANGES)


@given(st.lists(ROWS, min_size=1, max_size=5), st.frozensets(TEXTS, max_size=2), st.frozensets(TEXTS, max_size=2))
def test_a_footer_never_hides_a_row(rows: list[Row], sessions: frozenset[str], customers: frozenset[str]) -> None:
    """Of an object with a row that is selected the footer says so; and no other row is selected."""
    which = Selection(sessions=sessions - {""}, customers=customers - {""})
    data = parquet.encode(rows)
    selected = [one for one in rows if one.session_id in which.sessions or one.customer in which.customers]

    assert selected == parquet.rows_of(data, Table.EXCHANGES, which)
    assert parquet.may_have(data, parquet.wanted(which)) or not selected


def test_a_footer_tells_what_is_not_there() -> None:
    """A conversation and a customer of one name are two, and only those in the object are in its footer."""
    footer = parquet.encode([row(1, "talk-1", "whom")])

    assert [True, False, True, False] == [
        parquet.may_have(footer, parquet.wanted(which))
        for which in (of("talk-1"), of("whom"), Selection(customers=frozenset(["whom"])), of("talk-2"))
    ]


def test_a_footer_is_read_by_itself() -> None:
    """What `footer_bytes` says is enough to look into the index."""
    data = parquet.encode([row(number, f"talk-{number}", body=b'"%d"' % number * 999) for number in range(500)])
    footer = data[-parquet.footer_bytes(data[-100:]) :]

    assert len(footer) < len(data) / 2
    assert [True, False] == [parquet.may_have(footer, parquet.wanted(of(name))) for name in ("talk-7", "talk-501")]


def test_an_exchange_has_what_is_asked_most() -> None:
    """Agent, model, state, status and cost are columns, and the time is one."""
    record = replace(exchange("ex_1"), status=200, model_served="m-1", cost=Cost(nanousd=12))
    found = columns(row(1, body=msgspec.json.encode(record)))

    assert {"agent": ["a"], "model": ["m-1"], "state": ["complete"], "status": [200], "cost_nanousd": [12]} == {
        name: found[name] for name in ("agent", "model", "state", "status", "cost_nanousd")
    }
    assert f"{found['at'][0]:%Y-%m-%d %H:%M:%S.%f %Z}" == "2026-01-01 00:00:00.001000 UTC"
    assert msgspec.json.encode(record).decode() == found["body"][0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"model_asked": "m", "cost": {"nanousd": null}}', [None, "m", None, None, None], id="not known"),
        pytest.param(b'{"status": "text"}', [None] * 5, id="another form"),
        pytest.param(b"sealed:1:key:text", [None] * 5, id="sealed"),
    ],
)
def test_what_is_not_known_is_null(body: bytes, expected: list[object]) -> None:
    """A cost that is not known is never 0, and a body that says nothing keeps no batch from being written."""
    found = columns(row(1, body=body))

    assert [expected] == [[found[name][0] for name in ("agent", "model", "state", "status", "cost_nanousd")]]
    assert [body.decode()] == found["body"]


def test_other_tables_have_a_rows_own_columns() -> None:
    """What is asked of exchanges is no column of others."""
    assert ["id", "version", "at", "session_id", "customer", "body"] == list(columns(row(1, table=Table.FACTS)))


def test_a_footer_has_nothing_of_a_body() -> None:
    """Who reads footers reads nothing of what was said: no least and no greatest value of bodies stands there."""
    data = parquet.encode([row(number, body=b'{"said": "the quick brown fox"}') for number in range(9)])

    assert b"brown fox" not in data[-parquet.footer_bytes(data) :]


def test_places_are_counted_in_cells_and_in_bytes() -> None:
    """A text is counted where a cell has any of its forms."""
    data = parquet.encode([row(1, "talk-of-many-1"), row(2, "talk-of-many-1", body=b'{"of": "talk-of-many-1"}')])

    assert [3, 2, 3, 0] == [
        parquet.places(data, forms)
        for forms in ([b"talk-of-many-1"], [b'"status": 200', b'ex_1"', b'of": "'], [b"ex_2", b"ex_1"], [b"nowhere"])
    ]


def test_a_damaged_object_is_an_error() -> None:
    """What cannot be read is never an object without rows."""
    data = parquet.encode([row(1)])

    with pytest.raises((pa.ArrowException, OSError)):
        parquet.rows_of(data[:40] + b"\0" * 9 + data[49:], Table.EXCHANGES)
    with pytest.raises((pa.ArrowException, OSError)):
        parquet.may_have(b"PAR1" + b"\1" * 40, parquet.wanted(of("talk-1")))
    assert NOW_MS + 1 == parquet.rows_of(data, Table.EXCHANGES)[0].at_ms
