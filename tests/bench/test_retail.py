"""Owns the proof that the retail pack lets right dialogues through and stops broken ones."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench.retail import Desk, offered, replay, snapshot, stopped, tallied
from bench.retail_dialogues import FOLDER, Dialogue, Turn, asked, called, spoken, tasks
from bench.retail_variants import KINDS, Kind, broken, changes
from tests.walking import PLAIN

PACK = snapshot()
CARD, GIFT = "credit_card_1", "gift_card_1"
METHODS = {CARD: {"source": "credit_card"}, GIFT: {"source": "gift_card", "balance": 500.0}}
MUGS = {name: {"available": True, "price": price} for name, price in (("red", 10.0), ("blue", 12.0))}
CHANGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("cancel_pending_order", "cancelled", {"reason": "no longer needed"}),
    ("modify_pending_order_payment", "pending", {"payment_method_id": GIFT}),
    ("modify_pending_order_items", "pending (item modified)", {"new_item_ids": ["blue"]}),
    ("return_delivered_order_items", "return requested", {"payment_method_id": GIFT}),
    ("exchange_delivered_order_items", "exchange requested", {"new_item_ids": ["blue"]}),
)
READS = (
    "find_user_id_by_email",
    "get_user_details",
    "get_order_details",
    "get_product_details",
    "list_all_product_types",
)
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "required": needed}}}
    for names, needed in (
        ((*READS, "modify_user_address", "transfer_to_human_agents"), []),
        ((name for name, _, _ in CHANGES), ["order_id"]),
    )
    for name in names
]


def change(number: int, name: str, status: str, args: dict[str, Any]) -> list[Turn]:
    """Look an order up, ask, and change it."""
    order = {
        "order_id": f"#{number}",
        "user_id": "ann_bell_1",
        "status": "delivered" if "delivered" in name else "pending",
        "items": [{"item_id": "red", "product_id": "mug", "price": 10.0}],
        "payment_history": [{"payment_method_id": CARD, "amount": 10.0}],
    }
    items = {} if name in ("cancel_pending_order", "modify_pending_order_payment") else {"item_ids": ["red"]}
    paid = {} if name == "cancel_pending_order" else {"payment_method_id": CARD}
    return [
        called("get_order_details", {"order_id": f"#{number}"}, order),
        Turn(text=f"Shall I do that with order #{number}?"),
        asked("Yes, please."),
        called(name, {"order_id": f"#{number}", **items, **paid, **args}, order | {"status": status}, recorded=True),
    ]


OURS = Dialogue(
    id="ours",
    turns=(
        asked("Hi, I am Ann, ann@example.com."),
        called("find_user_id_by_email", {"email": "ann@example.com"}, "ann_bell_1"),
        called("get_user_details", {"user_id": "ann_bell_1"}, {"payment_methods": METHODS}),
        called("get_product_details", {"product_id": "mug"}, {"product_id": "mug", "variants": MUGS}),
        *(turn for number, row in enumerate(CHANGES) for turn in change(number, *row)),
        Turn(text="All of that is done."),
    ),
)


async def test_a_right_dialogue_walks_through() -> None:
    """Every change that the pack knows passes where all that it asks for was done."""
    assert [] == await replay(OURS, PACK, TOOLS)


async def test_a_long_conversation_is_still_decided_by_rules() -> None:
    """A hundred earlier look-ups use up no budget: what is right then still passes."""
    order = {
        "user_id": "ann_bell_1",
        "status": "delivered",
        "items": [{"item_id": "red", "product_id": "mug", "price": 1.0}],
    }
    products = [called("get_product_details", {}, {"product_id": str(n), "variants": MUGS}) for n in range(50)]
    orders = [called("get_order_details", {}, order | {"order_id": str(n)}) for n in range(50)]
    turns = (*OURS.turns[:3], *products, *orders, *OURS.turns[3:])
    long = Dialogue(id="long", turns=turns)

    assert [None] * len(CHANGES) == [await Desk(PACK, TOOLS).answer(long, at) for at in changes(long)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
async def test_what_is_broken_is_stopped(kind: Kind) -> None:
    """A rule of its own kind stops each dialogue that is broken so, and nothing does without the pack."""
    cases = [case for case in broken(OURS) if case.kind == kind]

    assert {(True, False)} == {(await stopped(case, PACK, TOOLS), await stopped(case, PLAIN, TOOLS)) for case in cases}


def test_calls_are_told_from_their_results(tmp_path: Path) -> None:
    """A dialogue that names no call is read: from what a result says, and from what it changed."""
    order: dict[str, Any] = {"order_id": "#1", "status": "pending"}
    cancelled = order | {"status": "cancelled", "cancel_reason": "ordered by mistake"}
    lines = [
        "user: Hi, I am ann@example.com.",
        "assistant: None",
        "tool: ann_bell_1",
        *("assistant: Let me see.", f"tool: {json.dumps(order)}"),
        *("assistant: None", f"tool: {json.dumps(cancelled)}"),
        *("assistant: None", "tool: Error: of a kind that nobody knows"),
        "assistant: Done.",
    ]
    (tmp_path / FOLDER).mkdir()
    with gzip.open(tmp_path / FOLDER / "few_shot_dialogues.jsonl.gz", "wt") as file:
        file.write(json.dumps({"messages_display": "\n".join(lines)}))

    (dialogue,) = spoken(tmp_path)

    assert [
        ("find_user_id_by_email", {"email": "ann@example.com"}),
        ("get_order_details", {"order_id": "#1"}),
        ("cancel_pending_order", {"order_id": "#1", "reason": "ordered by mistake"}),
    ] == [(call.name, call.args) for turn in dialogue.turns for call in turn.calls]
    assert ("Done.", 1) == (dialogue.turns[-1].text, dialogue.unread)


async def test_no_recorded_call_that_is_right_is_hindered(real_data: Path) -> None:
    """Of 200 recorded tasks only the five calls are stopped that the set's own tools refused, for the same reason."""
    tally = await tallied(tasks(real_data), PACK, offered(real_data))

    assert (200, []) == (tally.dialogues, tally.hindered)
    assert [{"gift-card-pays-order"}] * 3 + [{"gift-card-pays-difference"}] * 2 == sorted(
        (set(stop.rules) for stop in tally.stops), key=str, reverse=True
    )


async def test_recorded_tasks_that_are_broken_are_stopped(real_data: Path) -> None:
    """What makes a recorded task wrong is stopped by a rule of its kind; bench/retail.py tries all of them."""
    tools = offered(real_data)
    cases = [case for dialogue in islice(tasks(real_data), 0, None, 25) for case in broken(dialogue)]

    assert [] == [(case.kind.name, case.dialogue.id) for case in cases if not await stopped(case, PACK, tools)]
    assert len(cases) > 200
