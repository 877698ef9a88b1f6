"""Owns the contract of Desk, proven for every store of the shelf."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.terms import Delivery, Held, HeldState
from tests.contracts.conftest import Shelf
from tests.stores.samples import AT_MS, LEASE_MS, handoff, held

END_MS = AT_MS + LEASE_MS
"""The time at which an action put down at AT_MS is expired."""


async def approve(shelf: Shelf, name: str, at_ms: int = AT_MS) -> Held | None:
    """Approve an action."""
    return await shelf.store.decide(name, HeldState.APPROVED, "ann", "fine", at_ms)


async def state(shelf: Shelf, at_ms: int, key: str = "k") -> HeldState | None:
    """Say how the newest action with a key stands when somebody comes for it."""
    found = await shelf.store.use(key, at_ms)
    return found.state if found else None


# --- held actions -----------------------------------------------------------------------------------------------------


async def test_an_action_is_put_down(shelf: Shelf) -> None:
    """It waits, as it was put down, and every process sees it."""
    put = await shelf.store.hold(held("ap_1"))

    async with shelf.beside() as other:
        assert (held("ap_1"), [held("ap_1")]) == (put, await other.held(None, 10))


async def test_an_action_that_waits_is_put_down_once(shelf: Shelf) -> None:
    """The same call asked again while it is pending or approved is the same action, in any process."""
    await shelf.store.hold(held("ap_1"))
    async with shelf.beside() as other:
        pending = await other.hold(held("ap_2", at_ms=END_MS - 1))
        approved = await approve(shelf, "ap_1")

        assert (held("ap_1"), approved) == (pending, await other.hold(held("ap_3")))
    assert 1 == len(await shelf.store.held(None, 10))


async def test_another_key_is_another_action(shelf: Shelf) -> None:
    """What is approved is one call: other arguments have another key, and wait for themselves."""
    await shelf.store.hold(held("ap_1"))
    await approve(shelf, "ap_1")
    await shelf.store.hold(held("ap_2", key="other"))

    assert HeldState.PENDING is await state(shelf, AT_MS, "other")


async def test_what_expired_is_put_down_anew(shelf: Shelf) -> None:
    """An action past its time stands in nobody's way, and the newest is the one that counts."""
    await shelf.store.hold(held("ap_1"))
    await approve(shelf, "ap_1")
    again = await shelf.store.hold(held("ap_2", at_ms=END_MS))

    assert ("ap_2", HeldState.PENDING) == (again.id, await state(shelf, END_MS))


async def test_an_approval_is_used_once(shelf: Shelf) -> None:
    """Whoever comes first gets it as APPROVED; after that it is USED, and the same call has to be put down anew."""
    await shelf.store.hold(held("ap_1"))
    await approve(shelf, "ap_1")
    async with shelf.beside() as other:
        first, second = await other.use("k", AT_MS), await shelf.store.use("k", AT_MS)

    assert first is not None
    assert second is not None
    assert [HeldState.APPROVED, HeldState.USED] == [first.state, second.state]
    assert "ap_2" == (await shelf.store.hold(held("ap_2"))).id


async def test_a_pending_action_is_not_taken(shelf: Shelf) -> None:
    """Asking for it changes nothing: it can be approved still."""
    await shelf.store.hold(held("ap_1"))

    assert HeldState.PENDING is await state(shelf, AT_MS)
    await approve(shelf, "ap_1")
    assert HeldState.APPROVED is await state(shelf, AT_MS)


async def test_a_denied_action_stays_denied(shelf: Shelf) -> None:
    """A denial is told as often as it is asked for, after the action's time too, with what the human said."""
    await shelf.store.hold(held("ap_1"))
    await shelf.store.decide("ap_1", HeldState.DENIED, "ann", "too much", AT_MS + 1)
    asked = [await shelf.store.use("k", at_ms) for at_ms in (AT_MS + 2, END_MS)]

    told = replace(held("ap_1"), state=HeldState.DENIED, decided_ms=AT_MS + 1, decided_by="ann", note="too much")
    assert [told, told] == asked


@pytest.mark.parametrize("approved", [pytest.param(False, id="pending"), pytest.param(True, id="approved")])
async def test_an_action_expires(shelf: Shelf, approved: bool) -> None:
    """At the end of its time an action is EXPIRED, approved or not, and stays so even if a clock runs back."""
    await shelf.store.hold(held("ap_1"))
    if approved:
        await approve(shelf, "ap_1")

    assert [HeldState.EXPIRED] * 2 == [await state(shelf, END_MS), await state(shelf, AT_MS)]


async def test_an_approval_lasts_to_the_last_millisecond(shelf: Shelf) -> None:
    """Before the end of its time it can be used."""
    await shelf.store.hold(held("ap_1"))
    await approve(shelf, "ap_1")

    assert HeldState.APPROVED is await state(shelf, END_MS - 1)


async def test_an_unknown_key_has_no_action(shelf: Shelf) -> None:
    """Nothing was put down for it."""
    assert None is await shelf.store.use("k", AT_MS)


async def test_a_decision_is_written_down(shelf: Shelf) -> None:
    """Who decided, when, and what they said, stays with the action."""
    await shelf.store.hold(held("ap_1"))
    approved = await approve(shelf, "ap_1", AT_MS + 1)

    expected = replace(held("ap_1"), state=HeldState.APPROVED, decided_ms=AT_MS + 1, decided_by="ann", note="fine")
    assert (expected, [expected]) == (approved, await shelf.store.held(None, 10))


async def test_the_first_decision_counts(shelf: Shelf) -> None:
    """A second human is told what the first decided."""
    await shelf.store.hold(held("ap_1"))
    first = await approve(shelf, "ap_1")

    assert first == await shelf.store.decide("ap_1", HeldState.DENIED, "bob", "no", AT_MS)


async def test_a_used_approval_cannot_be_given_again(shelf: Shelf) -> None:
    """An action that was taken is over."""
    await shelf.store.hold(held("ap_1"))
    await approve(shelf, "ap_1")
    await shelf.store.use("k", AT_MS)
    again = await approve(shelf, "ap_1")

    assert again is not None
    assert (HeldState.USED, HeldState.USED) == (again.state, await state(shelf, AT_MS))


async def test_a_late_decision_changes_nothing(shelf: Shelf) -> None:
    """An action that is past its time is EXPIRED for the human too."""
    await shelf.store.hold(held("ap_1"))

    assert replace(held("ap_1"), state=HeldState.EXPIRED) == await approve(shelf, "ap_1", END_MS)


async def test_an_unknown_action_cannot_be_decided(shelf: Shelf) -> None:
    """There is nothing to return."""
    assert None is await approve(shelf, "ap_1")


async def test_actions_are_listed_newest_first(shelf: Shelf) -> None:
    """All of them or those in one state, as many as asked for."""
    for name in ("ap_1", "ap_2", "ap_3"):
        await shelf.store.hold(held(name, key=name))
    await approve(shelf, "ap_2")
    lists = [await shelf.store.held(*asked) for asked in ((None, 2), (HeldState.PENDING, 9), (HeldState.APPROVED, 9))]

    assert [["ap_3", "ap_2"], ["ap_3", "ap_1"], ["ap_2"]] == [[found.id for found in listed] for listed in lists]


async def test_house_keeping_expires_actions(shelf: Shelf) -> None:
    """A list shows as pending nothing that nobody can approve any more, and nothing but that is changed."""
    await shelf.store.hold(held("ap_1", key="old"))
    await shelf.store.hold(held("ap_2", key="denied"))
    await shelf.store.hold(held("ap_3", at_ms=END_MS))
    await shelf.store.decide("ap_2", HeldState.DENIED, "ann", "", AT_MS)
    await shelf.store.recover(END_MS)

    states = [(found.id, found.state) for found in await shelf.store.held(None, 9)]
    assert [("ap_3", HeldState.PENDING), ("ap_2", HeldState.DENIED), ("ap_1", HeldState.EXPIRED)] == states


async def test_old_actions_are_purged(shelf: Shelf) -> None:
    """An action goes once its time was over before the given one."""
    await shelf.store.hold(held("ap_1", key="old"))
    await shelf.store.hold(held("ap_2", at_ms=AT_MS + 1))
    purged = await shelf.store.purge(END_MS + 1)

    assert (0, ["ap_2"]) == (purged, [found.id for found in await shelf.store.held(None, 9)])


# --- hand-offs --------------------------------------------------------------------------------------------------------


async def test_a_packet_is_written_and_due(shelf: Shelf) -> None:
    """A conversation that was handed over is listed, and on its way to the webhook, in every process."""
    given = await shelf.store.hand_over(handoff("ho_1"))

    async with shelf.beside() as other:
        assert (handoff("ho_1"), [handoff("ho_1")]) == (given, await other.handoffs(True, 9))
        assert [Delivery(handoff=handoff("ho_1"), due_ms=AT_MS)] == await other.due(AT_MS, 9)


async def test_a_conversation_is_handed_over_once(shelf: Shelf) -> None:
    """While a human owns it there is one packet and one delivery, whichever process tries again."""
    await shelf.store.hand_over(handoff("ho_1"))
    async with shelf.beside() as other:
        assert handoff("ho_1") == await other.hand_over(handoff("ho_2"))

    assert ["ho_1"] == [found.id for found in await shelf.store.handoffs(False, 9)]
    assert ["ho_1"] == [found.handoff.id for found in await shelf.store.due(AT_MS, 9)]


async def test_a_conversation_given_back_can_be_handed_over_again(shelf: Shelf) -> None:
    """A closed packet stands in nobody's way; the list of open ones has the new one."""
    await shelf.store.hand_over(handoff("ho_1"))
    await shelf.store.close_handoff("ho_1", "bob", AT_MS + 1)
    again = await shelf.store.hand_over(handoff("ho_2"))

    assert handoff("ho_2") == again
    assert ["ho_2"] == [found.id for found in await shelf.store.handoffs(True, 9)]


async def test_closing_says_who_and_when(shelf: Shelf) -> None:
    """The packet keeps who gave the conversation back; closing it again changes nothing."""
    await shelf.store.hand_over(handoff("ho_1"))
    closed = [await shelf.store.close_handoff("ho_1", by, at) for by, at in (("bob", AT_MS + 1), ("eve", AT_MS + 2))]

    assert [replace(handoff("ho_1"), closed_ms=AT_MS + 1, closed_by="bob")] * 2 == closed
    assert closed[:1] == await shelf.store.handoffs(False, 9)


async def test_an_unknown_packet_cannot_be_closed(shelf: Shelf) -> None:
    """There is nothing to return."""
    assert None is await shelf.store.close_handoff("ho_1", "bob", AT_MS)


async def test_packets_are_listed_newest_first(shelf: Shelf) -> None:
    """All of them or the open ones, as many as asked for."""
    for n in (1, 2, 3):
        await shelf.store.hand_over(handoff(f"ho_{n}", session=f"s_{n}"))
    await shelf.store.close_handoff("ho_3", "bob", AT_MS + 1)
    lists = [await shelf.store.handoffs(*asked) for asked in ((False, 2), (True, 9))]

    assert [["ho_3", "ho_2"], ["ho_2", "ho_1"]] == [[found.id for found in listed] for listed in lists]


async def test_deliveries_come_when_they_are_due(shelf: Shelf) -> None:
    """The one that waits longest comes first, no more than asked for, none before its time."""
    for n, at_ms in ((1, AT_MS + 2), (2, AT_MS + 1), (3, AT_MS + 3)):
        await shelf.store.hand_over(handoff(f"ho_{n}", session=f"s_{n}", at_ms=at_ms))
    due = [await shelf.store.due(*asked) for asked in ((AT_MS, 9), (AT_MS + 2, 9), (AT_MS + 3, 1))]

    assert [[], ["ho_2", "ho_1"], ["ho_2"]] == [[found.handoff.id for found in some] for some in due]


async def test_a_delivery_is_made_once(shelf: Shelf) -> None:
    """What was delivered is not due again, and a failure reported late does not bring it back."""
    await shelf.store.hand_over(handoff("ho_1"))
    await shelf.store.delivered("ho_1", AT_MS + 1)
    await shelf.store.postpone("ho_1", AT_MS + 2, "timeout")

    assert ([], [handoff("ho_1")]) == (await shelf.store.due(END_MS, 9), await shelf.store.handoffs(True, 9))


async def test_a_failed_delivery_comes_again(shelf: Shelf) -> None:
    """Tries are counted, the newest error is kept, and it is not due before its time."""
    await shelf.store.hand_over(handoff("ho_1"))
    await shelf.store.postpone("ho_1", AT_MS + 1, "timeout")
    await shelf.store.postpone("ho_1", AT_MS + 2, "HTTP 500")

    again = Delivery(handoff=handoff("ho_1"), tries=2, due_ms=AT_MS + 2, error="HTTP 500")
    assert ([], [again]) == (await shelf.store.due(AT_MS + 1, 9), await shelf.store.due(AT_MS + 2, 9))


async def test_a_delivery_carries_the_packet_as_it_is(shelf: Shelf) -> None:
    """A packet that was closed before it arrived says so."""
    await shelf.store.hand_over(handoff("ho_1"))
    closed = await shelf.store.close_handoff("ho_1", "bob", AT_MS + 1)

    assert [closed] == [found.handoff for found in await shelf.store.due(AT_MS + 1, 9)]


async def test_old_closed_packets_are_purged(shelf: Shelf) -> None:
    """A packet closed before the given time goes, delivered or not; an open one stays however old it is."""
    for n, closed_ms in ((1, AT_MS + 1), (2, AT_MS + 2), (3, None)):
        await shelf.store.hand_over(handoff(f"ho_{n}", session=f"s_{n}"))
        if closed_ms:
            await shelf.store.close_handoff(f"ho_{n}", "bob", closed_ms)
    purged = await shelf.store.purge(AT_MS + 2)

    assert (0, ["ho_3", "ho_2"]) == (purged, [found.id for found in await shelf.store.handoffs(False, 9)])
    assert ["ho_2", "ho_3"] == [found.handoff.id for found in await shelf.store.due(AT_MS, 9)]
