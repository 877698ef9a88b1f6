"""Owns the values that have no parts: JSON, headers, secrets, and the words of which one is chosen."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    # A decoder of nouns takes no alias that names itself.
    Json = Any
"""One JSON value, as decoded: an opaque tree outside `wire`, `providers` and `config`."""


Headers: TypeAlias = Mapping[str, str]
"""HTTP headers with lower-cased names, one value each."""


class Level(enum.StrEnum):
    """How much an agent may do on its own (POLICY.md, Maturity)."""

    ASSIST = "assist"
    EXECUTE = "execute"
    OPERATE = "operate"

    @property
    def rank(self) -> int:
        """Order the levels: 1 is assist, 3 is operate."""
        return _RANKS[self]


class Phase(enum.StrEnum):
    """A point of the walk at which policy is asked."""

    REQUEST = "request"
    TOOL_RESULT = "tool_result"
    ROUTE = "route"
    CHUNK = "chunk"
    TOOL_CALL = "tool_call"
    RESPONSE = "response"
    POST = "post"


class Verdict(enum.StrEnum):
    """What a rule wants done, least restrictive first."""

    ALLOW = "allow"
    RECORD = "record"
    LABEL = "label"
    ANNOTATE = "annotate"
    ALERT = "alert"
    LEVEL = "level"
    ROUTE = "route"
    STRIP_TOOLS = "strip_tools"
    REDACT = "redact"
    REWRITE = "rewrite"
    REPLACE = "replace"
    REQUIRE_APPROVAL = "require_approval"
    ESCALATE = "escalate"
    DENY = "deny"

    @property
    def weight(self) -> int:
        """Order the verdicts: the heaviest of all matched rules wins."""
        return _WEIGHTS[self]


_RANKS = {level: rank for rank, level in enumerate(Level, 1)}


_WEIGHTS = {verdict: weight for weight, verdict in enumerate(Verdict)}


class Mode(enum.StrEnum):
    """Whether a rule acts, only records what it would have done, or is skipped."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class OnDeny(enum.StrEnum):
    """How a denial looks to the agent: a well-formed reply, an OpenAI error object, or, of a tool call, not at all: the
    model is told why, and what it says then is the reply."""

    REPLY = "reply"
    ERROR = "error"
    EXPLAIN = "explain"


class OnDisconnect(enum.StrEnum):
    """What becomes of a streamed reply whose client has left: it is read on, so that its cost is known, or ended."""

    DRAIN = "drain"
    ABORT = "abort"


class Obligation(enum.StrEnum):
    """What else has to happen where a rule matched: its facts are kept, or somebody is told."""

    RECORD = "record"
    ALERT = "alert"


class How(enum.StrEnum):
    """What a redaction puts in the place of what it takes out: a label, a keyed digest, a placeholder that is put back
    in the reply, or nothing."""

    MASK = "mask"
    HASH = "hash"
    TOKENIZE = "tokenize"
    OMIT = "omit"


class HandoffBy(enum.StrEnum):
    """How the agent learns that a human takes over: by its own hand-off tool, by a response header, or not at all."""

    TOOL = "tool"
    HEADER = "header"
    WEBHOOK = "webhook"


class UsageSource(enum.StrEnum):
    """Where token counts come from, most trusted first."""

    PROVIDER = "provider"
    PARTIAL = "partial"
    """In part what the provider said, in part what was counted here: the reply was cut, or a count cannot be right."""
    TOKENIZER = "tokenizer"
    BYTES = "bytes"
    BOUND = "bound"
    NONE = "none"


class State(enum.StrEnum):
    """How far an exchange or an attempt has come."""

    DISPATCHED = "dispatched"
    COMPLETE = "complete"
    DENIED = "denied"
    FAULT = "fault"
    CLIENT_GONE = "client_gone"
    RECOVERED = "recovered"


class Secret:
    """Hold a credential that cannot be printed, pickled or encoded by accident; `reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the credential; only the upstream door calls this."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
