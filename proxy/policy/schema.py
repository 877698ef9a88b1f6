"""Owns the shape of policy documents: YAML with positions, the JSON Schema, and the list of all that is wrong."""

from __future__ import annotations

import msgspec


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One policy file: `path` names it in messages, `text` is its YAML."""

    path: str
    text: str


class PolicyProblems(Exception):
    """Everything that is wrong with the policies, each as `file:line:column: what, and what to do`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
