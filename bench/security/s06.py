"""Owns row S6: every route of every listener wants its proof, and no forged one opens.

The routes are those that the three listeners themselves know; a route for which nothing here says what it wants fails
the row. Everything is asked of a Handrail that is a process of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from bench.chaos.rows_api import Plan
from bench.chaos.serving import Served, serving, until
from bench.security import forging, tokens
from bench.security.asking import ask
from bench.security.forging import Forged, Proofs, bearer
from bench.security.outcomes import Line, count, enough
from proxy.identity import new_key
from proxy.ports import Clock, Rulings
from proxy.server import routes
from proxy.server.admin import Admin
from proxy.server.health import Health
from proxy.snapshot import Limits
from proxy.terms import Caller, Head

TITLE = "every route has an authentication check; forged identities accepted"
LEAST_FORGED = 40
REFUSED = (400, 401, 403)

OPEN = {
    "/healthz": "a probe has no proof; it is told whether the loop moves",
    "/readyz": "a probe has no proof; it is told why no call is taken",
    "/metrics": "a scraper in the perimeter; names and counts, never content",
}
"""What is open on purpose, and why."""

CONFIG = """\
providers: {simulated: {dialect: simulated, prices: openai}}
models:
  small: {provider: simulated, model: gpt-5-nano}
  big: {provider: simulated, model: gpt-5}
auth:
  keys_file: keys.yaml
"""


class Route(NamedTuple):
    """Something to ask for."""

    listener: str
    method: str
    path: str


class House(NamedTuple):
    """A Handrail, and what opens it."""

    served: Served
    proofs: Proofs

    def address(self, listener: str) -> str:
        """Return where a listener is."""
        return {
            "data": f"127.0.0.1:{self.served.port}",
            "admin": self.served.admin_url,
            "health": self.served.health_url,
        }[listener]


def table() -> list[Route]:
    """Return every route of the three listeners, as they know them, with an id for a place that takes any."""
    admin = Admin(
        Path(),
        dict,
        dict,
        error=lambda error: (Head(status=error.status), b""),
        on_bug=lambda _: None,
        limits=Limits(),
        desk=cast(Rulings, object()),
        clock=cast(Clock, object()),
    )
    health = Health(float, tuple, lambda: (b"", ""))
    data = [(endpoint.method, endpoint.path) for endpoint in routes.ENDPOINTS]
    known = {"data": data, "admin": admin.routes, "health": health.routes}
    return [
        Route(listener, method, re.sub(r"\{id\}|\([^)]*\)", "x", path))
        for listener, found in known.items()
        for method, path in found
    ]


# --- what each route wants ------------------------------------------------------------------------------------------


def _status(house: House, route: Route, proof: str | None) -> int:
    headers = () if proof is None else bearer(proof)
    body = b"{}" if route.method == "POST" else None
    return ask(house.address(route.listener), route.method, route.path, headers, body).status


def _key(house: House, route: Route) -> bool:
    """A key opens; nothing, or the admin token, does not."""
    closed = [_status(house, route, proof) for proof in (None, house.proofs.admin)]
    return closed == [401, 401] and _status(house, route, house.proofs.second) != 401


def _token(house: House, route: Route) -> bool:
    """The admin token opens; nothing, or a key, does not."""
    closed = [_status(house, route, proof) for proof in (None, house.proofs.second)]
    return closed == [401, 401] and _status(house, route, house.proofs.admin) != 401


def _open(house: House, route: Route) -> bool:
    """It is open on purpose, and a proof makes no difference."""
    return [_status(house, route, proof) for proof in (None, house.proofs.admin)] == [200, 200]


CHECKS: Mapping[str, Callable[[House, Route], bool]] = {"data": _key, "admin": _token, "health": _open}


def unchecked(found: list[Route]) -> list[str]:
    """Return the routes of which nothing here says what they want."""
    return [
        f"{route.listener}: {route.method} {route.path} has no check"
        for route in found
        if route.listener not in CHECKS or (route.listener == "health" and route.path not in OPEN)
    ]


def unguarded(house: House, found: list[Route]) -> list[str]:
    """Return the routes that answer otherwise than their check wants."""
    return [
        f"{route.listener}: {route.method} {route.path} is not guarded as it should be"
        for route in found
        if route.listener in CHECKS and not CHECKS[route.listener](house, route)
    ]


# --- the forged -----------------------------------------------------------------------------------------------------


def caller(house: House, forged: Forged) -> tuple[int, Caller | None]:
    """Make a call; return its status, and who its record says has called."""
    reply = ask(house.address(forged.listener), forged.method, forged.path, forged.headers, forged.body)
    found: list[Caller] = []

    def recorded() -> bool:
        found.extend(record.caller for record in house.served.records() if record.id == reply.decision)
        return bool(found)

    if reply.status == 200 and reply.decision:
        until(recorded)
    return reply.status, found[0] if found else None


def accepted(house: House, forged: list[Forged]) -> list[str]:
    """Return the forged identities that got in, or more than they were granted."""
    honest = caller(house, Forged("honest", bearer(house.proofs.good)))
    if honest[0] != 200 or honest[1] is None:
        raise RuntimeError(f"the honest call was answered with {honest[0]}")
    found = []
    for attempt in forged:
        status, seen = caller(house, attempt)
        unmoved = attempt.widening and (status, seen) == honest
        if status not in REFUSED and not unmoved:
            found.append(f"{attempt.name}: {status}, as {seen.principal if seen else 'nobody'}")
    return found


# --- the house ------------------------------------------------------------------------------------------------------


def _entry(name: str, sha256: str, **grant: object) -> dict[str, object]:
    return {"name": name, "sha256": sha256, **grant}


@contextmanager
def opened(plan: Plan) -> Iterator[tuple[House, Callable[[], None]]]:
    """Run a Handrail with a good, an expired and a second key; gives what revokes the second as well."""
    dice = plan.dice("keys")
    good, expired, second = (new_key(dice.randbytes(16)) for _ in range(3))
    kept = [
        _entry("web", good[1], agent="web", models=["small"], endpoints=["chat.completions"], claims={"tier": "free"}),
        _entry("old", expired[1], expires="2020-01-01"),
    ]
    path = plan.folder / "keys.yaml"
    path.write_bytes(msgspec.json.encode([*kept, _entry("second", second[1])]))
    (plan.folder / "jwks.json").write_bytes(tokens.KEY_SET)
    with serving(plan.folder, CONFIG + tokens.CONFIG) as served:
        token = (served.state.parent / "admin.token").read_text().strip()
        house = House(served, Proofs(good=good[0], second=second[0], expired=expired[0], admin=token))

        def revoke() -> None:
            path.write_bytes(msgspec.json.encode(kept))
            if not until(lambda: _status(house, Route("data", "GET", "/v1/models"), second[0]) == 401):
                raise RuntimeError("the key that was revoked still opens")

        yield house, revoke


def run(plan: Plan) -> list[Line]:
    """Ask for every route, then forge."""
    found = table()
    with opened(plan) as (house, revoke):
        loose = unguarded(house, found)
        revoke()
        at_s = int(time.time())
        token = tokens.good(at_s)
        opens = caller(house, Forged("token", bearer(token)))[0] == 200
        forged = [*forging.everything(house.proofs), *tokens.forged(token, at_s)]
        into = accepted(house, forged)
    return [
        count("S6", f"of {len(found)} routes without an authentication check", unchecked(found)),
        count("S6", f"of {len(found)} routes not guarded as their check wants", loose),
        enough("S6", "forged identities tried", len({attempt.name for attempt in forged}), LEAST_FORGED),
        count("S6", "forged identities accepted", into),
        count("S6", "true proofs refused", [] if opens else ["the issuer's token"]),
    ]
