"""Owns the JSON shapes of OpenAI's Responses API: items to nouns, usage and ends, both ways.

In: decoded trees, lenient. Out: nouns. Never: an exception because of what a provider sent, or an item that its client
would act on and we would not call a tool call. Follows OpenAI's API reference, "Responses".
"""

from __future__ import annotations

from typing import Any

from proxy import openai_json
from proxy.openai_json import Tree
from proxy.terms import Usage

ARGUMENTS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Calls of the agent's own tools, and where each kind has its arguments."""
RUN_BY_AGENT = frozenset(
    {"apply_patch_call", "computer_call", "local_shell_call", "mcp_approval_request", "shell_call"}
)
"""Calls of tools that have no name but their kind, and that the agent carries out as well."""
ANSWERS = {
    "function_call_output": "output",
    "custom_tool_call_output": "output",
    "apply_patch_call_output": "output",
    "computer_call_output": "output",
    "local_shell_call_output": "output",
    "shell_call_output": "output",
    "mcp_approval_response": "approve",
}
"""What came of these, and where it says so."""
CALL_ID = ("call_id", "approval_request_id", "id")
_ENVELOPE = frozenset({"id", "type", "status", "call_id"})
TEXTS = {"output_text": "text", "input_text": "text", "text": "text", "summary_text": "text", "refusal": "refusal"}
"""Where each kind of part has its words."""


def is_call(item: Tree) -> bool:
    """Tell an item that its agent acts on."""
    return item.get("type") in ARGUMENTS or item.get("type") in RUN_BY_AGENT


def name(item: Tree) -> str:
    """Return the name of the tool that an item calls."""
    kind = openai_json.text(item.get("type"))
    return openai_json.text(item.get("name")) if kind in ARGUMENTS else kind


def arguments(item: Tree) -> str:
    """Return the arguments of a call as text; of one that has none of that name, all that it says."""
    key = ARGUMENTS.get(openai_json.text(item.get("type")))
    if key:
        return openai_json.arguments(item.get(key))
    said = {name: value for name, value in item.items() if name not in _ENVELOPE}
    return openai_json.dump(said).decode() if said else ""


def call_id(item: Tree) -> str:
    """Return the id by which the result of a call names it."""
    return next((openai_json.text(item[key]) for key in CALL_ID if item.get(key)), "")


def objects(value: Any) -> list[Tree]:
    """Return what of a list are objects; nothing where there is no list."""
    return [entry for entry in value if type(entry) is dict] if type(value) is list else []


def usage(tree: Tree) -> Usage | None:
    """Read the usage of a response; None when it has none. A count that cannot be one is 0, with a doubt."""
    said = tree.get("usage")
    if type(said) is not dict:
        return None
    renamed: Tree = {
        "prompt_tokens": said.get("input_tokens"),
        "completion_tokens": said.get("output_tokens"),
        "total_tokens": said.get("total_tokens"),
        "prompt_tokens_details": said.get("input_tokens_details"),
        "completion_tokens_details": said.get("output_tokens_details"),
    }
    return openai_json.usage({"usage": renamed})


def usage_object(used: Usage) -> Tree:
    """Return the usage object of our counts."""
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {"cached_tokens": used.cache_read_tokens},
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}


def finish_reason(tree: Tree, called: bool) -> str:
    """Return how a response ended, in the words of chat completions; `called`: it has calls for the agent."""
    if tree.get("status") == "incomplete":
        details = tree.get("incomplete_details")
        why = openai_json.text(details.get("reason")) if type(details) is dict else ""
        return _INCOMPLETE.get(why, why or "length")
    return "tool_calls" if called else "stop"


def ending(finish: str) -> tuple[str, str]:
    """Return the status and the reason for being incomplete of a response that ended so."""
    why = next((why for why, word in _INCOMPLETE.items() if word == finish), "")
    return ("incomplete", why) if why else ("completed", "")
