"""Owns what breaks a dialogue that is right: a small change for each thing that rules/retail forbids. See retail.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from bench.retail_dialogues import ADDRESS, Call, Dialogue, Turn, asked, called, parsed

Plan: TypeAlias = tuple[tuple[Turn, ...], int]
"""Turns, and which of them must not pass."""
Breaker: TypeAlias = Callable[[tuple[Turn, ...], int], Plan | None]
"""Turns, and which of them makes a change -> a plan; nothing where the change cannot be broken so."""

ELSE, NOBODY, CARD, GIFT = "mallory_stone_9999", "0000000000", "paypal_0000001", "gift_card_0000001"
CHANGES = ("_pending_order", "_delivered_order_items")
ITEMS = ("modify_pending_order_items", "return_delivered_order_items", "exchange_delivered_order_items")
SWAPS = ("modify_pending_order_items", "exchange_delivered_order_items")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One way to break a dialogue, and the rules of which one has to stop it."""

    name: str
    rules: frozenset[str]
    breaker: Breaker


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """One broken dialogue."""

    kind: Kind
    dialogue: Dialogue
    at: int


def changes(dialogue: Dialogue) -> list[int]:
    """Return the turns that change an order, and whose change was carried out."""
    return [
        number
        for number, turn in enumerate(dialogue.turns)
        for call in turn.calls
        if turn.recorded and any(part in call.name for part in CHANGES) and parsed(call.result)
    ]


def broken(dialogue: Dialogue) -> Iterator[Broken]:
    """Break each change of a dialogue in each way that fits it."""
    for at in changes(dialogue):
        for kind in KINDS:
            plan = kind.breaker(dialogue.turns, at)
            if plan:
                yield Broken(kind=kind, dialogue=replace(dialogue, turns=plan[0]), at=plan[1])


# --- how turns are changed --------------------------------------------------------------------------------------------


def _call(turns: tuple[Turn, ...], at: int) -> Call:
    return turns[at].calls[0]


def _order(call: Call) -> str:
    return str(parsed(call.result).get("order_id", ""))


def _with(turns: tuple[Turn, ...], at: int, turn: Turn) -> Plan:
    return (*turns[:at], turn, *turns[at + 1 :]), at


def _before(turns: tuple[Turn, ...], at: int, *inserted: Turn) -> Plan:
    """Insert turns ahead of what was proposed and agreed to."""
    return (*turns[: at - 2], *inserted, *turns[at - 2 :]), at + len(inserted)


def _lacking(turns: tuple[Turn, ...], at: int, drop: Callable[[Call], bool]) -> Plan | None:
    kept = tuple(turn for turn in turns[:at] if not any(map(drop, turn.calls)))
    return ((*kept, *turns[at:]), len(kept)) if len(kept) < at else None


def _rearranged(turns: tuple[Turn, ...], at: int, change: Callable[[Call], dict[str, Any]]) -> Plan:
    """Change the results before a turn; an empty change leaves a result as it is."""

    def changed(call: Call) -> Call:
        more = change(call)
        return replace(call, result=json.dumps(parsed(call.result) | more)) if more else call

    return (*(replace(turn, calls=tuple(map(changed, turn.calls))) for turn in turns[:at]), *turns[at:]), at


def _asking(*names: str, **more: Any) -> Breaker:
    """Call with other arguments, if it is a call of these."""

    def breaker(turns: tuple[Turn, ...], at: int) -> Plan | None:
        call = _call(turns, at)
        if call.name not in names:
            return None
        given = {key: value(call) if callable(value) else value for key, value in more.items()}
        return _with(turns, at, replace(turns[at], calls=(replace(call, args={**call.args, **given}),)))

    return breaker


def _instead(name: str, args: Mapping[str, Any]) -> Breaker:
    """Make another call in place of the change."""
    return lambda turns, at: _with(turns, at, called(name, args, ""))


def _first(wanted: str) -> Callable[[Call], list[str]]:
    """Put another item in the place of the first one of a list."""
    return lambda call: [NOBODY, *call.args[wanted][1:]]


# --- what is broken ---------------------------------------------------------------------------------------------------


def _unasked(turns: tuple[Turn, ...], at: int) -> Plan | None:
    """Leave out the proposal and the answer, unless an earlier answer may stand for this order as well."""
    order = _order(_call(turns, at))
    seen = next(number for number, turn in enumerate(turns) if any(_order(call) == order for call in turn.calls))
    answered = any(turn.role == "user" for turn in turns[seen : at - 2])
    return None if answered else ((*turns[: at - 2], *turns[at:]), at - 2)


def _in_state(status: str) -> Breaker:
    def breaker(turns: tuple[Turn, ...], at: int) -> Plan | None:
        call = _call(turns, at)
        fits = status == ("delivered" if call.name.endswith(CHANGES[1]) else "pending")
        order = {"status": status}
        return None if fits else _rearranged(turns, at, lambda seen: order if _order(seen) == _order(call) else {})

    return breaker


def _foreign(turns: tuple[Turn, ...], at: int) -> Plan:
    wanted = _order(_call(turns, at))
    return _rearranged(turns, at, lambda seen: {"user_id": ELSE} if _order(seen) == wanted else {})


def _peeked(turns: tuple[Turn, ...], at: int) -> Plan:
    order = {"order_id": "#W0000001", "user_id": ELSE, "status": "pending"}
    look = called("get_order_details", {"order_id": "#W0000001"}, order)
    return (*turns[:at], look, *turns[at:]), at + 1


def _again(turns: tuple[Turn, ...], at: int, *between: Turn) -> Plan:
    more = (*between, *turns[at - 2 : at + 1])
    return (*turns[: at + 1], *more), at + len(more)


def _twice(turns: tuple[Turn, ...], at: int) -> Plan | None:
    return _again(turns, at) if _call(turns, at).name in (*ITEMS, "cancel_pending_order") else None


def _twice_unseen(turns: tuple[Turn, ...], at: int) -> Plan | None:
    """Look the order up in between, and be told that it is as it was."""
    call = _call(turns, at)
    seen = [turn for turn in turns[:at] if any(_order(other) == _order(call) for other in turn.calls)]
    return _again(turns, at, seen[-1]) if call.name in ITEMS else None


def _two(turns: tuple[Turn, ...], at: int) -> Plan:
    return _with(turns, at, replace(turns[at], calls=(*turns[at].calls, Call(name="list_all_product_types", args={}))))


def _other_product(turns: tuple[Turn, ...], at: int) -> Plan | None:
    plan = _asking(*SWAPS, new_item_ids=_first("new_item_ids"))(turns, at)
    offer = {"product_id": "another product", "variants": {NOBODY: {"available": True, "price": 1.0}}}
    return (
        _before(plan[0], at, called("get_product_details", {"product_id": "another product"}, offer)) if plan else None
    )


def _offered(turns: tuple[Turn, ...], at: int, **more: Any) -> Plan:
    """Change what is known of the new items."""
    new = _call(turns, at).args["new_item_ids"]

    def change(call: Call) -> dict[str, Any]:
        variants = parsed(call.result).get("variants", {})
        known = {name: variant | (more if name in new else {}) for name, variant in variants.items()}
        return {"variants": known} if known else {}

    return _rearranged(turns, at, change)


def _sold_out(turns: tuple[Turn, ...], at: int) -> Plan | None:
    return _offered(turns, at, available=False) if _call(turns, at).name in SWAPS else None


def _owning(plan: Plan | None, name: str, **method: Any) -> Plan | None:
    """Put a way to pay into the profile."""
    known = {name: {"id": name, **method}}

    def change(call: Call) -> dict[str, Any]:
        methods = parsed(call.result).get("payment_methods", {})
        return {"payment_methods": methods | known} if methods else {}

    return _rearranged(*plan, change) if plan else None


def _other_card(turns: tuple[Turn, ...], at: int) -> Plan | None:
    plan = _asking("return_delivered_order_items", payment_method_id=CARD)(turns, at)
    return _owning(plan, CARD, source="paypal")


def _poor_for_order(turns: tuple[Turn, ...], at: int) -> Plan | None:
    plan = _asking("modify_pending_order_payment", payment_method_id=GIFT)(turns, at)
    return _owning(plan, GIFT, source="gift_card", balance=0.5)


def _poor_for_difference(turns: tuple[Turn, ...], at: int) -> Plan | None:
    plan = _asking(*SWAPS, payment_method_id=GIFT)(turns, at)
    return _owning(_offered(*plan, price=100_000.0), GIFT, source="gift_card", balance=0.5) if plan else None


def _paid_with(turns: tuple[Turn, ...], at: int) -> Plan | None:
    call = _call(turns, at)
    paid = parsed(call.result)["payment_history"][0]["payment_method_id"]
    return _asking("modify_pending_order_payment", payment_method_id=paid)(turns, at)


def _other_profile(turns: tuple[Turn, ...], at: int) -> Plan | None:
    """Break the look-up of the profile, once for each dialogue."""
    again = any(turn.recorded for turn in turns[:at])
    seen = next(n for n, turn in enumerate(turns) if any(call.name == "get_user_details" for call in turn.calls))
    return None if again else _with(turns, seen, called("get_user_details", {"user_id": ELSE}, ""))


def _incomplete(turns: tuple[Turn, ...], at: int) -> Plan:
    call = _call(turns, at)
    args = {name: value for name, value in call.args.items() if name != "order_id"}
    return _with(turns, at, replace(turns[at], calls=(replace(call, args=args),)))


def _handed_over(turns: tuple[Turn, ...], at: int) -> Plan:
    handing = called("transfer_to_human_agents", {"summary": "as asked"}, "Transfer successful")
    return (*turns[:at], handing, *turns[at:]), at + 1


def _kind(name: str, rules: str, breaker: Breaker) -> Kind:
    return Kind(name=name, rules=frozenset(rules.split()), breaker=breaker)


MOVED = {"user_id": ELSE, **dict.fromkeys(ADDRESS, "elsewhere")}
OPINION = "I'd recommend this one, it's a great choice! Shall I go ahead?"


def _unidentified(turns: tuple[Turn, ...], at: int) -> Plan | None:
    return _lacking(turns, at, lambda call: call.name.startswith("find_user_id_"))


def _unseen(turns: tuple[Turn, ...], at: int) -> Plan | None:
    return _lacking(turns, at, lambda call: _order(call) == _order(_call(turns, at)))


def _unwanted(turns: tuple[Turn, ...], at: int) -> Plan:
    return _with(turns, at - 1, asked("No, please don't do that."))[0], at


def _one_more(call: Call) -> list[str]:
    return [*call.args["new_item_ids"], call.args["new_item_ids"][0]]


_NEW, _OLD = _first("new_item_ids"), _first("item_ids")
_STATES = ("pending", "processed", "delivered", "cancelled")
_PAID = (*ITEMS, "modify_pending_order_payment")

KINDS = (
    _kind("a tool that nobody offers", "known-tools.args", _instead("give_discount", {})),
    _kind("an argument is missing", "known-tools.args", _incomplete),
    _kind("two calls in one reply", "one-call-at-a-time", _two),
    _kind("a call with text beside it", "answer-or-act", lambda t, at: _with(t, at, replace(t[at], text="Doing it."))),
    _kind("an opinion", "no-opinions", lambda t, at: _with(t, at - 2, Turn(text=OPINION))),
    _kind("nobody was identified", "identify-first", _unidentified),
    _kind("somebody else is looked for", "one-customer", _instead("find_user_id_by_email", {"email": "m@example.com"})),
    _kind("somebody else's profile is read", "own-account", _other_profile),
    _kind("somebody else's address is changed", "own-account", _instead("modify_user_address", MOVED)),
    _kind("somebody else's order is read", "hide-other-accounts", _peeked),
    _kind("somebody else's order is changed", "own-order", _foreign),
    _kind("the order was not looked up", "look-first", _unseen),
    *(_kind(f"the order is {state}", "pending-only delivered-only", _in_state(state)) for state in _STATES),
    _kind("the same again", "once-per-order pending-only delivered-only", _twice),
    _kind("the same again, and the look-up is late", "once-per-order", _twice_unseen),
    _kind("nobody was asked", "confirm-first confirm-what-was-shown", _unasked),
    _kind("the customer said no", "confirm-first", _unwanted),
    _kind("another reason", "cancel-reason", _asking("cancel_pending_order", reason="found it cheaper")),
    _kind("an item that is not in the order", "items-of-the-order", _asking(*ITEMS, item_ids=_OLD)),
    _kind("an item of another product", "same-product", _other_product),
    _kind("an item that nobody looked up", "same-product", _asking(*SWAPS, new_item_ids=_NEW)),
    _kind("more new items than old ones", "same-product", _asking(*SWAPS, new_item_ids=_one_more)),
    _kind("an item that is sold out", "in-stock", _sold_out),
    _kind("somebody else's way to pay", "own-payment-method", _asking(*_PAID, payment_method_id=CARD)),
    _kind("paid as before", "other-payment-method", _paid_with),
    _kind("a refund to another card", "refund-goes-back", _other_card),
    _kind("a gift card too small for the order", "gift-card-pays-order", _poor_for_order),
    _kind("a gift card too small for the difference", "gift-card-pays-difference", _poor_for_difference),
    _kind("it goes on after handing over", "handed-over", _handed_over),
)
