"""Owns the nouns of money and of where a call goes: usage, costs, targets, limits and what is held under them."""

from __future__ import annotations

import msgspec

from proxy.terms.values import OnDeny, UsageSource


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of one attempt. `input_tokens` includes cached, cache-write and audio input;
    `output_tokens` includes reasoning and audio output (the OpenAI convention)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    source: UsageSource = UsageSource.PROVIDER
    doubt: str = ""
    """Why what the provider said cannot be right: `negative`, `huge`, `no_number`, `missing`, or `zero`, which is taken
    at its word all the same."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Money of one attempt in nano-dollars, rounded up; None means that no price is known, which is never zero."""

    nanousd: int | None
    price: str = ""
    """Which price row was used, e.g. `openai/gpt-5-mini@2026-01-01`, `override`, `ceiling`; empty when unknown."""
    estimated: bool = False


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A place to send a call: one model at one provider."""

    alias: str
    provider: str
    model: str
    tags: tuple[str, ...] = ()
    context: int = 0
    """Context window in tokens; 0 means not known."""
    max_output: int = 0
    """Most output tokens the model can give; 0 means not known."""


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What a call would cost at a target: expected and at most, None when no price is known."""

    target: Target
    est_nanousd: int | None
    max_nanousd: int | None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Targets in the order in which they are tried, and why."""

    targets: tuple[Target, ...]
    reason: str
    asked: str = ""
    """The alias the client asked for."""
    saved_nanousd: int = 0
    """Expected saving of the first target against the one asked for."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A spend limit that applies to one call: counters are kept under (`scope`, `window`)."""

    rule: str
    scope: str
    window: str
    cap_nanousd: int
    message: str = ""
    on_deny: OnDeny = OnDeny.ERROR
    fit: Fit | None = None
    """None: a call that has no room is refused."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a call that a limit has no room for as it was asked."""

    least_tokens: int = 0
    """It is sent if there is room for so many tokens of output, and limited to what there is; 0: for all or nothing."""
    wait_s: int = 0
    """How long it waits for others to give back what they hold."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """A hold on every limit that applies to one attempt, all or nothing."""

    id: str
    """`exchange_id:attempt`."""
    amount_nanousd: int
    limits: tuple[Limit, ...]
    expires_ms: int
    booked: bool = False
    """It counts as used at once, whatever becomes of its process; a settlement with nothing used gives it back, and
    one that names no counters lets it be."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt in the books: releases the hold and adds what was used to `counters`."""

    reservation_id: str
    nanousd: int
    tokens: int
    counters: tuple[tuple[str, str], ...]
    """(scope, window) pairs to add to."""
