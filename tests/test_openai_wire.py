"""Owns the proof of what OpenAI and Azure serve alike."""

from __future__ import annotations

from proxy import chat_wire, responses_wire
from proxy.openai_wire import DIALECTS, WIRES


def test_each_dialect_has_its_path() -> None:
    """And what is sent and read there."""
    assert {"chat", "responses"} == DIALECTS
    assert ("/chat/completions", chat_wire.body) == (WIRES["chat"].path, WIRES["chat"].body)
    assert ("/responses", responses_wire.body) == (WIRES["responses"].path, WIRES["responses"].body)
