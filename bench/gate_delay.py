"""Owns `python bench/gate_delay.py`: what judging a reply holds back of its stream, and what it costs.

The same reply, one event for each word or mark of it, passes restorer, gate and policy without a rule, with personal
data masked in a window (`stream: window`), and with the same rule holding the whole reply (`stream: hold`). Reported of
each: characters and events that wait, at most and on average over all events, and CPU microseconds per event. The cost
is that of sentences as support agents say them, with an address and a card number in every tenth.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence

import msgspec

from proxy.config.policies import FUNCTIONS
from proxy.pipeline.passage import Passage
from proxy.policy import PolicySet, Source, load
from proxy.recording import Draft
from proxy.redaction import Vault
from proxy.terms import Caller, ChoiceDelta, Delta, Facts, Level, Request, Session

PLAIN = "Thank you for waiting. I have looked at your order, and it left our warehouse on Monday morning. "
PERSONAL = "It goes to ann.smith@example.org, paid with 4111 1111 1111 1111. "
HEAD = "apiVersion: handrail.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: p, version: 1.0.0}\nspec:\n"
ENTRY = "  data: [{id: e, direction: out, kinds: [%s], action: mask, stream: %s}]\n"
PII = "email, card, iban, phone"
POLICIES = {
    "no rule": "",
    "window, pii": HEAD + ENTRY % (PII, "window"),
    "window, pii and a key": HEAD + ENTRY % (f"{PII}, openai", "window"),
    "hold, pii": HEAD + ENTRY % (PII, "hold"),
}
CALLER = Caller(agent="a", level=Level.EXECUTE, principal="p")
FACTS = Facts(
    at_ms=0,
    caller=CALLER,
    request=Request(dialect="chat", model="m", messages=(), body={}, raw=b""),
    session=Session(id="s"),
)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What waited after each event."""

    characters: Sequence[int]
    events: Sequence[int]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    stream = spoken(chosen.events)
    sets = {
        name: load([Source(path="p", text=text)] if text else [], functions=FUNCTIONS, guards={})
        for name, text in POLICIES.items()
    }
    took: dict[str, list[float]] = {name: [] for name in sets}
    for _ in range(chosen.rounds):
        for name, policies in sets.items():
            took[name].append(cost_us(policies, stream))
    print(f"{len(stream)} events, {sum(len(delta.choices[0].text) for delta in stream)} characters\n")
    print(f"{'':24}{'characters held':>20}{'events held':>18}{'us/event':>10}{'x':>7}")
    print(f"{'':24}{'max':>10}{'mean':>10}{'max':>9}{'mean':>9}")
    for name, policies in sets.items():
        held, us = waiting(policies, spoken(chosen.events, PLAIN)), min(took[name])
        print(
            f"{name:24}{max(held.characters):10}{mean(held.characters):10.0f}{max(held.events):9}{mean(held.events):9.0f}"
            f"{us:10.2f}{us / min(took['no rule']):7.1f}"
        )


def spoken(events: int, personal: str = PERSONAL) -> list[Delta]:
    """Return a reply, one event for each word or mark of it."""
    text = "".join(personal if number % 10 == 9 else PLAIN for number in range(events // 10))
    tokens = re.findall(r" ?\w+|\W", text)[:events]
    return [Delta(frame=token.encode(), choices=(ChoiceDelta(text=token),)) for token in tokens]


def passage(policies: PolicySet) -> Passage:
    """Return the way of one reply."""
    draft = Draft("ex", "", 0, 0.0)
    draft.stream = True
    return Passage(policies, Vault(b"key", "s"), draft, hold=policies.holds_response, now_ms=lambda: 0.0)


def waiting(policies: PolicySet, stream: Sequence[Delta]) -> Held:
    """Return what waits after each event; nothing is covered, so every event leaves as it came."""
    way, left, came = passage(policies), 0, 0
    characters, events = [], []
    texts = [len(delta.choices[0].text) for delta in stream]
    for number, delta in enumerate(stream, 1):
        came += texts[number - 1]
        left += len(list(way.feed([delta], FACTS)))
        characters.append(came - sum(texts[:left]))
        events.append(number - left)
    return Held(characters=characters, events=events)


def cost_us(policies: PolicySet, stream: Sequence[Delta]) -> float:
    """Return the CPU microseconds that one event costs."""
    way = passage(policies)
    began = time.process_time()
    for delta in stream:
        for _ in way.feed([delta], FACTS):
            pass
    for _ in way.close(FACTS):
        pass
    way.gate.release()
    return (time.process_time() - began) * 1e6 / len(stream)


def mean(numbers: Sequence[int]) -> float:
    """Return the mean of some numbers."""
    return sum(numbers) / len(numbers)


if __name__ == "__main__":
    main()
