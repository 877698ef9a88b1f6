"""Owns what replicas share in Redis: the ledger of spend limits (`open`), and conversations (`open_conversations`).

`link` is one connection, `ledger` what can be asked over it (`ledger.lua` is the half that Redis runs), `purse` what
this replica has of it, `keeper` its standing with it, and `budgets` the port's implementation on all of these.
Of conversations `room` is the connection, `places` and `waiting` are what is known, `conversations` the ports,
`tier` what erasure and exports see of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from proxy.stores import OwnBooks
from proxy.stores.redis.budgets import SharedBudgets
from proxy.stores.redis.conversations import ConversationSettings, SharedConversations, open_conversations, open_tier
from proxy.stores.redis.keeper import Keeper, OnOutage, Settings
from proxy.stores.redis.purse import Purse
from proxy.stores.redis.replica import named

__all__ = [
    "ConversationSettings",
    "OnOutage",
    "Settings",
    "SharedBudgets",
    "SharedConversations",
    "open",
    "open_conversations",
    "open_tier",
]


@asynccontextmanager
async def open(  # noqa: A001 - the name that a store plug-in exports
    settings: Settings, books: OwnBooks, tell: Callable[[str], None] = lambda _: None
) -> AsyncIterator[SharedBudgets]:
    """Yield budgets whose limits are held in Redis and whose books are these; leaving tells the ledger everything.

    `tell` hears why the ledger is away, and the empty text when it is back. Raise ConfigError where another process
    keeps the same books.
    """
    name = named(settings.replica_path)
    replica = await asyncio.to_thread(name.__enter__)
    try:
        purse = Purse(await books.holds())
        keeper = Keeper(settings, replica, books, purse, tell)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(keeper.keep())
            await keeper.first()
            yield SharedBudgets(settings.on_outage, books, purse, keeper)
            keeper.close()
            await keeping
    finally:
        await asyncio.to_thread(name.__exit__, None, None, None)
