"""Owns the price of a decision: microseconds of CPU per phase with the support pack, and of its topic guard per text.

And of judging all tool results of a long conversation by rules that read its history, with the retail pack.

Run: python bench/policy_cost.py [rounds]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from proxy import config
from proxy.guards import topics
from proxy.policy import PolicySet, Shared, Source, load
from proxy.terms import (
    Caller,
    Facts,
    GuardResult,
    Json,
    Level,
    Message,
    Phase,
    Reply,
    Request,
    Result,
    Session,
    Spend,
    ToolCall,
    ToolSpec,
)

PACK = Path(__file__).resolve().parent.parent / "rules" / "support"
RETAIL = PACK.parent / "retail" / "policy.yaml"
CUSTOMER = "yusuf_rossi_9620"
RESULTS = (25, 50, 100, 200)
ORDER: Json = {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
TOOLS = ("lookup_order", "issue_refund", "search_faq", "cancel_order", "delete_account")
MESSAGES = (
    Message(role="system", text="You are the support agent of a small online shop. " * 8),
    Message(role="user", text="Hi, where is my order 1234?"),
    Message(role="assistant", text="Let me check. Could you tell me your name, please?"),
    Message(role="user", text="Jane. I ordered a desk lamp last week."),
)
REFUND = ToolCall(id="c1", name="issue_refund", arguments='{"order_id": "A1", "amount_usd": 20}')
ANSWER = "I have found it. Your order has shipped, and it will arrive on Friday. " * 3


def source(name: str) -> Source:
    """Read one file of the pack."""
    return Source(path=name, text=(PACK / name).read_text(encoding="utf-8"))


def facts(guard: topics.Topics) -> Facts:
    """Return what the hallway knows of a request with four messages and five tools."""
    tools = tuple(ToolSpec(name=name, schema=ORDER) for name in TOOLS)
    request = Request(dialect="chat", model="support-large", messages=MESSAGES, tools=tools, body={}, raw=b"")
    found = GuardResult(name="topics", version=guard.version, findings=tuple(guard.scan(MESSAGES[-1].text, [])))
    return Facts(
        at_ms=1_767_606_000_000,
        caller=Caller(agent="support-web", level=Level.EXECUTE, principal="bench"),
        request=request,
        session=Session(id="se_1", turn=2),
        guards={"topics": found},
        spend=Spend(est_nanousd=1_000_000, max_nanousd=20_000_000),
    )


def cost_us(work: Callable[[], object], rounds: int) -> float:
    """Return the CPU time of one call in microseconds: the best of seven rounds, the others were disturbed."""
    times = []
    for _ in range(7):
        began = time.process_time_ns()
        for _ in range(rounds):
            work()
        times.append(time.process_time_ns() - began)
    return min(times) / rounds / 1000


def decisions(policies: PolicySet, known: Facts) -> dict[str, Callable[[], object]]:
    """Name what is measured."""
    call, reply = replace(known, tool=REFUND), replace(known, response=Reply(text=ANSWER))
    return {
        "decide, phase request": lambda: policies.decide(Phase.REQUEST, known, "d"),
        "decide, phase tool_call": lambda: policies.decide(Phase.TOOL_CALL, call, "d"),
        "decide, phase response": lambda: policies.decide(Phase.RESPONSE, reply, "d"),
        "limits": lambda: policies.limits(known),
    }


def judged(results: int) -> Callable[[], object]:
    """Return what a call of the retail desk costs for all of its tool results."""
    policies = config.policies_of([RETAIL])
    messages = [Message(role="user", text="Hi, it is Yusuf Rossi, 19122. What about my orders?")]
    found: list[Result] = []
    for number in range(results):
        call = ToolCall(
            id=f"c{number}", name="get_order_details" if number else "find_user_id_by_name_zip", arguments="{}"
        )
        items = [{"item_id": str(item)} for item in range(9)]
        order = {"user_id": CUSTOMER, "order_id": f"#W{number}", "status": "pending", "items": items}
        text = json.dumps(order) if number else CUSTOMER
        found.append(Result(tool=call.name, call_id=call.id, text=text, message=len(messages) + 1))
        messages += [
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", text=text, tool_call_id=call.id),
        ]
    request = Request(dialect="chat", model="m", messages=tuple(messages), body={}, raw=b"")
    caller = Caller(agent="retail", level=Level.EXECUTE, principal="bench")
    known = Facts(at_ms=0, caller=caller, request=request, session=Session(id="s"), results=tuple(found))

    def judge() -> None:
        shared = Shared()
        for result in found:
            decision = policies.decide(Phase.TOOL_RESULT, replace(known, result=result), "d", shared=shared)
            if decision.rules:
                raise RuntimeError(decision.rules)

    return judge


def main(rounds: int) -> None:
    """Measure and print."""
    guard = topics.create([source("topics.yaml")])
    functions = config.FUNCTIONS
    policies = load([source("policy.yaml")], functions=functions, guards={"topics": guard.labels})
    kilobyte = (f"{MESSAGES[-1].text} {ANSWER} " * 8)[:1024]
    work = decisions(policies, facts(guard))
    work["topics guard, 38 characters"] = lambda: guard.scan(MESSAGES[-1].text, [])
    work["topics guard, 1 KB"] = lambda: guard.scan(kilobyte, [])
    for name, measured in work.items():
        print(f"{name:30} {cost_us(measured, rounds):8.1f} µs")
    for results in RESULTS:
        print(f"{results:3} tool results, retail pack {cost_us(judged(results), 1):10.1f} µs")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
