"""Owns the proof that what R10 sends gets as far as it should: large, within every limit, under rules that serve."""

from __future__ import annotations

import random

import pytest

from bench.chaos.hostile import MIB, SHAPES, SOURCES, TEXTS, asked, policy, prompts
from proxy.config.policies import FUNCTIONS
from proxy.documents import Source
from proxy.policy import load
from proxy.server.intake import check_parts
from proxy.snapshot import Limits
from proxy.terms import Phase, RawRequest
from proxy.wire.chat import decode

PROMPTS = dict(prompts(random.Random(1)))  # noqa: S311 - a schedule, not a secret


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_prompt_is_as_large_as_it_may_be(shape: str) -> None:
    """About a MiB, and nothing that is refused before any rule sees it."""
    body = asked("m", PROMPTS[shape], stream=True)

    await check_parts(body, Limits().max_body_parts)
    request = decode(RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=body, peer=""))

    assert 0.75 < len(body) / MIB < 1.4
    assert (request.stream, bool(request.messages)) == (True, True)


def test_a_hostile_policy_is_asked_in_every_phase() -> None:
    """An expression is a rule of each phase that looks at texts."""
    written = Source(path="p.yaml", text=policy(0, SOURCES[0]))

    policies = load([written], functions=FUNCTIONS, guards={})

    assert set(TEXTS) == {phase.value for phase in Phase if policies.has(phase)}
