"""Owns the nouns that tests put into stores, with every field they do not care about filled in."""

from __future__ import annotations

from proxy.terms import (
    Attempt,
    Caller,
    Cost,
    Decision,
    Exchange,
    Handoff,
    Held,
    Level,
    Limit,
    Phase,
    Reservation,
    Session,
    Settlement,
    Stand,
    State,
    Target,
    Tried,
    Usage,
    Verdict,
)

AT_MS = 1_767_225_600_000
LEASE_MS = 60_000
LATER_MS = AT_MS + LEASE_MS + 1
"""A time at which a lease taken at AT_MS has run out."""
DAY = ("agent:a", "day")
MONTH = ("tenant:t", "month")
TARGET = Target(alias="a", provider="p", model="m")


def limit(counter: tuple[str, str] = DAY, cap: int = 100, rule: str = "pack/cap@1", message: str = "") -> Limit:
    """Make a limit."""
    return Limit(rule=rule, scope=counter[0], window=counter[1], cap_nanousd=cap, message=message)


def reservation(name: str, amount: int, *limits: Limit) -> Reservation:
    """Make a reservation taken at AT_MS for an exchange's first attempt."""
    return Reservation(id=f"{name}:1", amount_nanousd=amount, limits=limits, expires_ms=AT_MS + LEASE_MS)


def settlement(name: str, nanousd: int, counters: tuple[tuple[str, str], ...] = (DAY,), tokens: int = 7) -> Settlement:
    """Make a settlement of an exchange's first attempt."""
    return Settlement(reservation_id=f"{name}:1", nanousd=nanousd, tokens=tokens, counters=counters)


def attempt(
    name: str,
    number: int = 1,
    state: State = State.DISPATCHED,
    cost: int | None = None,
    started_ms: int = AT_MS,
) -> Attempt:
    """Make an attempt that counts under DAY; one that has ended used 3 + 4 tokens."""
    usage = Usage() if state is State.DISPATCHED else Usage(input_tokens=3, output_tokens=4)
    return Attempt(
        number=number,
        reservation_id=f"{name}:{number}",
        target=TARGET,
        started_ms=started_ms,
        state=state,
        usage=usage,
        cost=Cost(nanousd=cost),
        counters=(DAY,),
    )


def exchange(
    name: str,
    state: State = State.COMPLETE,
    *attempts: Attempt,
    session: str = "s",
    turn: int = 1,
    started_ms: int = AT_MS,
) -> Exchange:
    """Make a record with one decision."""
    return Exchange(
        id=name,
        started_ms=started_ms,
        endpoint="/v1/chat/completions",
        caller=Caller(agent="a", level=Level.ASSIST, principal="p"),
        session=Session(id=session, turn=turn),
        stream=False,
        model_asked="m",
        state=state,
        attempts=attempts,
        cost=attempts[-1].cost if attempts else Cost(nanousd=None),
        decisions=(Decision(id=f"{name}-request", phase=Phase.REQUEST, verdict=Verdict.ALLOW),),
    )


def stand(session: str, end: str = "", *marks: str, user: str = "", turn: int = 1) -> Stand:
    """Make where a call leaves its conversation."""
    return Stand(session_id=session, turn=turn, user=user, end=end, marks=marks)


def sent(name: str, *before: Attempt, started_ms: int = AT_MS) -> Exchange:
    """Make the record of an exchange whose newest attempt is on its way."""
    return exchange(name, State.DISPATCHED, *before, attempt(name, len(before) + 1, started_ms=started_ms))


def held(name: str, key: str = "k", at_ms: int = AT_MS, ttl_ms: int = LEASE_MS) -> Held:
    """Make an action that was put down at a time."""
    return Held(
        id=name,
        key=key,
        session_id="s",
        agent="a",
        tenant="t",
        tool="refund",
        arguments='{"amount":50}',
        rule="pack/refund@1",
        created_ms=at_ms,
        expires_ms=at_ms + ttl_ms,
    )


def handoff(name: str, session: str = "s", at_ms: int = AT_MS) -> Handoff:
    """Make a packet."""
    return Handoff(
        id=name,
        session_id=session,
        exchange_id="ex_1",
        at_ms=at_ms,
        agent="a",
        tenant="t",
        queue="default",
        rule="pack/angry@1",
        reason="the customer asks for a person",
        tried=(Tried(tool="refund", arguments="{}", outcome="refused"),),
        identifiers={"email": ("a@example.com",)},
    )
