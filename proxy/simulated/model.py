"""Owns what the simulated model says: a small, believable support agent that is the same every time.

In: the JSON tree of a chat completion request. Out: an Answer. Never: a clock, a random number, a network; the same
request gets the same answer on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from proxy.simulated.filling import Tree, fill, tree, trees
from proxy.terms import Json


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that the model makes; `arguments` is JSON text."""

    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says: words, or tool calls."""

    text: str = ""
    calls: tuple[Call, ...] = ()


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What can be made out of a conversation: the customer's last words, and what they are about."""

    text: str
    order: str = ""
    amount: float | None = None


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that customers want: how they say it, and which of the offered tools does it."""

    name: str
    said: re.Pattern[str]
    tool: re.Pattern[str]
    about_order: bool = True


def _i(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


REFUND = Intent(name="refund", said=_i(r"refund|money back|reimburse"), tool=_i(r"refund"))
CANCEL = Intent(name="cancel", said=_i(r"\bcancel"), tool=_i(r"cancel"))
ORDER = Intent(
    name="order",
    said=_i(r"\border\b|package|parcel|\btrack|#\d{3,}|\b[A-Z]{1,3}-?\d{4,}\b"),
    tool=_i(r"(?=.*order)(?=.*(?:look|get|find|status|track|detail))"),
)
FAQ = Intent(
    name="faq",
    said=_i(r"\?|\b(?:how|what|when|where|which|can i|do you|policy)\b"),
    tool=_i(r"faq|knowledge|article|search|\bkb\b"),
    about_order=False,
)
INTENTS = (REFUND, CANCEL, ORDER, FAQ)

SMALL_TALK = (
    (_i(r"^\W*(?:hi|hello|hey|good (?:morning|afternoon|evening))\b"), "Hello! How can I help you today?"),
    (_i(r"\b(?:thanks|thank you|cheers)\b"), "You are welcome. Is there anything else I can do for you?"),
    (_i(r"^\W*(?:bye|goodbye|good night)\b"), "Goodbye, and thank you for getting in touch."),
    (_i(r"\b(?:human|a person|representative|manager|supervisor)\b"), "I will ask a colleague to take over from here."),
)
KNOWLEDGE = (
    (_i(r"\breturn"), "You can return any item within 30 days of delivery, unused and in its original packaging."),
    (_i(r"\bship|deliver"), "Standard delivery takes three to five working days; express delivery takes one."),
    (_i(r"password|log ?in|sign ?in"), "You can set a new password with the link Forgot password on the sign-in page."),
    (_i(r"warranty|guarantee"), "All products have a two-year warranty from the day of purchase."),
    (_i(r"\bpay|card|invoice"), "We take all major cards, and the invoice is in your account under Orders."),
    (_i(r"\bhours?\b|\bopen\b"), "Our support team is here on weekdays from 9:00 to 18:00."),
)
FALLBACK = "I can help with orders, refunds, returns and deliveries. Could you tell me a little more?"
ASK_ORDER = "I am happy to help with that. What is your order number?"

_ORDER_ID = re.compile(
    r"#\s?([A-Za-z]{0,3}-?\d{3,12})\b|\b([A-Z]{1,3}-?\d{3,12})\b|\border\s+(?:number\s+)?(\d{3,12})\b"
)
_AMOUNT = _i(r"\$\s?(\d{1,7}(?:\.\d{1,2})?)|\b(\d{1,7}(?:\.\d{1,2})?)\s?(?:dollars|usd)\b")


# --- hearing --------------------------------------------------------------------------------------------------------


def words(message: Tree) -> str:
    """Return the text of a message, whichever of its shapes the content has."""
    content = message.get("content")
    return content if isinstance(content, str) else "\n".join(str(part.get("text", "")) for part in trees(content))


def hear(messages: list[Tree]) -> Heard:
    """Return what the customer last said; an order number or an amount may have been named earlier."""
    said = [words(message) for message in messages if message.get("role") == "user"]
    orders = [number for text in reversed(said) for number in _found(_ORDER_ID, text)]
    amounts = _found(_AMOUNT, said[-1]) if said else []
    return Heard(
        text=said[-1] if said else "",
        order=orders[0] if orders else "",
        amount=float(amounts[0]) if amounts else None,
    )


def _found(pattern: re.Pattern[str], text: str) -> list[str]:
    return [next(group for group in match.groups() if group) for match in pattern.finditer(text)]


# --- deciding -------------------------------------------------------------------------------------------------------


def respond(body: Tree) -> Answer:
    """Return the model's answer to a request."""
    messages = trees(body.get("messages"))
    heard = hear(messages)
    tools = offered(body)
    results = list(_results(messages))
    answer = _from_results(results, heard, tools) if results else _from_words(heard, tools, body.get("tool_choice"))
    schema = wanted_json(body)
    if schema is None or answer.calls:
        return answer
    return Answer(text=msgspec.json.encode(_fill(schema, heard, answer.text)).decode())


def offered(body: Tree) -> dict[str, Tree]:
    """Return the schemas of the tools that may be called, by name."""
    functions = [tree(tool.get("function")) for tool in trees(body.get("tools"))]
    if body.get("tool_choice") == "none":
        return {}
    return {str(function.get("name")): tree(function.get("parameters")) for function in functions}


def _from_words(heard: Heard, tools: dict[str, Tree], choice: Json) -> Answer:
    intent = next((intent for intent in INTENTS if intent.said.search(heard.text)), None)
    tool = _tool_for(intent, tools) if intent else ""
    forced = (tool or next(iter(tools), "")) if choice == "required" else tree(tree(choice).get("function")).get("name")
    if forced in tools:
        return _call(str(forced), tools, heard)
    small_talk = _first(SMALL_TALK, heard.text)
    if small_talk and intent in (None, FAQ):
        return Answer(text=small_talk)
    if not intent or not tool:
        return Answer(text=_first(KNOWLEDGE, heard.text) or (ASK_ORDER if intent in (REFUND, CANCEL) else FALLBACK))
    if intent.about_order and not heard.order:
        return Answer(text=ASK_ORDER)
    if intent is REFUND and heard.amount is None:
        tool = _tool_for(ORDER, tools) or tool
    return _call(tool, tools, heard)


def _tool_for(intent: Intent, tools: dict[str, Tree]) -> str:
    return next((name for name in tools if intent.tool.search(name)), "")


def _call(name: str, tools: dict[str, Tree], heard: Heard) -> Answer:
    arguments = _fill(tools.get(name, {}), heard, heard.text)
    return Answer(calls=(Call(name=name, arguments=msgspec.json.encode(arguments).decode()),))


def _first(table: tuple[tuple[re.Pattern[str], str], ...], text: str) -> str:
    return next((answer for said, answer in table if said.search(text)), "")


# --- answering from tool results ------------------------------------------------------------------------------------


def _results(messages: list[Tree]) -> Iterator[tuple[str, Json]]:
    """Yield (tool, result) of the tool messages that end the conversation."""
    names = {
        str(call.get("id")): str(tree(call.get("function")).get("name"))
        for message in messages
        for call in trees(message.get("tool_calls"))
    }
    last = max((at for at, message in enumerate(messages) if message.get("role") != "tool"), default=-1)
    for message in messages[last + 1 :]:
        text = words(message)
        try:
            yield names.get(str(message.get("tool_call_id")), ""), msgspec.json.decode(text)
        except msgspec.DecodeError:
            yield "", text


def _from_results(results: list[tuple[str, Json]], heard: Heard, tools: dict[str, Tree]) -> Answer:
    refund = _tool_for(REFUND, tools)
    name, result = results[-1]
    total = _number(tree(result), "total", "amount", "price")
    if refund and total is not None and REFUND.said.search(heard.text) and not REFUND.tool.search(name):
        return _call(refund, tools, msgspec.structs.replace(heard, amount=total))
    return Answer(text=" ".join(_tell(name, result, heard) for name, result in results))


def _tell(name: str, result: Json, heard: Heard) -> str:
    facts = tree(result)
    if not facts:
        return _tell_list(result)
    if facts.get("error"):
        return f"I am sorry, that did not work: {facts['error']}"
    order = facts.get("order_id") or facts.get("id") or heard.order
    if REFUND.tool.search(name):
        amount = _number(facts, "amount", "refunded", "total") or heard.amount or 0.0
        return f"I have issued a refund of ${amount:.2f} for order {order}. It reaches you in three to five days."
    if CANCEL.tool.search(name):
        return f"Order {order} has been cancelled."
    if "status" in facts:
        eta = facts.get("eta") or facts.get("expected") or facts.get("delivery_date")
        return f"Order {order} is {facts['status']}{f', expected on {eta}' if eta else ''}."
    if answer := facts.get("answer") or facts.get("text") or facts.get("results"):
        return answer if isinstance(answer, str) else _tell_list(answer)
    return f"Here is what I found: {'; '.join(f'{key} is {value}' for key, value in facts.items())}."


def _tell_list(result: Json) -> str:
    first = result[0] if isinstance(result, list) and result else result
    facts = tree(first)
    found = facts.get("answer") or facts.get("text") or facts.get("content") or (first if not facts else "")
    return str(found) if found else "I found nothing about that."


def _number(facts: Tree, *names: str) -> float | None:
    values = (facts.get(name) for name in names)
    return next((float(value) for value in values if isinstance(value, int | float)), None)


# --- filling in JSON ------------------------------------------------------------------------------------------------

FREE_JSON: Tree = {"properties": {"answer": {"type": "string"}}}


def wanted_json(body: Tree) -> Tree | None:
    """Return the schema that the reply's text must follow, or None where it is prose."""
    wanted = tree(body.get("response_format"))
    if wanted.get("type") == "json_object":
        return FREE_JSON
    if wanted.get("type") == "json_schema":
        return tree(tree(wanted.get("json_schema")).get("schema"))
    return None


def _fill(schema: Tree, heard: Heard, text: str) -> Json:
    known = (
        (_i("order|^id$"), heard.order or None),
        (_i("amount|total|price"), heard.amount),
        (_i("query|question|search|reason|text|answer|message|reply|summary"), text or None),
    )
    return fill(schema, known)


# --- counting -------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r" ?\w{1,6}| ?[^\w\s]+|\s+")


def tokens(text: str) -> list[str]:
    """Split a text into what this model takes for tokens; joined they are the text again."""
    return _TOKEN.findall(text)


def prompt_tokens(body: Tree) -> tuple[int, int]:
    """Return how many tokens a request has, and how many of them a provider would have cached by now: whole blocks of
    128 of all but the last message, once there are 1024."""
    sizes = [4 + len(tokens(words(m))) + len(tokens(_json(m.get("tool_calls")))) for m in trees(body.get("messages"))]
    fixed = 3 + len(tokens(_json(body.get("tools"))))
    before = fixed + sum(sizes[:-1])
    return fixed + sum(sizes), before // 128 * 128 if before >= 1024 else 0


def _json(value: Json) -> str:
    return msgspec.json.encode(value).decode() if value else ""
