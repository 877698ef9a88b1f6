"""Owns what tests of the cold tier are given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.stores.objects import ObjectShelf
from tests.stores.objects.buckets import SERVICES, opened


@pytest.fixture(params=SERVICES)
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectShelf]:
    """Give a shelf with each service there is, empty."""
    async with opened(request.param, tmp_path) as one:
        yield one
