"""Owns what an object of the cold tier looks like inside: one Parquet schema, and an index in its footer.

Everybody's Parquet reader reads it: a row's own columns, `body` as JSON text (or as sealed), and of exchanges also what
is asked most. The footer has short digests of all conversations and customers in the object: who looks for one reads
the footers of most objects and nothing else of them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from proxy.stores.objects.layout import SCHEMA
from proxy.terms import Row, Selection, Table

INDEX = b"handrail.index"
TAIL_BYTES = 64 * 1024
"""How much of an object's end is read at first: nearly always the whole footer."""

_DIGEST_BYTES = 4
"""A false find costs reading one object in vain; among 10,000 conversations one search in 400,000 makes one."""
_MAGIC = 8
"""At the end of a Parquet file: the footer's length, and four letters."""
_COLUMNS = {
    "id": pa.string(),
    "version": pa.int64(),
    "at": pa.timestamp("ms", tz="UTC"),
    "session_id": pa.string(),
    "customer": pa.string(),
    "body": pa.string(),
}
_ASKED = {
    "agent": pa.string(),
    "model": pa.string(),
    "state": pa.string(),
    "status": pa.int32(),
    "cost_nanousd": pa.int64(),
}
_REPEATED = ["session_id", "customer", "agent", "model", "state", "status"]
_BOUNDED = ["version", "at", "session_id", "customer", "status", "cost_nanousd"]
"""Whose least and greatest value the footer tells. Never of bodies: these would stand there in the clear."""


class _Agent(msgspec.Struct, frozen=True):
    agent: str | None = None


class _Cost(msgspec.Struct, frozen=True):
    nanousd: int | None = None


class _Asked(msgspec.Struct, frozen=True):
    """What is asked most of an exchange."""

    caller: _Agent = _Agent()
    model_asked: str | None = None
    model_served: str = ""
    state: str | None = None
    status: int | None = None
    cost: _Cost = _Cost()


_decode = msgspec.json.Decoder(_Asked).decode


def encode(rows: Sequence[Row]) -> bytes:
    """Return the object with these rows, which are of one table."""
    columns = {
        "id": [row.id for row in rows],
        "version": [row.version for row in rows],
        "at": [row.at_ms for row in rows],
        "session_id": [row.session_id for row in rows],
        "customer": [row.customer for row in rows],
        "body": [row.body.decode() for row in rows],
    }
    types = _COLUMNS
    if rows[0].table is Table.EXCHANGES:
        columns |= _columns_of([_asked(row.body) for row in rows])
        types = _COLUMNS | _ASKED
    schema = pa.schema(types.items())
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=[name for name in _REPEATED if name in types],
        write_statistics=[name for name in _BOUNDED if name in types],
        store_schema=False,
    ) as writer:
        writer.write_table(pa.table(columns, schema=schema))
        writer.add_key_value_metadata({b"handrail.schema": str(SCHEMA).encode(), INDEX: _index(rows)})
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _asked(body: bytes) -> _Asked:
    """Read an exchange; of what another Handrail wrote otherwise nothing is said."""
    try:
        return _decode(body)
    except msgspec.DecodeError:
        return _Asked()


def _columns_of(asked: Sequence[_Asked]) -> dict[str, list[object]]:
    return {
        "agent": [one.caller.agent for one in asked],
        "model": [one.model_served or one.model_asked for one in asked],
        "state": [one.state for one in asked],
        "status": [one.status for one in asked],
        "cost_nanousd": [one.cost.nanousd for one in asked],
    }


def rows_of(data: bytes, table: Table, which: Selection | None = None) -> list[Row]:
    """Return the rows of an object, or those that are selected; raise pyarrow's errors where it is damaged."""
    found = pq.read_table(pa.BufferReader(data), columns=list(_COLUMNS), use_threads=False)
    if which is not None:
        found = found.filter(
            pc.or_(
                pc.is_in(found["session_id"], pa.array(which.sessions, pa.string())),
                pc.is_in(found["customer"], pa.array(which.customers, pa.string())),
            )
        )
    found = found.set_column(found.column_names.index("at"), "at", found["at"].cast(pa.int64()))
    return [
        Row(
            table=table,
            id=row_id,
            version=version,
            at_ms=at_ms,
            session_id=session_id,
            customer=customer,
            body=body.encode(),
        )
        for row_id, version, at_ms, session_id, customer, body in zip(
            *(found[name].to_pylist() for name in _COLUMNS), strict=True
        )
    ]


def places(data: bytes, forms: Collection[bytes]) -> int:
    """Return in how many cells of an object one of these forms of a text stands, at least 1 where it stands in the
    object's bytes as they are."""
    found = pq.read_table(pa.BufferReader(data), use_threads=False)
    texts = [column.cast(pa.binary()) for column in found.columns if column.type == pa.string()]
    cells = sum(pc.sum(_has_any(column, forms)).as_py() or 0 for column in texts)
    return max(cells, any(form in data for form in forms))


def _has_any(column: Any, forms: Collection[bytes]) -> Any:
    return functools.reduce(pc.or_, (pc.match_substring(column, form) for form in forms))


def footer_bytes(tail: bytes) -> int:
    """Return how much of an object's end is its footer."""
    return int.from_bytes(tail[-_MAGIC:-4], "little") + _MAGIC


def may_have(tail: bytes, wanted: Collection[bytes]) -> bool:
    """Say by an object's footer whether some of what is wanted can be in it."""
    index = base64.b64decode(pq.read_metadata(pa.BufferReader(tail)).metadata[INDEX])
    return not {index[at : at + _DIGEST_BYTES] for at in range(0, len(index), _DIGEST_BYTES)}.isdisjoint(wanted)


def wanted(which: Selection) -> frozenset[bytes]:
    """Return what footers are searched for."""
    return frozenset(_digests(which.sessions, which.customers))


def _index(rows: Sequence[Row]) -> bytes:
    sessions = {row.session_id for row in rows if row.session_id}
    customers = {row.customer for row in rows if row.customer}
    return base64.b64encode(b"".join(sorted(_digests(sessions, customers))))


def _digests(sessions: Iterable[str], customers: Iterable[str]) -> set[bytes]:
    return {_digest(b"s", one) for one in sessions} | {_digest(b"c", one) for one in customers}


def _digest(kind: bytes, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES, person=kind).digest()
