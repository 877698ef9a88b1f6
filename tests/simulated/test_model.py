"""Owns the proof that the simulated model is a believable support agent, and the same one every time."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.simulated import model
from proxy.simulated.filling import tree
from proxy.terms import Json


def function(name: str, **properties: str) -> Json:
    """Build a tool whose properties are all required."""
    types: dict[str, Json] = {name: {"type": kind} for name, kind in properties.items()}
    required: list[Json] = [*properties]
    schema: Json = {"type": "object", "properties": types, "required": required}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


LOOKUP = function("lookup_order", order_id="string")
REFUND = function("issue_refund", order_id="string", amount="number")
CANCEL = function("cancel_order", order_id="string", reason="string")
SEARCH = function("search_faq", query="string")
DAYS = " It reaches you in three to five days."
TOOLS: Json = [LOOKUP, REFUND, CANCEL, SEARCH]


def ask(text: Json, *, tools: Json = None, **fields: Json) -> model.Answer:
    """Ask the model one thing."""
    body: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    return model.respond(body | {"tools": tools} if tools else body)


def call(answer: model.Answer) -> tuple[str, Json]:
    """Return the one tool call of an answer."""
    [only] = answer.calls
    return only.name, msgspec.json.decode(only.arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Where is order A1001?", ("lookup_order", {"order_id": "A1001"}), id="look up"),
        pytest.param("Has #1001 been shipped?", ("lookup_order", {"order_id": "1001"}), id="a hash"),
        pytest.param(
            "track my package, order number 55512", ("lookup_order", {"order_id": "55512"}), id="digits alone"
        ),
        pytest.param(
            "Please refund $12.50 for A1001", ("issue_refund", {"order_id": "A1001", "amount": 12.5}), id="refund"
        ),
        pytest.param(
            "I want my money back: 40 dollars, order A1001",
            ("issue_refund", {"order_id": "A1001", "amount": 40.0}),
            id="money back",
        ),
        pytest.param("Refund order A1001", ("lookup_order", {"order_id": "A1001"}), id="refund of a sum to look up"),
        pytest.param(
            "Cancel order A1001", ("cancel_order", {"order_id": "A1001", "reason": "Cancel order A1001"}), id="cancel"
        ),
        pytest.param("What is your policy?", ("search_faq", {"query": "What is your policy?"}), id="a question"),
        pytest.param(
            [{"type": "text", "text": "Where is"}, {"type": "text", "text": "order A1001?"}],
            ("lookup_order", {"order_id": "A1001"}),
            id="text in parts",
        ),
    ],
)
def test_it_calls_the_tool_that_fits(text: Json, expected: tuple[str, Json]) -> None:
    """What a customer wants becomes a call of the offered tool, with arguments from the words."""
    assert expected == call(ask(text, tools=TOOLS))


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param("Hello!", "Hello! How can I", id="greeting"),
        pytest.param("thank you so much", "You are welcome", id="thanks"),
        pytest.param("Bye", "Goodbye", id="bye"),
        pytest.param("Can I speak to a human?", "I will ask a colleague", id="a human"),
        pytest.param("I want a refund", "I am happy to help with that. What is your order number?", id="no order"),
        pytest.param("the sky is blue", "I can help with orders", id="anything else"),
    ],
)
def test_it_talks_where_no_tool_is_needed(text: str, start: str) -> None:
    """Small talk and what lacks an order number is answered in words, tools or not."""
    answer = ask(text, tools=TOOLS)

    assert ((), True) == (answer.calls, answer.text.startswith(start))


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param("How do I return this?", "You can return", id="returns"),
        pytest.param("How long is shipping?", "Standard delivery", id="delivery"),
        pytest.param("I forgot my password", "You can set a new password", id="password"),
        pytest.param("Is there a warranty?", "All products", id="warranty"),
        pytest.param("May I pay by card?", "We take all major cards", id="payment"),
        pytest.param("When are you open?", "Our support team", id="hours"),
        pytest.param("Where is order A1001?", "I can help with orders", id="an order it cannot look up"),
        pytest.param("Cancel it", "I am happy to help with that", id="cancelling"),
    ],
)
def test_it_knows_everyday_answers(text: str, start: str) -> None:
    """Without tools it answers from what every shop knows."""
    assert ask(text).text.startswith(start)


def test_it_remembers_the_order() -> None:
    """An order number named earlier in the conversation holds until another is named."""
    messages: list[Json] = [
        {"role": "user", "content": "My order is A1001"},
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": "Cancel it please"},
    ]

    name, arguments = call(model.respond({"messages": messages, "tools": [CANCEL]}))

    assert ("cancel_order", "A1001") == (name, tree(arguments)["order_id"])


@pytest.mark.parametrize(
    ("choice", "text", "expected"),
    [
        pytest.param("none", "Refund $5 for A1001", "", id="none"),
        pytest.param("auto", "Hello", "", id="auto"),
        pytest.param("required", "Hello", "lookup_order", id="any"),
        pytest.param("required", "Cancel A1001", "cancel_order", id="the one that fits"),
        pytest.param(
            {"type": "function", "function": {"name": "search_faq"}}, "Cancel A1001", "search_faq", id="named"
        ),
        pytest.param({"type": "function", "function": {"name": "other"}}, "Hello", "", id="named but not offered"),
    ],
)
def test_tool_choice_is_obeyed(choice: Json, text: str, expected: str) -> None:
    """The request may forbid, force or name a tool."""
    answer = ask(text, tools=TOOLS, tool_choice=choice)

    assert [expected] * bool(expected) == [made.name for made in answer.calls]


def after(tool: str, result: Json, text: str = "Refund order A1001", tools: Json = None) -> model.Answer:
    """Answer after a tool has given its result."""
    asked: Json = {"id": "c1", "type": "function", "function": {"name": tool, "arguments": "{}"}}
    content = result if isinstance(result, str) else msgspec.json.encode(result).decode()
    messages: list[Json] = [
        {"role": "user", "content": text},
        {"role": "assistant", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "c1", "content": content},
    ]
    return model.respond({"messages": messages, "tools": tools})


@pytest.mark.parametrize(
    ("tool", "result", "text"),
    [
        pytest.param("lookup_order", {"order_id": "A1", "status": "shipped", "eta": "Monday"},
                     "Order A1 is shipped, expected on Monday.", id="status"),
        pytest.param("lookup_order", {"status": "lost"}, "Order A1001 is lost.", id="status without more"),
        pytest.param("issue_refund", {"amount": 12.5}, "I have issued a refund of $12.50 for order A1001." + DAYS,
                     id="refund"),
        pytest.param("cancel_order", {"ok": True}, "Order A1001 has been cancelled.", id="cancelled"),
        pytest.param("search_faq", {"answer": "Within 30 days."}, "Within 30 days.", id="an answer"),
        pytest.param("search_faq", {"results": [{"text": "Yes."}]}, "Yes.", id="results"),
        pytest.param("search_faq", [{"content": "Yes."}, {"content": "No."}], "Yes.", id="a list"),
        pytest.param("search_faq", [], "I found nothing about that.", id="nothing"),
        pytest.param("search_faq", ["Yes."], "Yes.", id="a list of texts"),
        pytest.param("search_faq", [{"x": 1}], "I found nothing about that.", id="nothing of use"),
        pytest.param("other", {"a": 1, "b": "x"}, "Here is what I found: a is 1; b is x.", id="anything"),
        pytest.param("other", {"error": "gone"}, "I am sorry, that did not work: gone", id="an error"),
        pytest.param("other", "just words", "just words", id="words"),
    ],
)  # fmt: skip
def test_it_tells_what_a_tool_found(tool: str, result: Json, text: str) -> None:
    """When the conversation ends with tool results, the answer is made of them and nothing else."""
    assert model.Answer(text=text) == after(tool, result)


def test_it_refunds_what_it_looked_up() -> None:
    """A refund without a sum is looked up first, and then issued with the total that was found."""
    answer = after("lookup_order", {"order_id": "A1001", "total": 42.5}, tools=TOOLS)

    assert ("issue_refund", {"order_id": "A1001", "amount": 42.5}) == call(answer)


def test_it_refunds_once() -> None:
    """After the refund it tells of it, and does not issue another."""
    answer = after("issue_refund", {"amount": 42.5}, tools=TOOLS)

    assert ((), True) == (answer.calls, answer.text.startswith("I have issued a refund of $42.50"))


def test_several_results_are_told_in_order() -> None:
    """Parallel tool calls are answered in one reply."""
    asked: list[Json] = [{"id": i, "function": {"name": "lookup_order"}} for i in ("c1", "c2")]
    results: list[Json] = [
        {"role": "tool", "tool_call_id": i, "content": msgspec.json.encode({"id": i, "status": "here"}).decode()}
        for i in ("c1", "c2")
    ]
    messages: list[Json] = [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": asked}, *results]

    assert "Order c1 is here. Order c2 is here." == model.respond({"messages": messages}).text


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        pytest.param({"type": "json_object"}, {"answer": "Hello! How can I help you today?"}, id="JSON mode"),
        pytest.param(
            {
                "type": "json_schema",
                "json_schema": {
                    "schema": {
                        "type": "object",
                        "properties": {"reply": {"type": "string"}, "kind": {"enum": ["small_talk", "order"]}},
                        "required": ["reply", "kind"],
                    }
                },
            },
            {"reply": "Hello! How can I help you today?", "kind": "small_talk"},
            id="JSON schema",
        ),
    ],
)
def test_it_answers_in_json_when_asked(response_format: Json, expected: Json) -> None:
    """JSON mode wraps the words, a schema is followed."""
    assert expected == msgspec.json.decode(ask("Hi", response_format=response_format).text)


def test_text_mode_is_prose() -> None:
    """`response_format: text` is what there is without one."""
    assert ask("Hi") == ask("Hi", response_format={"type": "text"})


def test_tool_calls_come_before_json() -> None:
    """A tool call is made in JSON mode as well."""
    answer = ask("Refund $5 for A1001", tools=TOOLS, response_format={"type": "json_object"})

    assert "issue_refund" == call(answer)[0]


@given(st.text())
def test_tokens_are_the_text(text: str) -> None:
    """Splitting loses nothing."""
    assert text == "".join(model.tokens(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_no_request_is_too_odd(messages: Json) -> None:
    """Whatever the tree, there is an answer, and it is the same twice."""
    body: dict[str, Json] = {
        "messages": messages,
        "tools": messages,
        "tool_choice": messages,
        "response_format": messages,
    }

    assert model.respond(body) == model.respond(body)


@pytest.mark.parametrize(
    ("words", "cached"),
    [pytest.param(10, 0, id="short"), pytest.param(1500, 1408, id="long")],
)
def test_long_prompts_count_as_cached(words: int, cached: int) -> None:
    """From 1024 tokens on, whole blocks of 128 of all but the last message count as cached."""
    body: dict[str, Json] = {
        "messages": [{"role": "system", "content": "word " * words}, {"role": "user", "content": "Hi"}]
    }

    total, found = model.prompt_tokens(body)

    assert (cached, True) == (found, total > words)
