"""Owns the contract of SessionStore, proven for every store of the shelf."""

from __future__ import annotations

from proxy.terms import Session
from tests.contracts.conftest import Shelf
from tests.stores.samples import exchange


async def test_a_history_finds_its_conversation(shelf: Shelf) -> None:
    """The digest a reply ended in leads to its session, and to the turn that comes next."""
    shelf.store.finish(exchange("ex_1", session="s_1", turn=3, prefix="abc"))
    await shelf.drain()

    assert Session(id="s_1", turn=4, link="prefix") == await shelf.store.find(["abc"])


async def test_the_longest_history_wins(shelf: Shelf) -> None:
    """Digests are tried in the order given; those that nothing ended in are passed over."""
    shelf.store.finish(exchange("ex_1", session="s_short", prefix="short"))
    shelf.store.finish(exchange("ex_2", session="s_long", prefix="long"))
    found = await shelf.store.find(["unknown", "long", "short"])

    assert found is not None
    assert "s_long" == found.id


async def test_the_last_session_to_end_so_is_found(shelf: Shelf) -> None:
    """Where two conversations have the same history, the newer one goes on."""
    shelf.store.finish(exchange("ex_1", session="s_1", prefix="hello"))
    shelf.store.finish(exchange("ex_2", session="s_2", prefix="hello"))
    found = await shelf.store.find(["hello"])

    assert found is not None
    assert "s_2" == found.id


async def test_an_unknown_history_finds_nothing(shelf: Shelf) -> None:
    """A new conversation has no session, and an empty digest is no history."""
    shelf.store.finish(exchange("ex_1", prefix=""))
    await shelf.drain()

    assert None is await shelf.store.find(["abc", ""])


async def test_a_session_is_loaded_by_its_id(shelf: Shelf) -> None:
    """The next turn follows the highest one on record, in whatever order calls ended."""
    shelf.store.finish(exchange("ex_2", session="s_1", turn=2))
    shelf.store.finish(exchange("ex_1", session="s_1", turn=1))
    await shelf.drain()

    assert Session(id="s_1", turn=3, link="header") == await shelf.store.load("s_1")


async def test_an_unknown_session_is_none(shelf: Shelf) -> None:
    """An id that was never used has no session."""
    assert None is await shelf.store.load("s_1")
