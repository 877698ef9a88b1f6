"""Owns the proof of what the admin pages say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy import app
from proxy.server import routes
from tests.app.running import POLICY, ask, get, options, token_of, until
from tests.walking import CONFIG as WALKED
from tests.walking import compiled

COVERED = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - {id: asks, phase: request, action: deny, when: guards.injection.score > 0.9}
    - {id: reads, phase: response, action: deny, when: guards.voice.flagged && guards.injection.flagged}
    - {id: notes, phase: response, action: annotate, when: guards.voice.flagged, annotations: {a: b}, mode: shadow}
    - {id: steps, phase: chunk, action: deny, when: chunk.text == "x"}
    - {id: calls, phase: tool_call, action: deny, when: tool.name == "x"}
"""


async def test_coverage_says_what_is_looked_at(folder: Path) -> None:
    """By endpoint; by guard, in which phases rules read it, none of measured quality; and by rule, what waits for it
    where the reply is streamed and where it is not."""
    snapshot = await asyncio.to_thread(compiled, WALKED, COVERED, folder)

    page: Any = app.coverage(snapshot)

    read = {guard["name"]: (guard["quality"], guard["read_in"]) for guard in page["guards"]}
    assert routes.coverage() == page["endpoints"]
    assert (("unmeasured", ["request", "response"]), ("unmeasured", ["response"])) == (read["injection"], read["voice"])
    assert ("unmeasured", []) == read["pii"]
    assert [
        ("p/asks@1.0.0", "request", "enforce", "before", "before"),
        ("p/reads@1.0.0", "response", "enforce", "hold", "hold"),
        ("p/notes@1.0.0", "response", "shadow", "after", "after"),
        ("p/steps@1.0.0", "chunk", "enforce", "window", "window"),
        ("p/calls@1.0.0", "tool_call", "enforce", "hold", "hold"),
    ] == [(*rule.values(),) for rule in page["rules"]]


async def test_rules_are_counted(folder: Path) -> None:
    """/status says of each rule how often it matched."""
    await asyncio.to_thread((folder / "policy.yaml").write_text, POLICY.replace("WORD", "one"))
    settings = await asyncio.to_thread(options, folder)
    async with app.running(settings) as here:
        token = await token_of(here)
        await ask(here)

        async def counted() -> bool:
            (rule,) = (await get(f"http://{here.admin_listen}/status", token))[1]["rules"]
            return bool(rule["matched"] == 1)

        assert await until(counted)


@pytest.mark.parametrize(
    ("more", "said", "laid_out"),
    [
        pytest.param("", {"state": "process", "forced_by": None}, False, id="default"),
        pytest.param("state: {durability: disk}\n", {"state": "disk", "forced_by": None}, True, id="asked for"),
        pytest.param("audit: {required: true}\n", {"state": "disk", "forced_by": "audit.required"}, True, id="forced"),
    ],
)
async def test_what_records_survive(folder: Path, more: str, said: object, laid_out: bool) -> None:
    """/status says what it is, and what has forced it; under `disk` the log is made ready for syncs."""
    settings = await asyncio.to_thread(options, folder, more)
    async with app.running(settings) as here:
        _, page = await get(f"http://{here.admin_listen}/status", await token_of(here))
        log = (folder / ".handrail" / "handrail.sqlite-wal").stat().st_size

    assert (said, laid_out) == (page["durability"], log > 1 << 20)
