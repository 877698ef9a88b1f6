"""Owns the kill switch: a short list of what has to stop at once, as the policy that stops it.

In: the text of a kill switch. Out: the text of an AgentPolicy, with the places of what was written. Never: a way of its
own to deny: it is loaded, decided and recorded as any policy is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from proxy.documents import Mark, Path, Text
from proxy.policy.rule import digest_of
from proxy.terms import Json

KILL_SWITCH = "kill-switch"
"""The name of its policy."""
MESSAGE = "I'm sorry, that is not possible at the moment."

_WRITTEN: Mapping[str, Path] = {"tools": ("spec", "actions", 0, "tools"), "topics": ("spec", "topics", "deny")}
"""Where each list of a kill switch stands in its policy."""


def stops(text: Text) -> Iterator[Text]:
    """Yield the policy that a kill switch stands for, if it stops anything."""
    tree: Any = text.value
    spec, message = dict[str, Any](), tree.get("message", MESSAGE)
    if tools := tree.get("tools"):
        spec["actions"] = [{"id": "tools", "tools": tools, "when": "true", "action": "strip", "message": message}]
    if topics := tree.get("topics"):
        spec["topics"] = {"deny": topics, "minScore": 0, "uncertain": "allow", "message": message}
    if spec:
        # The version follows the content: nobody has time to raise one when something has to stop.
        metadata: Json = {"name": KILL_SWITCH, "version": f"1.0.0+{digest_of(tree)[:12]}"}
        value: Json = {"metadata": metadata, "spec": {"priority": 0, **spec}}
        yield msgspec.structs.replace(text, value=value, marks=dict(_marks(text)))


def _marks(text: Text) -> Iterator[tuple[Path, Mark]]:
    """Yield the marks of what was written, at the places that it has in the policy."""
    yield (), text.marks[()]
    for key, there in _WRITTEN.items():
        for path, mark in text.marks.items():
            if path[:1] == (key,):
                yield (*there, *path[1:]), mark
        if (key,) in text.marks:
            yield there[:-1], text.marks[key,]
