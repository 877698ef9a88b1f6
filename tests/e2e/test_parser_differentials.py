"""Owns the proof that no JSON says one thing to the rules and another to whoever reads it after them.

Each vector hides EVIL where at least one parser finds it. Whatever is let through is then read by every parser of
readers.py: none may find what a rule would have denied.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.snapshot import Snapshot
from tests.e2e.readers import READERS, trees
from tests.fakes import Script
from tests.walking import CONFIG, Outcome, Walked, compiled

MOST = 100
"""More of anything is as bad as EVIL."""
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - {id: texts, phase: request, when: 'request.messages.exists(m, m.text.contains("EVIL"))', action: deny}
    - {id: tier, phase: request, when: 'default(request.metadata.tier, "") == "EVIL"', action: deny}
    - {id: limit, phase: request, when: 'default(request.max_tokens, 0) > 100', action: deny}
    - {id: heat, phase: request, when: 'default(request.temperature, 0.0) > 1.0', action: deny}
    - {id: offered, phase: request, when: '"EVIL" in request.tool_names', action: deny}
    - id: history
      phase: request
      when: 'request.messages.exists(m, m.tool_calls.exists(c, default(c.args.to, "") == "EVIL" ||
        default(c.args.amount, 0) > 100))'
      action: deny
    - {id: called, phase: tool_call, when: 'tool.name == "EVIL"', action: deny}
    - {id: to, phase: tool_call, when: 'has(tool.args.to) && tool.args.to == "EVIL"', action: deny}
    - {id: amount, phase: tool_call, when: 'default(tool.args.amount, 0) > 100', action: deny}
    - {id: said, phase: response, when: 'response.text.contains("EVIL")', action: deny}
"""
SAYS = b'{"role":"user","content":"hi"}'
ANSWER = b'{"id":"c","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"ok"}}]}'


def body(fields: bytes = b"", *, model: bytes = b'"model":"large"', messages: bytes = SAYS) -> bytes:
    """Write a request with more fields."""
    return b"{" + model + b',"messages":[' + messages + b"]" + (b"," + fields if fields else b"") + b"}"


def said(message: bytes) -> bytes:
    """Write a request with one message."""
    return body(messages=message)


def history(arguments: str) -> bytes:
    """Write a request whose history has a call with these arguments."""
    call = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return body(messages=SAYS + b"," + json.dumps(message).encode())


DEEP = b"[" * 500 + b"]" * 500
# Arguments of a tool call, as the model wrote them; each is tried in a reply, in a stream, and in a history.
ARGUMENTS = {
    "key twice, evil last": '{"to":"ok","to":"EVIL"}',
    "key twice, evil first": '{"to":"EVIL","to":"ok"}',
    "key twice, one escaped": '{"to":"ok","\\u0074o":"EVIL"}',
    "key twice, one escaped, evil first": '{"\\u0074\\u006F":"EVIL","to":"ok"}',
    "key twice, far apart": '{"to":"EVIL",' + ",".join(f'"k{n}":{n}' for n in range(50)) + ',"to":"ok"}',
    "key twice, numbers": '{"amount":1,"amount":1000}',
    "key twice, inside": '{"to":"EVIL","a":{"b":1,"b":2}}',
    "key in another case": '{"to":"ok","To":"EVIL"}',
    "key in another case only": '{"TO":"EVIL"}',
    "key with a long s": '{"account":{"\\u017fum":1,"sum":2},"to":"EVIL"}',
    "two keys in two cases": '{"amount":1,"AMOUNT":1000}',
    "key ends at NUL": '{"to\\u0000":"EVIL","to":"ok"}',
    "key ends at NUL, last": '{"to":"ok","to\\u0000x":"EVIL"}',
    "value ends at NUL": '{"to":"EVIL\\u0000ok"}',
    "NUL after all": '{"to":"EVIL"}\0',
    "NUL, then another": '{"to":"EVIL"}\0{"to":"ok"}',
    "two values": '{"to":"EVIL"}{"to":"ok"}',
    "two lines": '{"to":"EVIL"}\n{"to":"ok"}',
    "trailing words": '{"to":"EVIL"} and so on',
    "trailing bracket": '{"to":"EVIL"}}',
    "BOM": '\ufeff{"to":"EVIL"}',
    "block comment": '{"to":"EVIL"/*,*/}',
    "comment hides the other": '{/*"to":"ok",*/"to":"EVIL"}',
    "line comment": '{"to":"EVIL"// ok\n}',
    "hash comment": '{"to":"EVIL"# ok\n}',
    "trailing comma": '{"to":"EVIL",}',
    "single quotes": "{'to':'EVIL'}",
    "line feed in a string": '{"to":"EVIL","note":"a\nb"}',
    "tab in a string": '{"to":"EVIL","note":"a\tb"}',
    "not a number": '{"to":"EVIL","amount":NaN}',
    "infinite": '{"amount":Infinity}',
    "beyond a double": '{"amount":1e400}',
    "beyond 64 bits": '{"amount":18446744073709551616}',
    "a hundred digits": '{"amount":' + "9" * 100 + "}",
    "beyond Python's digits": '{"amount":' + "9" * 5000 + "}",
    "leading zero": '{"amount":01000}',
    "plus sign": '{"amount":+1000}',
    "exponent": '{"amount":1e3}',
    "a whole double": '{"amount":1000.0}',
    "many digits": '{"amount":100.00000000000001}',
    "escaped value": '{"to":"\\u0045\\u0056IL"}',
    "lone surrogate beside": '{"to":"EVIL","note":"\\ud800"}',
    "lone surrogate in a key": '{"to":"EVIL","\\udc00":1}',
    "surrogates in the wrong order": '{"to":"EVIL","note":"\\ude00\\ud83d"}',
    "surrogate pair beside": '{"to":"EVIL","note":"\\ud83d\\ude00"}',
    "deep beside": '{"to":"EVIL","deep":' + DEEP.decode() + "}",
    "white space": ' \r\n\t{ "to" : "EVIL" } ',
}
REQUESTS = {
    "model twice": body(b'"model":"large","metadata":{"tier":"EVIL"}'),
    "messages twice": body(b'"messages":[{"role":"user","content":"EVIL"}]'),
    "messages twice, one escaped": body(b'"\\u006dessages":[{"role":"user","content":"EVIL"}]'),
    "messages twice, the other order": b'{"messages":[{"role":"user","content":"EVIL"}],' + body()[1:],
    "content twice": said(b'{"role":"user","content":"hi","content":"EVIL"}'),
    "content twice, evil first": said(b'{"role":"user","content":"EVIL","content":"hi"}'),
    "content twice, one escaped": said(b'{"role":"user","content":"hi","c\\u006Fntent":"EVIL"}'),
    "text of a part twice": said(b'{"role":"user","content":[{"type":"text","text":"hi","text":"EVIL"}]}'),
    "a colon that makes up for one": said(b'{"role":"user","content":"EVIL","content":":"}'),
    "an escaped colon that makes up": said(b'{"role":"user","content":"EVIL","content":"\\u003a"}'),
    "tier twice": body(b'"metadata":{"tier":"ok","tier":"EVIL"}'),
    "metadata twice": body(b'"metadata":{"tier":"EVIL"},"metadata":{}'),
    "tool name twice": body(b'"tools":[{"type":"function","function":{"name":"ok","name":"EVIL"}}]'),
    "tools twice": body(b'"tools":[{"type":"function","function":{"name":"EVIL"}}],"tools":[]'),
    "tool name in two places": body(b'"tools":[{"type":"function","name":"EVIL","function":{"name":"ok"}}]'),
    "limit twice": body(b'"max_tokens":1,"max_tokens":1000'),
    "limit under two names": body(b'"max_tokens":1,"max_completion_tokens":1000'),
    "limit as an exponent": body(b'"max_tokens":1e3'),
    "limit as a double": body(b'"max_tokens":1000.0'),
    "limit beyond 64 bits": body(b'"max_tokens":18446744073709551617'),
    "limit with zeros": body(b'"max_tokens":01000'),
    "limit with a plus": body(b'"max_tokens":+1000'),
    "limit is infinite": body(b'"max_tokens":Infinity'),
    "heat beyond a double": body(b'"temperature":1e400'),
    "heat is infinite": body(b'"temperature":Infinity'),
    "heat twice": body(b'"temperature":2,"temperature":-0'),
    "not a number beside": body(b'"metadata":{"tier":"EVIL"},"x":NaN'),
    "a key in another case": body(b'"Messages":[{"role":"user","content":"EVIL"}]'),
    "content in another case": said(b'{"role":"user","content":"hi","Content":"EVIL"}'),
    "a key with a long s": body('"me\u017f\u017fages":[{"role":"user","content":"EVIL"}]'.encode()),
    "limit in another case": body(b'"Max_Tokens":1000'),
    "a key that ends at NUL": body(b'"messages\\u0000":[{"role":"user","content":"EVIL"}]'),
    "a limit that ends at NUL": body(b'"max_tokens\\u0000x":1000'),
    "content that ends at NUL": said(b'{"role":"user","content\\u0000":"EVIL","content":"hi"}'),
    "tier that ends at NUL": body(b'"metadata":{"tier":"EVIL\\u0000"}'),
    "NUL after all": said(b'{"role":"user","content":"EVIL"}') + b"\0",
    "NUL, then another": said(b'{"role":"user","content":"EVIL"}') + b"\0" + body(),
    "two values": said(b'{"role":"user","content":"EVIL"}') + body(),
    "two lines": said(b'{"role":"user","content":"EVIL"}') + b"\n" + body(),
    "trailing words": said(b'{"role":"user","content":"EVIL"}') + b" x",
    "a comment hides the other": body(b'/*"metadata":{"tier":"ok"},*/"metadata":{"tier":"EVIL"}'),
    "line comment": body(b'"metadata":{"tier":"EVIL"}// ok\n'),
    "trailing comma": body(b'"metadata":{"tier":"EVIL",}'),
    "single quotes": body(b"'metadata':{'tier':'EVIL'}"),
    "BOM": b"\xef\xbb\xbf" + body(b'"metadata":{"tier":"EVIL"}'),
    "UTF-16": body(b'"metadata":{"tier":"EVIL"}').decode().encode("utf-16"),
    "UTF-16 without BOM": body(b'"metadata":{"tier":"EVIL"}').decode().encode("utf-16-be"),
    "UTF-32": body(b'"metadata":{"tier":"EVIL"}').decode().encode("utf-32"),
    "broken UTF-8 inside": said(b'{"role":"user","content":"EV\xffIL"}'),
    "broken UTF-8 beside": body(b'"metadata":{"tier":"EVIL"},"x":"\xff"'),
    "overlong UTF-8": said(b'{"role":"user","content":"\xc1\x85VIL"}'),
    "overlong UTF-8 in a key": body(b'"metadata":{"tie\xc1\xb2":"EVIL"}'),
    "surrogate in UTF-8": body(b'"metadata":{"tier":"EVIL"},"x":"\xed\xa0\x80"'),
    "lone surrogate beside": body(b'"metadata":{"tier":"EVIL"},"x":"\\ud800"'),
    "surrogate pair beside": body(b'"metadata":{"tier":"EVIL"},"x":"\\ud83d\\ude00"'),
    "line feed in a string": said(b'{"role":"user","content":"EVIL\n"}'),
    "NUL in a string": said(b'{"role":"user","content":"EVIL\0"}'),
    "escaped value": said(b'{"role":"user","content":"\\u0045V\\u0049L"}'),
    "escaped key": said(b'{"role":"user","\\u0063ontent":"EVIL"}'),
    "deep beside": body(b'"metadata":{"tier":"EVIL"},"x":' + DEEP),
    "65 levels beside": body(b'"metadata":{"tier":"EVIL"},"x":' + b"[" * 64 + b"]" * 64),
    **{f"history: {name}": history(arguments) for name, arguments in ARGUMENTS.items()},
}


def reply(arguments: str, streamed: bool) -> bytes:
    """Write the reply of a provider with one tool call."""
    call = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": arguments}}
    if not streamed:
        choice = {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [call]}}
        return json.dumps({"id": "c", "model": "large", "choices": [choice]}).encode()
    half = len(arguments) // 2
    pieces: list[dict[str, Any]] = [
        {"index": 0, **call, "function": {"name": "pay", "arguments": arguments[:half]}},
        {"index": 0, "function": {"arguments": arguments[half:]}},
    ]
    choices = [{"index": 0, "delta": {"tool_calls": [piece]}} for piece in pieces]
    events = [{"choices": [choice]} for choice in (*choices, {"index": 0, "delta": {}, "finish_reason": "tool_calls"})]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def whole(message: bytes) -> bytes:
    """Write the reply of a provider around one message."""
    return b'{"id":"c","choices":[{"index":0,"finish_reason":"stop","message":' + message + b"}]}"


REPLIES = {
    "content twice": whole(b'{"role":"assistant","content":"EVIL","content":"hi"}'),
    "content twice, evil last": whole(b'{"role":"assistant","content":"hi","c\\u006fntent":"EVIL"}'),
    "message twice": whole(b'{"content":"EVIL"},"message":{"role":"assistant","content":"hi"}'),
    "choices twice": b'{"choices":[{"message":{"content":"EVIL"}}],' + ANSWER[1:],
    "content in another case": whole(b'{"role":"assistant","content":"hi","Content":"EVIL"}'),
    "content that ends at NUL": whole(b'{"role":"assistant","content\\u0000":"EVIL","content":"hi"}'),
    "two values": whole(b'{"role":"assistant","content":"EVIL"}') + ANSWER,
    "BOM": b"\xef\xbb\xbf" + whole(b'{"role":"assistant","content":"EVIL"}'),
    "broken UTF-8": whole(b'{"role":"assistant","content":"EV\xffIL"}'),
    "UTF-16": whole(b'{"role":"assistant","content":"EVIL"}').decode().encode("utf-16"),
    "NUL after all": whole(b'{"role":"assistant","content":"EVIL"}') + b"\0",
    "comment": whole(b'{"role":"assistant","content":"EVIL"/**/}'),
    "lone surrogate beside": whole(b'{"role":"assistant","content":"EVIL \\ud800"}'),
}


def evil(tree: Any) -> bool:
    """Tell if a request or a whole reply holds what the rules deny, as somebody reads it who takes it for one."""
    if not isinstance(tree, dict):
        return False
    limits = [tree.get("max_tokens"), tree.get("max_completion_tokens")]
    tools = [tool for tool in tree.get("tools") or () if isinstance(tool, dict)]
    names = [_at(tool, *path) for tool in tools for path in (("name",), ("function", "name"))]
    heat = tree.get("temperature")
    messages = [*(tree.get("messages") or ()), *(_at(choice, "message") for choice in tree.get("choices") or ())]
    return (
        any(isinstance(limit, int | float) and limit > MOST for limit in limits)
        or (isinstance(heat, int | float) and heat > 1.0)
        or _at(tree, "metadata", "tier") == "EVIL"
        or "EVIL" in names
        or any(_evil_message(message) for message in messages)
    )


def _at(tree: Any, *path: str) -> Any:
    for step in path:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _evil_message(message: Any) -> bool:
    content = _at(message, "content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [text for part in parts if isinstance(text := _at(part, "text"), str)]
    arguments = [_at(call, "function", "arguments") for call in _at(message, "tool_calls") or ()]
    return any("EVIL" in text for text in texts) or any(map(evil_arguments, arguments))


def evil_arguments(text: Any) -> bool:
    """Tell if some reader of a tool call's arguments finds in them what the rules deny."""
    read = trees(text.encode("utf-8", "surrogatepass")).values() if isinstance(text, str) else ()
    return any(
        _at(tree, "to") == "EVIL" or (isinstance(amount := _at(tree, "amount"), int | float) and amount > MOST)
        for tree in read
    )


def released(data: bytes) -> list[str]:
    """Return the arguments of the calls in a stream or a whole reply, as they reach an agent."""
    if not data.startswith(b"data: "):
        calls = _at(json.loads(data)["choices"][0], "message", "tool_calls") or ()
        return [call["function"]["arguments"] for call in calls]
    events = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
    pieces = [
        piece for event in events for choice in event["choices"] for piece in _at(choice, "delta", "tool_calls") or ()
    ]
    return ["".join(_at(piece, "function", "arguments") or "" for piece in pieces)] if pieces else []


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Compile the policy once."""
    return compiled(CONFIG, POLICY, tmp_path_factory.mktemp("differentials"))


async def walk(snapshot: Snapshot, sent: bytes, answer: bytes = ANSWER) -> tuple[Walked, Outcome]:
    """Walk one call whose provider gives one answer."""
    house = Walked(Script(chunks=(answer,)), snapshot=snapshot)
    outcome = await house.call(sent)
    await asyncio.sleep(0)
    return house, outcome


def test_there_are_enough_vectors() -> None:
    """There are over 40 of each sort, each evil to at least one parser, and over ten parsers."""
    seen = {name for name, data in (REQUESTS | REPLIES).items() if any(map(evil, trees(data).values()))}
    seen_arguments = {name for name, text in ARGUMENTS.items() if evil_arguments(text)}

    print(  # noqa: T201  # the count, for whoever asks with -rP
        f"{len(REQUESTS)} requests, {len(ARGUMENTS)} arguments, {len(REPLIES)} replies; {len(READERS)} parsers"
    )
    assert (set(REQUESTS | REPLIES), set(ARGUMENTS)) == (seen, seen_arguments)
    assert all(number >= least for number, least in ((len(REQUESTS), 40), (len(ARGUMENTS), 40), (len(READERS), 10)))


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_is_sent_is_what_was_judged(name: str, snapshot: Snapshot) -> None:
    """A request is refused or denied, or no parser finds in the bytes for the provider what a rule denies."""
    house, outcome = await walk(snapshot, REQUESTS[name])

    assert (outcome.head.status if outcome.head else None) in (200, 400)
    assert {} == {
        reader: tree for call in house.upstream.sent for reader, tree in trees(call.body).items() if evil(tree)
    }


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", ARGUMENTS)
async def test_arguments_that_are_let_through_are_what_was_judged(
    name: str, streamed: bool, snapshot: Snapshot
) -> None:
    """A tool call is withheld, or no parser finds in its arguments what a rule denies."""
    asked = body(b'"stream":true' if streamed else b"")
    _, outcome = await walk(snapshot, asked, reply(ARGUMENTS[name], streamed))

    assert [] == [arguments for arguments in released(outcome.body) if evil_arguments(arguments)]


@pytest.mark.parametrize("name", REPLIES)
async def test_a_reply_that_is_let_through_is_what_was_judged(name: str, snapshot: Snapshot) -> None:
    """A reply is withheld, or no parser finds in its bytes what a rule denies."""
    _, outcome = await walk(snapshot, body(), REPLIES[name])

    assert set() == {reader for reader, tree in trees(outcome.body).items() if evil(tree)}


async def test_what_holds_no_evil_is_sent_and_let_through(snapshot: Snapshot) -> None:
    """The rules deny nothing else: a harmless call goes upstream as it is, and its tool call comes back."""
    sent = history('{"to":"ok","amount":1.5}')
    house, outcome = await walk(snapshot, sent, reply('{"to":"ok","amount":100}', streamed=False))

    assert ([sent], ['{"to":"ok","amount":100}']) == (
        [call.body for call in house.upstream.sent],
        released(outcome.body),
    )
