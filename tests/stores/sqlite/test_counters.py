"""Owns the proof of proxy/stores/sqlite/counters.py: a person's counters are found, and nobody else's."""

from __future__ import annotations

import hashlib
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from proxy.stores.sqlite.books import Books
from proxy.stores.sqlite.counters import scopes
from proxy.stores.sqlite.file import connect
from proxy.stores.sqlite.places import Places
from proxy.terms import Selection
from tests.stores.samples import AT_MS, settlement, stand


def digest(name: str) -> str:
    """Digest a key as policies do."""
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


CONVERSATION = {"conversation:s", f"total:p/usd:{digest('s')}"}
USER = {"user:u", f"total:p/usd:{digest('u')}", f"key:p/limit:{digest('ann')}"}
OTHERS = {"conversation:t", "user:v", f"key:p/limit:{digest('bob')}", "agent:s", "tenant:u", f"key:p/{digest('s')}:x"}


@pytest.mark.parametrize(
    ("which", "found"),
    [
        pytest.param(Selection(sessions=frozenset({"s"})), CONVERSATION, id="of a conversation alone"),
        pytest.param(
            Selection(sessions=frozenset({"s"}), customers=frozenset({"cu_1"}), names=frozenset({"ann"})),
            CONVERSATION | USER,
            id="of a customer, with all that its users have spent",
        ),
    ],
)
def test_counters_are_found_by_whose_they_are(tmp_path: Path, which: Selection, found: set[str]) -> None:
    """By name or by digest, as policies name them; a customer's budget stays where only a conversation is asked for."""
    with closing(connect(str(tmp_path / "handrail.db"))) as connection:
        counters = tuple((scope, "day") for scope in CONVERSATION | USER | OTHERS)
        books, places = Books(connection), Places(connection)
        stands = (stand("s", "end", "mark", user="u"), stand("t", "end2", "mark2", user="v"))
        left = [partial(places.stand, one, AT_MS) for one in stands]
        books.commit([partial(books.settle, settlement("ex_1", 5, counters), AT_MS), *left])

        assert found == set(scopes(connection, which, '["s"]'))
