"""Owns what the tests of this folder share: a small config to change, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import accounting, config
from proxy.documents import Source
from proxy.errors import ConfigError
from proxy.snapshot import Snapshot
from proxy.terms import Message, RawRequest, Request, Target, Usage

PRICES = accounting.price_table()
AT_MS = 1_767_225_600_000
MODEL_PRICE = {"input_usd_per_mtok": 2, "output_usd_per_mtok": 10}
POLICY = """
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec: {rules: [{id: r, phase: request, when: 'true', action: deny}]}
"""
BASE: dict[str, Any] = {
    "providers": {"one": {"dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}},
    "models": {"large": {"provider": "one", "price": MODEL_PRICE}},
}
ENVIRONMENT = {"KEY": "sk-1", "NAME": "web"}
ASK = RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=b"", peer="p")


def load(text: str, folder: Path = Path()) -> config.Loaded:
    """Read a config text."""
    return config.load(Source(path="handrail.yaml", text=text), ENVIRONMENT, folder)


def build(tree: dict[str, Any], folder: Path = Path()) -> Snapshot:
    """Compile a config tree."""
    loaded = load(yaml.safe_dump(tree), folder)
    return config.build(loaded, ENVIRONMENT, simulated_url="http://127.0.0.1:2/v1", prices=PRICES)


def problems(text: str, folder: Path = Path()) -> list[str]:
    """Return what is wrong with a config text."""
    with pytest.raises(ConfigError) as caught:
        config.build(load(text, folder), ENVIRONMENT, simulated_url="", prices=PRICES)
    return caught.value.problems


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the base config with one value set, at a path like `models.large.tags`."""
    tree: dict[str, Any] = yaml.safe_load(yaml.safe_dump(BASE))
    *folders, name = path.split(".")
    spot = tree
    for folder in folders:
        spot = spot.setdefault(folder, {})
    spot[name] = value
    return tree


def sent(snapshot: Snapshot, model: str = "large") -> Any:
    """Return the call that goes upstream for a model."""
    request = Request(
        dialect="chat", model=model, messages=(Message(role="user", text="x"),), body={"model": model}, raw=b"{}"
    )
    target = snapshot.table.asked(model)[0]
    return snapshot.providers[target.provider].encode(request, target)


def cost(snapshot: Snapshot, target: Target, input_tokens: int = 0, output_tokens: int = 0) -> int | None:
    """Return what a usage costs at a target, None where no price is known."""
    price = snapshot.price(target, AT_MS, "")
    return price.cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens)).nanousd if price else None


UNKNOWN = Target(alias="new", provider="one", model="new")
MILLION = 10**6
"""One dollar per million tokens is 1000 nano-dollars per token, so a million tokens cost 10**9."""
PROVIDER = "providers: {one: {dialect: openai, base_url: 'http://127.0.0.1:1/v1'}}\n"
