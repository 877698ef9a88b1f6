"""Owns the choice of where a call goes: which targets, in which order, and why.

In: what was asked, what policy said, quotes, health. Out: a Route. Never: I/O, or a target that cannot do the call.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from proxy.errors import NotFound
from proxy.terms import Quote, Request, Route, Target, Way

KEPT_TIMES = 64
"""Times to the first byte that are kept of each target."""
RETRIES_AT_ONCE = 20
"""Attempts beyond a call's first that a provider can get at once."""
RETRIES_PER_S = 1.0
"""How many of them come back with time, so that a provider that has failed is asked again."""
RETRIES_PER_CALL = 0.2
"""How many come back with a first attempt that went well."""
Unlisted = Literal["pass", "default", "deny"]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The places that calls can go to, as config names them."""

    targets: Mapping[str, Target]
    pools: Mapping[str, tuple[str, ...]] = {}
    default_model: str = ""
    default_provider: str = ""
    unlisted: Unlisted = "pass"

    def expand(self, name: str) -> tuple[Target, ...]:
        """Return the targets of an alias or pool, in order; empty when there is no such name."""
        if name in self.targets:
            return (self.targets[name],)
        return tuple(self.targets[alias] for alias in self.pools.get(name, ()))

    def asked(self, model: str) -> tuple[Target, ...]:
        """Return the targets that a client means by `model`; raise NotFound when it may not be asked for."""
        if found := self.expand(model):
            return found
        if self.unlisted == "pass" and self.default_provider:
            return (Target(alias=model, provider=self.default_provider, model=model),)
        if self.unlisted == "default" and (found := self.expand(self.default_model)):
            return found
        raise NotFound(f"The model {model!r} does not exist here.", code="model_not_found", param="model")


class Health:
    """A circuit breaker per target: after `trips` faults in a row it is unhealthy for `rest_ms`."""

    def __init__(self, trips: int = 5, rest_ms: int = 30_000) -> None:
        self._trips = trips
        self._rest_ms = rest_ms
        self._times: dict[str, deque[float]] = {}
        self._faults: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def note(self, alias: str, ok: bool, at_ms: float) -> None:
        """Take in how one attempt at a target ended, and when: a target that says nothing has its rest after that."""
        if ok:
            self._faults.pop(alias, None)
            self._until.pop(alias, None)
            return
        faults = self._faults.get(alias, 0) + 1
        self._faults[alias] = faults
        if faults >= self._trips:
            self._until[alias] = at_ms + self._rest_ms

    def timed(self, alias: str, ms: float) -> None:
        """Take in how long one attempt at a target took to its first byte."""
        if alias not in self._times:
            self._times[alias] = deque(maxlen=KEPT_TIMES)
        self._times[alias].append(ms)

    def median_ms(self, alias: str) -> float | None:
        """Return the median of the newest times to the first byte of a target; None where there was none."""
        times = self._times.get(alias)
        return statistics.median(times) if times else None

    def healthy(self, alias: str, at_ms: float) -> bool:
        """Say whether a target may be tried now; after its rest one fault is enough to trip it again."""
        return self._until.get(alias, 0) <= at_ms


class Retries:
    """What keeps attempts beyond a call's first from making a failing provider's load a multiple of the calls: each
    provider has so many, one that goes well is given back, one that fails is not."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._counted_ms: dict[str, float] = {}

    def take(self, provider: str, at_ms: float) -> bool:
        """Say whether a call that has failed elsewhere may be sent to a provider now; if so, it is counted."""
        passed_s = (at_ms - self._counted_ms.get(provider, at_ms)) / 1000
        self._counted_ms[provider] = at_ms
        self._give(provider, passed_s * RETRIES_PER_S)
        granted = self._left[provider] >= 1
        self._left[provider] -= granted
        return granted

    def went_well(self, provider: str, *, retry: bool) -> None:
        """Take in that an attempt went well: one beyond the call's first costs nothing then."""
        self._give(provider, 1 if retry else RETRIES_PER_CALL)

    def _give(self, provider: str, count: float) -> None:
        self._left[provider] = min(RETRIES_AT_ONCE, self._left.get(provider, RETRIES_AT_ONCE) + count)


def needs(request: Request) -> frozenset[str]:
    """Return the capability tags that a target must have to be chosen for this request."""
    wanted = set()
    if request.tools:
        wanted.add("tools")
    if request.structured:
        wanted.add("json")
    for message in request.messages:
        for kind in message.media:
            wanted.add({"image_url": "vision", "input_audio": "audio"}.get(kind, "files"))
    return frozenset(wanted)


def choose(
    table: Table,
    request: Request,
    way: Way | None,
    *,
    quote: Callable[[Target], Quote],
    healthy: Callable[[str], bool],
    input_tokens: int,
) -> Route:
    """Return the targets to try, best first; raise NotFound when the model may not be asked for.

    What the client itself asked for is not checked for capability: that choice is the client's.
    """
    asked = table.asked(request.model)
    if way is None:
        return _route(asked, request, "asked", healthy, quote, asked)
    wanted = needs(request)
    fit = [t for t in _wished(table, way) if _capable(t, wanted, input_tokens)]
    reason = f"policy {way.rule}" if way.rule else "policy"
    if way.cheapest:
        fit = _by_price(fit, quote)
        reason += ": cheapest" + (f" of {', '.join(way.tags)}" if way.tags else "")
    else:
        reason += f": {way.to}"
    for name in way.fallback:
        fit += [t for t in table.expand(name) if t not in fit and _capable(t, wanted, input_tokens)]
    if not fit:
        reason += "; none can do this call, so as asked"
    return _route(tuple(fit) or asked, request, reason, healthy, quote, asked)


def _wished(table: Table, way: Way) -> Iterable[Target]:
    if not way.cheapest:
        return table.expand(way.to)
    pool = table.expand(way.to) if way.to else tuple(table.targets.values())
    return (t for t in pool if set(way.tags) <= set(t.tags))


def _capable(target: Target, wanted: frozenset[str], input_tokens: int) -> bool:
    fits = not target.context or input_tokens <= target.context
    return fits and wanted <= set(target.tags)


def _by_price(targets: list[Target], quote: Callable[[Target], Quote]) -> list[Target]:
    priced = [(q.est_nanousd, q.target.alias, q.target) for q in map(quote, targets) if q.est_nanousd is not None]
    return [target for _, _, target in sorted(priced, key=lambda row: row[:2])]


def _route(
    targets: tuple[Target, ...],
    request: Request,
    reason: str,
    healthy: Callable[[str], bool],
    quote: Callable[[Target], Quote],
    asked: tuple[Target, ...],
) -> Route:
    well = tuple(t for t in targets if healthy(t.alias))
    if not well:
        # Every target rests: trying one is the only way to learn that it is back.
        well, reason = targets, f"{reason}; all unhealthy"
    elif well[0] != targets[0]:
        reason = f"{reason}; {targets[0].alias} is unhealthy"
    return Route(targets=well, reason=reason, asked=request.model, saved_nanousd=_saving(well[0], asked[0], quote))


def _saving(taken: Target, asked: Target, quote: Callable[[Target], Quote]) -> int:
    if taken == asked:
        return 0
    before, after = quote(asked).est_nanousd, quote(taken).est_nanousd
    return 0 if before is None or after is None else before - after
