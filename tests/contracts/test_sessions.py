"""Owns the contract of SessionStore, proven for every store of the shelf."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.terms import Issued, Level, Session
from tests.contracts.conftest import Shelf
from tests.stores.samples import AT_MS, exchange, handoff


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


STATE = Session(
    id="s_1",
    turn=2,
    issued=(Issued(id="call_1", tool="refund", at_ms=AT_MS),),
    labels=("vip",),
)


async def test_what_was_saved_comes_back(shelf: Shelf) -> None:
    """The state of a session is there for its next call, whichever way that call is linked, and in every process."""
    shelf.store.finish(exchange("ex_2", session="s_1", turn=2, prefix="abc"))
    shelf.store.save(STATE, AT_MS)
    await shelf.drain()

    async with shelf.beside() as other:
        for store in (shelf.store, other):
            assert replace(STATE, turn=3, link="header") == await store.load("s_1")
            assert replace(STATE, turn=3, link="prefix") == await store.find(["abc"])


async def test_what_is_queued_is_known_already(shelf: Shelf) -> None:
    """The next call of a conversation never misses what the one before it saved, however fast it comes."""
    shelf.store.finish(exchange("ex_1", session="s_1", prefix="abc"))
    for labels in (("a",), ("a", "b")):
        shelf.store.save(replace(STATE, labels=labels), AT_MS)
    found, loaded = await shelf.store.find(["abc"]), await shelf.store.load("s_1")

    assert found is not None
    assert loaded is not None
    assert (("a", "b"), ("a", "b")) == (found.labels, loaded.labels)


async def test_calls_side_by_side_take_nothing_from_each_other(shelf: Shelf) -> None:
    """Of two calls that began with the same state, the one that ends last does not undo what the other one saved."""
    shelf.store.save(replace(STATE, labels=("vip", "untrusted"), level=Level.ASSIST), AT_MS)
    shelf.store.save(replace(STATE, labels=("vip", "late"), level=Level.EXECUTE), AT_MS)
    loaded = await shelf.store.load("s_1")

    assert loaded is not None
    assert (("vip", "untrusted", "late"), Level.ASSIST) == (loaded.labels, loaded.level)


async def test_a_session_without_a_record_goes_on(shelf: Shelf) -> None:
    """A state outlives the record of its call: its turn counts."""
    shelf.store.save(STATE, AT_MS)

    assert replace(STATE, turn=3, link="header") == await shelf.store.load("s_1")


async def test_an_older_turn_is_gone_on_from(shelf: Shelf) -> None:
    """A history that branches off gets the turn after its own, and what is known of the whole session."""
    shelf.store.finish(exchange("ex_1", session="s_1", turn=1, prefix="abc"))
    shelf.store.save(STATE, AT_MS)

    assert replace(STATE, turn=2, link="prefix") == await shelf.store.find(["abc"])


async def test_an_open_hand_off_is_known(shelf: Shelf) -> None:
    """A conversation that a human owns says so by either link, whatever state was saved."""
    shelf.store.finish(exchange("ex_1", session="s_1", prefix="abc"))
    shelf.store.save(STATE, AT_MS)
    await shelf.store.hand_over(handoff("ho_1", "s_1"))

    assert replace(STATE, turn=2, link="prefix", escalation="ho_1") == await shelf.store.find(["abc"])
    assert replace(STATE, turn=3, link="header", escalation="ho_1") == await shelf.store.load("s_1")


async def test_a_closed_hand_off_is_none(shelf: Shelf) -> None:
    """A conversation that was given back belongs to its agent, even if a state saved since says otherwise."""
    await shelf.store.hand_over(handoff("ho_1", "s_1"))
    shelf.store.save(replace(STATE, escalation="ho_1"), AT_MS)
    await shelf.store.close_handoff("ho_1", "bob", AT_MS)

    assert replace(STATE, turn=3, link="header") == await shelf.store.load("s_1")


async def test_an_open_hand_off_is_known_without_anything_else(shelf: Shelf) -> None:
    """A hand-off in a conversation's first call stands, though that call left nothing else."""
    await shelf.store.hand_over(handoff("ho_1", "s_1"))

    assert Session(id="s_1", turn=1, link="header", escalation="ho_1") == await shelf.store.load("s_1")


async def test_old_states_are_purged(shelf: Shelf) -> None:
    """A state goes when it was last saved before the given time, and only then."""
    for name, at_ms in (("s_old", AT_MS), ("s_new", AT_MS), ("s_new", AT_MS + 1)):
        shelf.store.save(Session(id=name), at_ms)
    purged = await shelf.store.purge(AT_MS + 1)

    assert (0, None) == (purged, await shelf.store.load("s_old"))
    assert None is not await shelf.store.load("s_new")
