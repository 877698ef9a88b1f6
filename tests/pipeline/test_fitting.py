"""Owns the proof of proxy/pipeline/fitting.py: how a call gets room under spend limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.errors import BudgetExceeded
from proxy.pipeline.fitting import Fitting
from proxy.terms import Fit, Limit, Reservation, Settlement
from tests.walking import Walked

DAY = ("agent:a", "day:1")
AT_MS = 1_767_225_600_000
MOST = 100


def limit(fit: Fit | None = None, cap: int = 150, rule: str = "p/day@1", scope: str = DAY[0]) -> Limit:
    """Return a limit of which a call with all its tokens takes 110."""
    return Limit(rule=rule, scope=scope, window=DAY[1], cap_nanousd=cap, fit=fit)


def reservation(name: str, amount: int, *limits: Limit) -> Reservation:
    """Return a hold."""
    return Reservation(id=name, amount_nanousd=amount, limits=limits, expires_ms=AT_MS + 10**6)


def fitting(house: Walked, *limits: Limit) -> Fitting:
    """Return what finds room for a call: 10 for its input, 1 for each token of output."""
    return Fitting(house.house, limits, lambda tokens: 10 + tokens, MOST, reservation("ex_9:1", 110))


async def held(house: Walked) -> int:
    """Return what is held under the limit."""
    [totals] = await house.store.totals([DAY])
    return totals.reserved_nanousd


def ending(house: Walked, used: int, name: str = "ex_1:1") -> Callable[[], Awaitable[object]]:
    """Return what settles another call, for while this one waits."""

    async def settle() -> None:
        settlement = Settlement(reservation_id=name, nanousd=used, tokens=used, counters=(DAY,))
        house.store.settle(settlement, AT_MS)

    return settle


async def test_where_there_is_room_the_whole_call_is_held() -> None:
    """Nothing is shortened that need not be, and nothing waits."""
    house = Walked()

    assert MOST == await fitting(house, limit(Fit(least_tokens=1, wait_s=9))).hold(AT_MS)
    assert 110 == await held(house)
    assert AT_MS == house.clock.at_ms


@pytest.mark.parametrize(
    ("fit", "other", "expected"),
    [
        pytest.param(None, 100, 0, id="refused without `fit`"),
        pytest.param(Fit(least_tokens=40), 100, 40, id="made as short as it may be"),
        pytest.param(Fit(least_tokens=10), 100, 40, id="made as long as there is room for"),
        pytest.param(Fit(least_tokens=41), 100, 0, id="refused where too little is left"),
        pytest.param(Fit(least_tokens=1), 150, 0, id="refused where nothing is left"),
        pytest.param(Fit(wait_s=2), 100, 0, id="refused where nobody gives anything back"),
        pytest.param(Fit(least_tokens=40, wait_s=2), 100, 40, id="made shorter where nobody gives anything back"),
    ],
)
async def test_what_becomes_of_a_call_without_room(fit: Fit | None, other: int, expected: int) -> None:
    """Of 150 another call holds some: this one is refused, or held for what there is and no more."""
    house, wanted = Walked(), limit(fit)
    await house.store.reserve(reservation("ex_1:1", other, wanted), AT_MS)

    try:
        tokens = await fitting(house, wanted).hold(AT_MS)
    except BudgetExceeded:
        tokens = 0

    assert expected == tokens
    assert other + (10 + expected if expected else 0) == await held(house)


@pytest.mark.parametrize(("used", "expected"), [(40, 100), (50, 90)], ids=["all of it", "what is left"])
async def test_a_call_waits_for_what_others_give_back(used: int, expected: int) -> None:
    """While another call holds more than it will need, waiting beats a short reply; once it has ended, what is left."""
    house, wanted = Walked(), limit(Fit(least_tokens=5, wait_s=2))
    await house.store.reserve(reservation("ex_1:1", 100, wanted), AT_MS)
    house.meanwhile = ending(house, used)

    assert expected == await fitting(house, wanted).hold(AT_MS)
    assert house.clock.at_ms < AT_MS + 2000


async def test_nobody_waits_for_what_is_spent() -> None:
    """What is settled comes back for nobody, so the refusal comes at once."""
    house, wanted = Walked(), limit(Fit(least_tokens=5, wait_s=9))
    await house.store.reserve(reservation("ex_1:1", 140, wanted), AT_MS)
    await ending(house, 140)()

    with pytest.raises(BudgetExceeded):
        await fitting(house, wanted).hold(AT_MS)

    assert AT_MS == house.clock.at_ms


async def test_money_that_no_total_shows_halves_the_call() -> None:
    """What the ledger has set aside for other replicas is in no total: a refused amount is tried by halves."""
    house, wanted = Walked(), limit(Fit(least_tokens=8), cap=110)
    real = house.store.reserve
    tried: list[int] = []

    class Aside:
        def __getattr__(self, name: str) -> object:
            return getattr(house.store, name)

        async def reserve(self, asked: Reservation, at_ms: int) -> None:
            tried.append(asked.amount_nanousd)
            if asked.amount_nanousd > 20:
                raise BudgetExceeded("full", rule=wanted.rule)
            await real(asked, at_ms)

    house.house.budgets = Aside()  # type: ignore[assignment]  # all but one method is the store's own

    assert 8 == await fitting(house, wanted).hold(AT_MS)
    assert [110, 110, 60, 35, 22, 18] == tried


async def test_a_limit_that_takes_no_less_refuses() -> None:
    """One of two limits lets calls be shorter; the other refuses first, and that stands."""
    house = Walked()
    strict = limit(cap=100, rule="p/strict@1", scope="agent:b")

    with pytest.raises(BudgetExceeded) as refused:
        await fitting(house, limit(Fit(least_tokens=1), cap=1000), strict).hold(AT_MS)

    assert "p/strict@1" == refused.value.rule
    assert 0 == await held(house)


async def test_one_call_is_made_to_fit_its_own_limit() -> None:
    """A limit on the call itself has no counter: the call is made as short as it says."""
    house = Walked()
    own = limit(Fit(least_tokens=1), cap=60, scope="request")

    assert 50 == await fitting(house, own).hold(AT_MS)
    assert 0 == await held(house)
