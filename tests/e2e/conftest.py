"""Owns what the tests of this folder share: one Handrail per worker, the provider behind it, the SDK's environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.endings import configure
from tests.e2e.rig import Provider, World, handrail


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start both."""
    with Provider().running() as provider, handrail(configure(tmp_path_factory.mktemp("e2e"), provider.url)) as here:
        yield World(here, provider)


@pytest.fixture
def world(served: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Point an SDK at Handrail as its users do: by the environment, with a key that nobody reads."""
    monkeypatch.setenv("OPENAI_BASE_URL", served.handrail.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "placeholder")
    return served
