"""Owns what a proven caller may do. Config says it of each; nothing that the caller sends can widen it.

In: a key, a peer or a token's subject, as configured. Out: a value. Never: a request.
"""

from __future__ import annotations

import msgspec


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What its holder may do, and what rules may know of it."""

    agent: str = ""
    """The agent that it is; empty: the one that Handrail stands beside."""
    models: tuple[str, ...] = ()
    """The aliases, pools and models that it may ask for, by the names it asks with; empty: all."""
    endpoints: tuple[str, ...] = ()
    """The endpoints that it may call, by the names of `/coverage`; empty: all."""
    claims: dict[str, str] = {}
    """What rules may know of it, such as `tier` and `roles`."""
