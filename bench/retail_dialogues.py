"""Owns the recorded dialogues of tau-bench's retail desk, read into turns: `tasks` and `spoken`. See bench/retail.py.

Neither file holds whole dialogues. `tasks` are the calls that the set holds right, with their results, and nothing that
was said or looked up: the steps that the written policy asks for before a change are put in front of it, made from its
recorded result. `spoken` are dialogues as text that leave out which calls were made: these are told from their results.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

FOLDER = "tau-retail"
GIFT_BALANCE = 100_000.0
"""What a gift card is said to hold that paid for something; the set does not say."""
AGREES = "Yes, please go ahead."
ADDRESS = ("address1", "address2", "city", "state", "country", "zip")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+\w")
_USER = re.compile(r"[a-z]+_[a-z]+_\d+")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call and what came back."""

    name: str
    args: Mapping[str, Any]
    result: str = ""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the user or the assistant; the results of its calls follow it."""

    role: str = "assistant"
    text: str = ""
    calls: tuple[Call, ...] = ()
    recorded: bool = False
    """Whether the set holds this turn; the others are made from what it holds."""


class Dialogue(msgspec.Struct, frozen=True, kw_only=True):
    """One dialogue."""

    id: str
    turns: tuple[Turn, ...]
    unread: int = 0
    """Calls that are left out because nothing tells what they were."""


def called(name: str, args: Mapping[str, Any], result: object, **more: Any) -> Turn:
    """Make the turn of one call."""
    text = result if isinstance(result, str) else json.dumps(result)
    return Turn(calls=(Call(name=name, args=args, result=text),), **more)


def asked(text: str) -> Turn:
    """Make a turn of the user."""
    return Turn(role="user", text=text)


def parsed(text: str) -> dict[str, Any]:
    """Return the object that a result is, or an empty one."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Write turns as messages in OpenAI's form."""
    written: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        message: dict[str, Any] = {"role": turn.role, "content": turn.text or None}
        if turn.calls:
            message["tool_calls"] = [_call(f"call_{number}_{place}", call) for place, call in enumerate(turn.calls)]
        written.append(message)
        for place, call in enumerate(turn.calls):
            written.append({"role": "tool", "tool_call_id": f"call_{number}_{place}", "content": call.result})
    return written


def _call(name: str, call: Call) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.args)}}


# --- tasks ------------------------------------------------------------------------------------------------------------


def tasks(data: Path) -> Iterator[Dialogue]:
    """Give the tasks of the train split, each with the steps before its changes."""
    with gzip.open(data / FOLDER / "gt_conversations.train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield _task(json.loads(line))


def _task(task: Mapping[str, Any]) -> Dialogue:
    pairs = list(zip(task["gt_messages"][::2], task["gt_messages"][1::2], strict=True))
    recorded = [
        called(function["name"], json.loads(function["arguments"]), result["content"], recorded=True)
        for function, result in ((asking["tool_calls"][0]["function"], answer) for asking, answer in pairs)
    ]
    user = task["user_id"]
    first, last, _ = user.split("_")
    found = {"first_name": first.title(), "last_name": last.title(), "zip": _zip(task["instruction"])}
    turns = [
        asked(task["instruction"]),
        called("find_user_id_by_name_zip", found, user),
        called("get_user_details", {"user_id": user}, _profile(recorded, first, last)),
    ]
    seen: set[str] = set()
    for turn in recorded:
        turns += _looked_up(turn.calls[0], recorded, user, seen)
        turns += [Turn(text="These are the details. Shall I go ahead?"), asked(AGREES), turn]
    return Dialogue(id=task["id"], turns=tuple(turns))


def _zip(instruction: str) -> str:
    found = re.search(r"\b\d{5}\b", instruction)
    return found[0] if found else "00000"


def _profile(recorded: Sequence[Turn], first: str, last: str) -> dict[str, Any]:
    """Make the profile: every way to pay that the task names. A gift card whose call was refused holds nothing."""
    calls = [call for turn in recorded for call in turn.calls]
    orders = [parsed(call.result) for call in calls]
    names = {call.args["payment_method_id"] for call in calls if "payment_method_id" in call.args}
    names |= {entry["payment_method_id"] for order in orders for entry in order.get("payment_history", ())}
    empty = {call.args["payment_method_id"] for call in calls if call.result.startswith("Error")}
    return {
        "name": {"first_name": first.title(), "last_name": last.title()},
        "payment_methods": {name: _method(name, 0.0 if name in empty else GIFT_BALANCE) for name in sorted(names)},
        "orders": sorted({call.args["order_id"] for call in calls}),
    }


def _method(name: str, balance: float) -> dict[str, Any]:
    source = name.rpartition("_")[0]
    return {"source": source, "id": name, **({"balance": balance} if source == "gift_card" else {})}


def _looked_up(call: Call, recorded: Sequence[Turn], user: str, seen: set[str]) -> Iterator[Turn]:
    """Look up the order that a call is about, once, and the products of the items that it takes."""
    wanted = call.args["order_id"]
    related = [other for turn in recorded for other in turn.calls if other.args["order_id"] == wanted]
    order = _before(related, user)
    if wanted not in seen:
        seen.add(wanted)
        yield called("get_order_details", {"order_id": wanted}, order)
    if "new_item_ids" in call.args:
        yield from _products(order, call.args, _difference(related))


def _difference(related: Sequence[Call]) -> float:
    """Return what the exchange that is recorded for an order cost more, or less; a dollar if it was refused."""
    for call in related:
        order = parsed(call.result)
        if "exchange_price_difference" in order:
            return float(order["exchange_price_difference"])
        if order.get("status") == "pending (item modified)":
            entry = order["payment_history"][-1]
            return float(entry["amount"]) * (1 if entry["transaction_type"] == "payment" else -1)
    return 1.0


def _before(related: Sequence[Call], user: str) -> dict[str, Any]:
    """Return the order as it stood before the first of these calls."""
    results = [parsed(call.result) for call in related]
    known: dict[str, Any] = next((result for result in results if result), {"order_id": related[0].args["order_id"]})
    delivered = related[0].name.endswith("_delivered_order_items")
    items = [dict(item) for item in known.get("items", ())] or [
        _item(name) for name in related[0].args.get("item_ids", ())
    ]
    if known.get("status") == "pending (item modified)":
        items = _swapped_back(items, related[results.index(known)].args, _difference(related))
    return {
        "order_id": known["order_id"],
        "user_id": user,
        "address": known.get("address", {}),
        "items": items,
        "status": "delivered" if delivered else "pending",
        "payment_history": known.get("payment_history", [])[:1]
        or [{"transaction_type": "payment", "amount": 100.0, "payment_method_id": "credit_card_0000000"}],
    }


def _item(name: str) -> dict[str, Any]:
    return {"name": name, "product_id": f"product of {name}", "item_id": name, "price": 10.0}


def _swapped_back(items: list[dict[str, Any]], args: Mapping[str, Any], difference: float) -> list[dict[str, Any]]:
    share = difference / len(args["item_ids"])
    for old, new in zip(args["item_ids"], args["new_item_ids"], strict=True):
        item = next(item for item in items if item["item_id"] == new)
        item |= {"item_id": old, "price": round(item["price"] - share, 2)}
    return items


def _products(order: Mapping[str, Any], args: Mapping[str, Any], difference: float) -> Iterator[Turn]:
    """Look up each product that is exchanged, with the old items and the new ones among its variants."""
    share = difference / len(args["item_ids"])
    variants: dict[str, dict[str, Any]] = {}
    for old, new in zip(args["item_ids"], args["new_item_ids"], strict=True):
        item = next(item for item in order["items"] if item["item_id"] == old)
        known = variants.setdefault(item["product_id"], {})
        known.setdefault(old, {"item_id": old, "available": True, "price": item["price"]})
        known[new] = {"item_id": new, "available": True, "price": round(item["price"] + share, 2)}
    for product, offered in variants.items():
        yield called("get_product_details", {"product_id": product}, {"product_id": product, "variants": offered})


# --- spoken -----------------------------------------------------------------------------------------------------------


def spoken(data: Path) -> Iterator[Dialogue]:
    """Give the dialogues of a model with a simulated customer, with the calls that their results tell of."""
    with gzip.open(data / FOLDER / "few_shot_dialogues.jsonl.gz", "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            yield _Hearing().dialogue(f"spoken-{number}", json.loads(line)["messages_display"])


class _Hearing:
    """Tells the calls of one dialogue from what it has shown so far."""

    def __init__(self) -> None:
        self.said = ""
        self.user = ""
        self.profile: dict[str, Any] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.products: dict[str, Any] = {}

    def dialogue(self, name: str, text: str) -> Dialogue:
        pieces = re.split(r"(?m)^(user|assistant|tool): ", text)[1:]
        parts = [(role, said.strip()) for role, said in zip(pieces[::2], pieces[1::2], strict=True)]
        turns: list[Turn] = []
        unread = 0
        for (role, said), (following, result) in zip_longest(parts, parts[1:], fillvalue=("", "")):
            spoken_text = "" if said == "None" else said
            if role == "user":
                self.said += f"\n{said}"
                turns.append(Turn(role=role, text=said, recorded=True))
            elif role == "assistant" and following == "tool":
                call = self._call(result)
                unread += call is None
                if call or spoken_text:
                    turns.append(Turn(text=spoken_text, calls=(call,) if call else (), recorded=True))
            elif role == "assistant":
                turns.append(Turn(text=spoken_text, recorded=True))
        return Dialogue(id=name, turns=tuple(turns), unread=unread)

    def _call(self, result: str) -> Call | None:
        name, args = self._plain(result) or self._object(parsed(result)) or ("", {})
        return Call(name=name, args=args, result=result) if name else None

    def _plain(self, result: str) -> tuple[str, dict[str, Any]] | None:
        if _USER.fullmatch(result):
            self.user = result
        if self.user == result or result == "Error: user not found":
            mails = _EMAIL.findall(self.said)
            by_name = {"first_name": "A", "last_name": "B", "zip": "00000"}
            return ("find_user_id_by_email", {"email": mails[-1]}) if mails else ("find_user_id_by_name_zip", by_name)
        if result == "Error: order not found":
            return "get_order_details", {"order_id": "#W0000000"}
        if result == "Transfer successful":
            return "transfer_to_human_agents", {"summary": "as told"}
        if not result:
            return "think", {"thought": "as told"}
        return ("calculate", {"expression": result}) if re.fullmatch(r"-?[\d.]+", result) else None

    def _object(self, value: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        if "payment_methods" in value:
            moved = bool(self.profile) and value["address"] != self.profile["address"]
            self.profile = value
            address = {key: value["address"].get(key, "") for key in ADDRESS}
            address["state"] = value["address"].get("state") or value["address"].get("province", "")
            args = {"user_id": self.user, **(address if moved else {})}
            return ("modify_user_address" if moved else "get_user_details"), args
        if "variants" in value:
            self.products |= dict.fromkeys(value["variants"], value["product_id"])
            return "get_product_details", {"product_id": value["product_id"]}
        if "order_id" in value:
            old, self.orders[value["order_id"]] = self.orders.get(value["order_id"]), value
            return self._order(old or value, value)
        return ("list_all_product_types", {}) if value else None

    def _order(self, old: dict[str, Any], new: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """Name the call that makes the one order out of the other."""
        order = {"order_id": new["order_id"]}
        if old == new:
            return "get_order_details", order
        if new["status"] == "cancelled":
            return "cancel_pending_order", {**order, "reason": new["cancel_reason"]}
        if new["status"] == "return requested":
            paid = {"payment_method_id": new["return_payment_method_id"]}
            return "return_delivered_order_items", {**order, "item_ids": new["return_items"], **paid}
        if new["status"] == "exchange requested":
            return "exchange_delivered_order_items", {**order, **self._exchanged(new)}
        entry = new["payment_history"][-1]
        if new["status"] == "pending (item modified)":
            swaps = [(a["item_id"], b["item_id"]) for a, b in zip(old["items"], new["items"], strict=True) if a != b]
            items = {"item_ids": [a for a, _ in swaps], "new_item_ids": [b for _, b in swaps]}
            if not swaps:
                return None
            return "modify_pending_order_items", {**order, **items, "payment_method_id": entry["payment_method_id"]}
        if new["address"] != old["address"]:
            return "modify_pending_order_address", {**order, **{key: new["address"][key] for key in ADDRESS}}
        paid_now = new["payment_history"][-2]["payment_method_id"]
        return "modify_pending_order_payment", {**order, "payment_method_id": paid_now}

    def _exchanged(self, order: dict[str, Any]) -> dict[str, Any]:
        """Pair the items again, which the result lists sorted: each new one with an old one of its product."""
        left = list(order["exchange_new_items"])
        product = {item["item_id"]: item["product_id"] for item in order["items"]}
        paired: list[str] = []
        for old in order["exchange_items"]:
            paired.append(next((new for new in left if self.products.get(new) == product[old]), left[0]))
            left.remove(paired[-1])
        paid = order["exchange_payment_method_id"]
        return {"item_ids": order["exchange_items"], "new_item_ids": paired, "payment_method_id": paid}
