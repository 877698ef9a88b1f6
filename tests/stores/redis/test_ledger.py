"""Owns the proof of proxy/stores/redis/ledger.py and of the script beside it, on each server there is."""

from __future__ import annotations

import asyncio

import pytest
from redis.crc import key_slot

from proxy.stores import Hold
from proxy.stores.redis.ledger import MOST_NANOUSD, Ledger, counter_name
from proxy.stores.redis.link import Away
from proxy.terms import Limit, Totals
from tests.redis_servers import RedisServer
from tests.stores.redis.conftest import Joined
from tests.stores.samples import DAY, MONTH, limit

HOLD = Hold(amount_nanousd=60, counters=(DAY, MONTH), expires_ms=0)


async def day(ledger: Ledger) -> Totals:
    """Return the totals of a day."""
    (total,) = await ledger.totals([DAY])
    return total


# --- holds ----------------------------------------------------------------------------------------------------------


async def test_a_hold_is_under_every_limit_or_none(join: Joined) -> None:
    """The first limit without room is named, and nothing is held under the others."""
    month = limit(MONTH, 59)
    async with join("a") as ledger:
        full = await ledger.reserve("h1", 60, [limit(DAY), month], 0)
        held = await ledger.reserve("h2", 59, [limit(DAY), month], 0)

        assert ((month, {}), (None, {DAY: 0, MONTH: 0})) == (full, held)
        assert [Totals(reserved_nanousd=59)] * 2 == await ledger.totals([DAY, MONTH])


async def test_limits_of_one_counter_hold_once(join: Joined) -> None:
    """Each limit is compared, the money is held once."""
    async with join("a") as ledger:
        await ledger.reserve("h1", 50, [limit(DAY, 60), limit(DAY, 90)], 0)

        assert Totals(reserved_nanousd=50) == await day(ledger)


@pytest.mark.parametrize(
    ("before", "amount", "cap", "fits"),
    [
        pytest.param(0, MOST_NANOUSD, MOST_NANOUSD, True, id="all that can be compared"),
        pytest.param(1, MOST_NANOUSD, 1 << 62, False, id="a larger cap is taken as that"),
        pytest.param(MOST_NANOUSD - 1, 1, MOST_NANOUSD, True, id="to the last nano-dollar"),
        pytest.param(MOST_NANOUSD, 1, MOST_NANOUSD, False, id="and not one more"),
        pytest.param(1 << 60, 0, MOST_NANOUSD, False, id="sums that doubles round"),
        pytest.param(0, 1 << 60, MOST_NANOUSD, False, id="an amount that doubles round"),
    ],
)
async def test_nothing_is_rounded_into_a_limit(join: Joined, before: int, amount: int, cap: int, fits: bool) -> None:
    """Where Lua's doubles are not exact a call is refused; sums stay exact to 64 bits."""
    async with join("a") as ledger:
        await ledger.post({DAY: Totals(nanousd=before, tokens=1, calls=1)}, {}, [])
        full, _ = await ledger.reserve("h1", amount, [limit(DAY, cap)], 0)
        await ledger.post({MONTH: Totals(nanousd=(1 << 62) + 1)}, {}, [])

        assert (full is None) == fits
        assert [before, (1 << 62) + 1] == [total.nanousd for total in await ledger.totals([DAY, MONTH])]


async def test_a_hold_ends_once(join: Joined) -> None:
    """Ended twice, or never held: nothing is freed that was not held."""
    async with join("a") as ledger:
        for hold_id in ("h1", "h2"):
            await ledger.reserve(hold_id, 30, [limit(DAY)], 0)
        for _ in range(2):
            await ledger.post({}, {}, ["h1", "gone"])

        assert Totals(reserved_nanousd=30) == await day(ledger)


# --- counters -------------------------------------------------------------------------------------------------------


async def test_replicas_add_up(join: Joined) -> None:
    """Each says how its own books stand; said again, smaller or larger, it takes the place of what was said."""
    async with join("a") as first, join("b") as second:
        for nanousd in (10, 10, 25, 20):
            await first.post({DAY: Totals(nanousd=nanousd, tokens=2, calls=1)}, {}, [])
        await second.post({DAY: Totals(nanousd=-5, calls=1)}, {}, [])

        assert Totals(nanousd=15, tokens=2, calls=2) == await day(first)


async def test_many_counters_are_told_in_parts(join: Joined) -> None:
    """However many counters and ended holds there are, all are told."""
    counters = {("agent:a", str(number)): Totals(nanousd=number + 1) for number in range(600)}
    async with join("a") as ledger:
        await ledger.post(counters, {}, [f"h{number}" for number in range(600)])

        assert [*counters.values()] == await ledger.totals([*counters])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("agent:a", "b"), ("agent:", "ab"), id="the same letters"),
        pytest.param(("1:a", "b"), ("1", ":ab"), id="with lengths in them"),
    ],
)
def test_no_two_counters_share_a_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    """A scope that holds what a caller sent cannot pass for another."""
    assert counter_name(one) != counter_name(other)


# --- slices ---------------------------------------------------------------------------------------------------------


async def test_a_slice_is_for_some_more_calls(join: Joined) -> None:
    """It grows to `share` calls, and takes no more than half of the room; other replicas cannot have it."""
    async with join("a") as first, join("b") as second:
        changes = [(await first.reserve(f"h{n}", 10, [limit(DAY, 100)], share))[1] for n, share in enumerate((2, 2, 9))]
        full, _ = await second.reserve("h4", 34, [limit(DAY, 100)], 0)

        assert [{DAY: 20}, {DAY: 0}, {DAY: 25}] == changes
        assert full


async def test_a_slice_is_room_for_its_replica(join: Joined) -> None:
    """Where there is none left the call takes from the slice what it lacks, in the same step."""
    async with join("a") as ledger:
        await ledger.reserve("h1", 10, [limit(DAY, 100)], 4)
        outcomes = [await ledger.reserve(f"h{n}", 30, [limit(DAY, 100)], 4) for n in (2, 3, 4, 5)]

        assert [(None, {DAY: 10}), (None, {DAY: -20}), (None, {DAY: -30})] == outcomes[:3]
        assert (limit(DAY, 100), {}) == outcomes[3]
        assert Totals(reserved_nanousd=100) == await day(ledger)


async def test_a_call_takes_no_more_than_its_amount(join: Joined) -> None:
    """A slice never shrinks by more than its replica counts on while it waits for the answer."""
    async with join("a") as first, join("b") as second:
        await first.reserve("h1", 10, [limit(DAY, 100)], 4)
        await second.post({DAY: Totals(nanousd=80)}, {}, [])

        assert limit(DAY, 100) == (await first.reserve("h2", 5, [limit(DAY, 100)], 0))[0]


async def test_what_is_given_back_others_can_have(join: Joined) -> None:
    """A slice that is given back is room again."""
    async with join("a") as first, join("b") as second:
        await first.reserve("h1", 10, [limit(DAY, 100)], 4)
        await first.post({DAY: Totals()}, {DAY: 40}, ["h1"])

        assert None is (await second.reserve("h2", 100, [limit(DAY, 100)], 0))[0]


# --- who takes part -------------------------------------------------------------------------------------------------


async def test_what_is_stated_replaces_what_was_known(join: Joined) -> None:
    """Holds and slices that are not stated are gone, those that are stated are there, however often."""
    async with join("a") as ledger:
        await ledger.reserve("h1", 10, [limit(DAY)], 1)
        for _ in range(2):
            assert await ledger.restate({"h2": HOLD, "h3": HOLD}, {DAY: 7})
        await ledger.post({}, {}, ["h1", "h3"])

        assert [Totals(reserved_nanousd=60)] * 2 == await ledger.totals([DAY, MONTH])
        assert limit(DAY, 127) == (await ledger.reserve("h4", 68, [limit(DAY, 127)], 0))[0]


async def test_writes_of_before_are_not_taken_up(join: Joined) -> None:
    """After a replica has entered anew, nothing that it sent before counts, whenever it arrives."""
    async with join("a") as before, join("a") as now:
        with pytest.raises(Away, match="AGAIN"):
            await before.reserve("h1", 10, [limit(DAY)], 0)

        assert Totals() == await day(now)


async def test_who_is_silent_has_spent_what_it_had(join: Joined) -> None:
    """After its lease a replica's holds and slices count as spent; when it comes back its own word replaces that."""
    async with join("a", lease_ms=1) as silent, join("b") as other:
        await silent.reserve("h1", 10, [limit(DAY, 100)], 2)
        await silent.post({DAY: Totals(nanousd=5, calls=1)}, {}, [])
        await asyncio.sleep(0.01)
        await other.beat()
        lapsed = await day(other)
        with pytest.raises(Away, match="AGAIN"):
            await silent.beat()
        async with join("a") as back:
            await back.post({DAY: Totals(nanousd=9, calls=2)}, {}, [])

        assert Totals(nanousd=35, calls=2) == lapsed
        assert Totals(nanousd=9, calls=2) == await day(other)


async def test_who_leaves_is_not_missed(join: Joined) -> None:
    """A replica that holds nothing leaves at once; one that does stays until its lease is over."""
    async with join("a", lease_ms=1) as leaving, join("b", lease_ms=1) as holding, join("c") as other:
        await holding.reserve("h1", 10, [limit(DAY)], 0)
        for replica in (leaving, holding):
            await replica.leave()
        await asyncio.sleep(0.01)
        await other.beat()

        assert Totals(nanousd=10, calls=1) == await day(other)


async def test_everything_is_in_one_slot(join: Joined, server: RedisServer) -> None:
    """All keys carry one hash tag, and those of counters are forgotten in time."""
    caps = [limit(DAY), Limit(rule="p/u@1", scope="user:{x}", window="all", cap_nanousd=100)]
    async with join("a") as ledger:
        await ledger.reserve("h1", 10, caps, 1)
        await ledger.post({DAY: Totals(nanousd=1)}, {}, [])
        (key,) = server.command("KEYS", "*user:{x}all")
        ledger_keys = server.command("KEYS", key.partition(":c:")[0] + "*")

        assert 1 == len({key_slot(key.encode()) for key in ledger_keys})
        assert [] == [key for key in ledger_keys if ":c:" in key and server.command("TTL", key) < 0]
