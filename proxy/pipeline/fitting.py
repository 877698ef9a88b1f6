"""Owns how a call gets room under spend limits: as it was asked, else after waiting for others, else made shorter.

Invariant: what is sent can never cost more than what is held for it. So less is held first, and then the call is sent
with the limit on its output that was held for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from proxy.errors import BudgetExceeded
from proxy.pipeline.house import House
from proxy.terms import Limit, Reservation

ONE_CALL = "request"
"""The scope of a limit on the call itself: compared with its ceiling, no counter is kept."""
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.25


class Fitting:
    """Finds room for one attempt of which `most` output tokens are asked; `ceiling` is the most nano-dollars that it
    costs with so many."""

    def __init__(
        self, house: House, limits: Sequence[Limit], ceiling: Callable[[int], int], most: int, reservation: Reservation
    ) -> None:
        self._house = house
        self._limits = {limit.rule: limit for limit in limits}
        self._ceiling = ceiling
        self._most = most
        self._reservation = replace(reservation, limits=tuple(lim for lim in limits if lim.scope != ONE_CALL))
        self._began_ms = house.clock.monotonic_ms()

    async def hold(self, at_ms: int) -> int:
        """Hold money under every limit; return for how many output tokens. Raise BudgetExceeded naming the limit that
        has no room."""
        pause_s = FIRST_PAUSE_S
        while refusal := await self._refusal(self._most, at_ms):
            fit = self._limits[refusal.rule].fit
            if fit is None:
                raise refusal
            least = fit.least_tokens or self._most
            now, later = await self._room()
            waits = later >= least and self._house.clock.monotonic_ms() - self._began_ms < fit.wait_s * 1000
            # As long as others may give back more than there is, a whole reply is worth waiting for.
            for tokens in _shorter(now, least) if now >= later or not waits else ():
                if not await self._refusal(tokens, at_ms):
                    return tokens
            if not waits:
                raise refusal
            await self._house.pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return self._most

    async def _refusal(self, tokens: int, at_ms: int) -> BudgetExceeded | None:
        """Hold what so many tokens can cost, or return the refusal."""
        held = replace(self._reservation, amount_nanousd=self._ceiling(tokens))
        for limit in self._limits.values():
            if limit.scope == ONE_CALL and held.amount_nanousd > limit.cap_nanousd:
                return BudgetExceeded(limit.message or "This call would cost more than it may.", rule=limit.rule)
        try:
            if held.limits:
                await self._house.budgets.reserve(held, at_ms)
        except BudgetExceeded as error:
            return error
        return None

    async def _room(self) -> tuple[int, int]:
        """Return for how many tokens there is room, and for how many there is if others give back all they hold."""
        counted = self._reservation.limits
        totals = await self._house.budgets.totals([(limit.scope, limit.window) for limit in counted])
        later = [limit.cap_nanousd for limit in self._limits.values() if limit.scope == ONE_CALL]
        now = list(later)
        for limit, total in zip(counted, totals, strict=True):
            later.append(limit.cap_nanousd - total.nanousd)
            now.append(later[-1] - total.reserved_nanousd)
        return self._tokens(min(now)), self._tokens(min(later))

    def _tokens(self, nanousd: int) -> int:
        return bisect_right(range(self._most + 1), nanousd, key=self._ceiling) - 1


def _shorter(tokens: int, least: int) -> Iterator[int]:
    """Yield what to try: others may be faster, and what the ledger has set aside for other replicas is in no total."""
    if tokens < least:
        return
    while tokens > least:
        yield tokens
        tokens //= 2
    yield least
