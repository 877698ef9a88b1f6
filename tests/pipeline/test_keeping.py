"""Owns the proof of proxy/pipeline/keeping.py: what is kept of a call, and what never is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.kept import MOST_BYTES, packed
from proxy.snapshot import Snapshot
from proxy.terms import Kept, Phase, Verdict
from tests.fakes import Script
from tests.walking import CONFIG, Walked, compiled

HEAD = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
"""
KEEP = "  - {id: keep, phase: request, when: 'true', action: annotate, annotations: {a: b}, obligations: [record]}\n"
MAIL = "ann@example.org"
ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": f"I am {MAIL}"}]}
HISTORY = [
    *ASK["messages"],
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": "find", "arguments": json.dumps({"who": MAIL})}}
        ],
    },
    {"role": "tool", "tool_call_id": "c0", "content": f"{MAIL} is known"},
]


def said(text: str = "Hello.", **message: Any) -> Script:
    """Script a whole reply."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    body = {"id": "c", "model": "large", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
    return Script(headers={"content-type": "application/json"}, chunks=(json.dumps(body).encode(),))


async def snapshot(tmp_path: Path, spec: str) -> Snapshot:
    """Compile a policy."""
    return await asyncio.to_thread(compiled, CONFIG, HEAD + spec, tmp_path)


async def kept(tmp_path: Path, spec: str, reply: Script | None = None, **body: Any) -> Kept | None:
    """Walk one call; return what was kept of it."""
    walked = Walked(reply or said(), snapshot=await snapshot(tmp_path, spec))
    await walked.call({**ASK, **body})
    return next(iter(walked.store.kept().values()), None)


async def test_nothing_is_kept_unless_a_rule_asks(tmp_path: Path) -> None:
    """Without an obligation to record, and where the rule that has it does not match, no content is kept."""
    without = await kept(tmp_path, "  rules:\n" + KEEP.replace(", obligations: [record]", ""))
    unmatched = await kept(tmp_path, "  rules:\n" + KEEP.replace("'true'", "'false'"))

    assert [None, None] == [without, unmatched]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(KEEP, id="obligation"),
        pytest.param("  - {id: keep, phase: post, when: 'usage.output == 3', action: record}\n", id="post"),
        pytest.param(
            "  - {id: keep, phase: chunk, when: 'chunk.text.contains(\"Hello\")', action: deny, message: 'No.', "
            "obligations: [record]}\n",
            id="chunk",
        ),
    ],
)
async def test_every_check_of_the_call_is_kept(tmp_path: Path, rule: str) -> None:
    """Whichever phase asks, all that policy knew along the way is there, also of phases that have no rule."""
    found = await kept(tmp_path, "  rules:\n" + rule, messages=HISTORY)

    assert found
    phases = [check.decision.phase for check in found.checks]
    assert [Phase.TOOL_RESULT, Phase.REQUEST, Phase.ROUTE] == phases[:3]
    assert {Phase.CHUNK, Phase.POST} <= set(phases)
    assert [b""] * len(phases) == [check.facts.request.raw for check in found.checks]
    assert 9 == next(c.facts.outcome.usage.input_tokens for c in found.checks if c.facts.outcome)


async def test_a_denied_call_is_kept(tmp_path: Path) -> None:
    """What never went out is kept as well, with what was decided."""
    rule = "  rules:\n  - {id: no, phase: request, when: 'true', action: deny, message: 'No.', obligations: [record]}\n"

    found = await kept(tmp_path, rule)

    assert found
    assert Verdict.DENY is found.checks[0].decision.verdict
    assert f"I am {MAIL}" == found.checks[0].facts.request.messages[0].text


@pytest.mark.parametrize("action", ["mask", "hash", "tokenize", "omit"])
@pytest.mark.parametrize("end", ["", "  - {id: no, phase: request, when: 'true', action: deny, message: 'No.'}\n"])
async def test_what_rules_take_out_is_not_kept(tmp_path: Path, action: str, end: str) -> None:
    """A value that was taken out anywhere stands nowhere in what is kept: neither in tool arguments nor in the reply
    that it was put back into, whether the call went out or not."""
    spec = f"  data:\n  - {{id: mail, direction: in, kinds: [email], action: {action}}}\n  rules:\n{KEEP}{end}"
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": json.dumps({"who": MAIL})}}
    reply = said(f"You are {MAIL}.", tool_calls=[call], reasoning_content=f"so {MAIL}")

    found = await kept(tmp_path, spec, reply, messages=HISTORY, metadata={"who": MAIL}, user=MAIL)

    assert found
    assert MAIL.encode() not in packed(found)
    assert b"[EMAIL" in packed(found)


async def test_what_rules_say_of_what_they_take_out_is_not_kept(tmp_path: Path) -> None:
    """Where a rule's words name a value that was taken out, what is kept has the mark."""
    spec = (
        "  data:\n  - {id: mail, direction: in, kinds: [email], action: mask}\n  rules:\n"
        "  - {id: no, phase: request, when: 'true', action: deny, messageExpression: '\"No, \" + request.user_text', "
        "obligations: [record]}\n"
    )

    found = await kept(tmp_path, spec)

    assert found
    assert MAIL.encode() not in packed(found)
    assert "No, I am [EMAIL]" == found.checks[0].decision.message


async def test_what_replies_lose_is_not_kept(tmp_path: Path) -> None:
    """What is taken out of a tool's result, of a reply or of its steps is not kept either."""
    spec = (
        "  data:\n"
        "  - {id: told, direction: tool_result, kinds: [email], action: mask}\n"
        "  - {id: shown, direction: out, kinds: [phone], action: mask}\n"
        "  rules:\n"
        "  - {id: code, phase: chunk, when: 'true', action: mask, pattern: 'code [0-9]{1,9}'}\n"
        "  - {id: say, phase: response, when: 'true', action: rewrite, rewrite: {text: 'response.text + \" Bye.\"'}}\n"
        f"{KEEP}"
    )
    reply = said("Call +34 612 345 678, code 4711.")

    found = await kept(tmp_path, spec, reply, messages=HISTORY)

    assert found
    assert [False] * 3 == [value in packed(found) for value in (MAIL.encode(), b"612 345 678", b"code 4711")]
    assert {"text": None} in [check.decision.rewrites for check in found.checks]


@pytest.mark.parametrize(
    "first", ["", "  - {id: at, phase: tool_call, when: 'true', action: rewrite, rewrite: {at: '\"now\"'}}\n"]
)
async def test_what_tool_arguments_lose_is_not_kept(tmp_path: Path, first: str) -> None:
    """What is taken out of a call's arguments is not kept, neither there nor where the reply says it."""
    spec = f"  data:\n  - {{id: args, direction: tool_args, kinds: [phone], action: mask}}\n  rules:\n{first}{KEEP}"
    arguments = json.dumps({"who": {"number": "+34 612 345 678"}})
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": arguments}}
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}

    found = await kept(tmp_path, spec, said("So +34 612 345 678.", tool_calls=[call]), tools=[tool])

    assert found
    assert (False, True) == (b"612 345 678" in packed(found), b"[PHONE]" in packed(found))


async def test_headers_that_rules_can_read_are_named(tmp_path: Path) -> None:
    """What is kept says which headers rules could see: of others nothing is known."""
    rule = KEEP.replace("'true'", '\'request.headers["x-tier"] == "gold"\'')
    walked = Walked(said(), snapshot=await snapshot(tmp_path, "  rules:\n" + rule))
    await walked.call(ASK, headers={"x-tier": "gold", "x-other": "secret"})

    (found,) = walked.store.kept().values()

    assert (("x-tier",), {"x-tier": "gold"}) == (found.headers, found.checks[0].facts.headers)
    assert b"secret" not in packed(found)


async def test_strangers_fill_no_disk(tmp_path: Path) -> None:
    """Of a call that nobody authenticated for nothing is kept."""
    key = f"[{{name: web, sha256: {'0' * 64}, expires: 2099-01-01}}]\n"
    (tmp_path / "keys.yaml").write_text(key)
    config = CONFIG + "auth: {keys_file: keys.yaml}\n"
    walked = Walked(snapshot=await asyncio.to_thread(compiled, config, HEAD + "  rules:\n" + KEEP, tmp_path))

    await walked.call(ASK)

    assert {} == walked.store.kept()


@pytest.mark.parametrize(
    "text", [pytest.param("x" * MOST_BYTES, id="long"), pytest.param(f"{MAIL} " * 1500, id="much to take out")]
)
async def test_what_is_too_much_is_noted(text: str, tmp_path: Path) -> None:
    """Of a call that has too much text, or too much to look through for what was taken out, there is a note alone: no
    call can hold up the others by what is kept of it."""
    spec = f"  data:\n  - {{id: mail, direction: in, kinds: [email], action: mask}}\n  rules:\n{KEEP}"

    found = await kept(tmp_path, spec, messages=[{"role": "user", "content": text}])

    assert found
    assert ((), True) == (found.checks, found.too_large >= len(text))
