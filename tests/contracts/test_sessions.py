"""Owns the contract of SessionStore, proven for every store of the shelf."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.terms import Issued, Level, Place, Session
from tests.contracts.conftest import Shelf
from tests.stores.samples import AT_MS, exchange, handoff, stand


def at(session: str, turn: int = 1) -> Place:
    """Make a place."""
    return Place(session_id=session, turn=turn)


async def test_a_conversation_is_found_where_it_stands(shelf: Shelf) -> None:
    """The end that a reply left leads to its conversation, at once and in every process."""
    shelf.store.stand(stand("s_1", "end", turn=3), AT_MS)

    assert (at("s_1", 3), None) == (await shelf.store.standing("end"), await shelf.store.standing("other"))
    async with shelf.beside() as other:
        assert at("s_1", 3) == await other.standing("end")


async def test_a_conversation_stands_in_one_place(shelf: Shelf) -> None:
    """One that went on is not found where it stood; one that stands nowhere is found nowhere."""
    for end in ("first", "second"):
        shelf.store.stand(stand("s_1", end), AT_MS)
    moved = [await shelf.store.standing(end) for end in ("first", "second")]
    shelf.store.stand(stand("s_1"), AT_MS)

    assert ([None, at("s_1")], None) == (moved, await shelf.store.standing("second"))


async def test_of_several_at_one_end_each_goes_on_once(shelf: Shelf) -> None:
    """The newest goes first, and who was found is not found again; the last may be asked for as often as one likes."""
    for name in ("s_1", "s_2", "s_3"):
        shelf.store.stand(stand(name, "hello"), AT_MS)
    found = [await shelf.store.standing("hello") for _ in range(4)]

    assert [at("s_3"), at("s_2"), at("s_1"), at("s_1")] == found


async def test_who_does_not_get_on_stands_there_again(shelf: Shelf) -> None:
    """A conversation whose call failed may be found where it was, before all others."""
    for name in ("s_1", "s_2"):
        shelf.store.stand(stand(name, "hello"), AT_MS)
    await shelf.store.standing("hello")
    shelf.store.stand(stand("s_2", "hello"), AT_MS)

    assert at("s_2") == await shelf.store.standing("hello")


@pytest.mark.parametrize("mark", ["one", "two", "three"])
async def test_a_mark_names_who_left_it(shelf: Shelf, mark: str) -> None:
    """Whoever left a mark is named, wherever it stands now; of more than two, two are enough."""
    for name, marks in (("s_1", ("one", "two", "three")), ("s_2", ("two", "three")), ("s_3", ("three",))):
        shelf.store.stand(stand(name, "end", *marks), AT_MS)
        shelf.store.stand(stand(name, "later"), AT_MS)
    found = await shelf.store.passed(mark, "")

    assert min(2, {"one": 1, "two": 2, "three": 3}[mark]) == len({place.session_id for place in found}) == len(found)


@pytest.mark.parametrize(
    ("user", "names"),
    [
        pytest.param("ann", {"s_ann", "s_any"}, id="of ann or of nobody named"),
        pytest.param("eve", {"s_any"}, id="not of others"),
        pytest.param("", {"s_any"}, id="of nobody named"),
    ],
)
async def test_marks_of_other_users_are_not_found(shelf: Shelf, user: str, names: set[str]) -> None:
    """A mark that was left in calls that name another user leads nowhere."""
    shelf.store.stand(stand("s_ann", "", "mark", user="ann"), AT_MS)
    shelf.store.stand(stand("s_any", "", "mark"), AT_MS)

    assert names == {place.session_id for place in await shelf.store.passed("mark", user)}


async def test_a_conversation_that_names_its_user_later_is_one(shelf: Shelf) -> None:
    """The same mark, left with and without a user, is one place."""
    for user in ("", "ann"):
        shelf.store.stand(stand("s_1", "", "mark", user=user), AT_MS)

    assert [at("s_1")] == await shelf.store.passed("mark", "ann")


async def test_an_unknown_history_finds_nothing(shelf: Shelf) -> None:
    """A new conversation stands nowhere and has left nothing."""
    assert (None, []) == (await shelf.store.standing("abc"), await shelf.store.passed("abc", "ann"))


async def test_old_places_are_purged(shelf: Shelf) -> None:
    """Places go when they were written before the given time, and only then."""
    for name, at_ms in (("s_old", AT_MS), ("s_new", AT_MS + 1)):
        shelf.store.stand(stand(name, name, f"mark of {name}", "shared"), at_ms)
    await shelf.store.purge(AT_MS + 1)

    assert [None, at("s_new")] == [await shelf.store.standing(name) for name in ("s_old", "s_new")]
    assert ([], [at("s_new")]) == (
        await shelf.store.passed("mark of s_old", ""),
        await shelf.store.passed("mark of s_new", ""),
    )
    assert [at("s_new")] == await shelf.store.passed("shared", "")


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
    """The state of a session is there for its next call, in every process."""
    shelf.store.finish(exchange("ex_2", session="s_1", turn=2))
    shelf.store.save(STATE, AT_MS)
    await shelf.drain()

    async with shelf.beside() as other:
        for store in (shelf.store, other):
            assert replace(STATE, turn=3, link="header") == await store.load("s_1")


async def test_what_is_queued_is_known_already(shelf: Shelf) -> None:
    """The next call of a conversation never misses what the one before it saved, however fast it comes."""
    shelf.store.finish(exchange("ex_1", session="s_1"))
    for labels in (("a",), ("a", "b")):
        shelf.store.save(replace(STATE, labels=labels), AT_MS)
    loaded = await shelf.store.load("s_1")

    assert loaded is not None
    assert ("a", "b") == loaded.labels


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


async def test_an_open_hand_off_is_known(shelf: Shelf) -> None:
    """A conversation that a human owns says so, whatever state was saved."""
    shelf.store.finish(exchange("ex_1", session="s_1"))
    shelf.store.save(STATE, AT_MS)
    await shelf.store.hand_over(handoff("ho_1", "s_1"))

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
