"""Owns chat completions made from what a provider says in another dialect: the hub that every translation goes through.

In: what a reply says, in the fields of OpenAI's own shapes. Out: Deltas whose tree, bytes and nouns say the same, as
the chat dialect has them. Never: a field of a provider's own wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy import framing, openai_json
from proxy.openai_json import Tree
from proxy.terms import Delta, Usage

DONE = b"data: [DONE]\n\n"


class Completion:
    """A reply in the making. `id` and `model` are set when they are known: what is made from then on says them."""

    def __init__(self, at_ms: int) -> None:
        self.id = ""
        self.model = ""
        self._created = at_ms // 1000
        self._numbers = openai_json.CallNumbers()
        self._begun: set[int] = set()

    def chunk(self, delta: Tree, *, index: int = 0, finish_reason: str = "", more: Mapping[str, object] = {}) -> Delta:
        """Return the event in which a choice says `delta`; its first has the role. `more` stands beside the delta."""
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", **delta}
        choice = {"index": index, "delta": delta, **more, "finish_reason": finish_reason or None}
        return self._event([choice])

    def used(self, usage: Usage, more: Mapping[str, object] = {}) -> Delta:
        """Return the event that says what was used, and nothing else."""
        return self._event([], usage, more)

    def done(self) -> Delta:
        """Return the end marker."""
        return Delta(frame=DONE, final=True)

    def whole(self, choices: Sequence[Tree], usage: Usage | None, more: Mapping[str, object] = {}) -> Delta:
        """Return an unstreamed reply: of each choice its `message`, `finish_reason` and what else it has; `more` stands
        beside the choices."""
        tree = self._envelope("chat.completion")
        tree["choices"] = [{"index": index, "logprobs": None, **choice} for index, choice in enumerate(choices)]
        if usage:
            tree["usage"] = openai_json.usage_object(usage)
        tree |= more
        read = openai_json.messages(tree)
        return Delta(frame=openai_json.dump(tree), tree=tree, choices=read, usage=usage, model=self.model)

    def _event(self, choices: Sequence[Tree], usage: Usage | None = None, more: Mapping[str, object] = {}) -> Delta:
        tree = self._envelope("chat.completion.chunk")
        tree["choices"] = choices
        if usage:
            tree["usage"] = {**openai_json.usage_object(usage), **more}
        return Delta(
            frame=framing.encode(openai_json.dump(tree)),
            tree=tree,
            choices=openai_json.deltas(tree, self._numbers),
            usage=usage,
            usage_only=usage is not None,
            model=self.model,
        )

    def _envelope(self, kind: str) -> Tree:
        return {"id": self.id, "object": kind, "created": self._created, "model": self.model}


def tool_call(number: int, *, call_id: str = "", name: str = "", arguments: str = "") -> Tree:
    """Return a tool call, or what of it is new, as events have it; messages have it without the number."""
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return {"index": number, **({"id": call_id, "type": "function"} if call_id else {}), "function": function}
