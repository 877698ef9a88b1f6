"""Owns the door to the inbound dialects: which endpoint speaks which, and the error object that all of them share."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.ports import Dialect
from proxy.wire import chat, models, responses
from proxy.wire.chat_replies import error_body

__all__ = ["DIALECTS", "chat", "error_body", "models", "responses"]

DIALECTS: Mapping[str, Dialect] = {"/v1/chat/completions": chat, "/v1/responses": responses}
