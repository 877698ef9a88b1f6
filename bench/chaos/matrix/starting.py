"""Owns row 22 of the fault matrix: configurations that are wrong, which refuse to start and say where."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.chaos.matrix.cell import KEY
from bench.chaos.report import ROOT

GOOD = """\
providers:
  raw: {dialect: openai, base_url: "http://127.0.0.1:9/v1", api_key_env: CANARY_KEY}
models:
  m: {provider: raw, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
policies: [policy.yaml]
state: {path: state.sqlite}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
    - {id: r, phase: request, when: 'request.user_text == "x"', action: deny, message: No.}
"""
REFUSED_S = 30.0
"""A start is refused within this, however busy the machine is."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration, and what has to be said of it."""

    fault: str
    told: tuple[str, ...]
    """Each stands in what is printed: where it is, and what is wrong."""
    config: str = GOOD
    policy: str = POLICY
    environment: tuple[tuple[str, str], ...] = (("CANARY_KEY", KEY),)


def cells() -> Iterator[Start]:
    """Yield the cells: each refuses to start, with exit code 2, and names the place."""
    yield Start(fault="no key in the environment", environment=(), told=("handrail.yaml:2:", "CANARY_KEY"))
    for fault, was, becomes, told in (
        ("a key that nobody knows", "state:", "stat:", ("handrail.yaml:6:", "stat")),
        ("broken YAML", "models:", "models: [", ("handrail.yaml:",)),
        ("a key twice", "state:", "models: {}\nstate:", ("handrail.yaml:6:", "models")),
        ("a provider that is not there", "provider: raw", "provider: gone", ("handrail.yaml:4:", "gone")),
        ("a dialect that is not there", "dialect: openai", "dialect: latin", ("handrail.yaml:2:", "latin")),
        ("no base URL", 'base_url: "http://127.0.0.1:9/v1", ', "", ("handrail.yaml:2:", "base_url")),
        ("a price that is a word", "input_usd_per_mtok: 1", "input_usd_per_mtok: cheap", ("handrail.yaml:4:",)),
        ("a negative price", "input_usd_per_mtok: 1", "input_usd_per_mtok: -1", ("handrail.yaml:4:",)),
        ("a policy that is not there", "policy.yaml", "gone.yaml", ("handrail.yaml:5:", "gone.yaml")),
        ("a pool of nothing", "state:", "pools: {all: [nobody]}\nstate:", ("handrail.yaml:6:", "nobody")),
        ("a limit that is a word", "state:", "limits: {idle_s: long}\nstate:", ("handrail.yaml:6:", "idle_s")),
    ):
        yield Start(fault=fault, config=GOOD.replace(was, becomes, 1), told=told)
    for fault, was, becomes, told in (
        ("CEL that does not parse", "== ", "=== ", ("policy.yaml:6:",)),
        ("CEL that names nothing", "user_text", "user_txt", ("policy.yaml:6:", "user_txt")),
        ("CEL of another phase", "request.user_text", "response.text", ("policy.yaml:6:", "response")),
        ("a verdict that a phase has not", "action: deny", "action: replace", ("policy.yaml:6:",)),
        ("a rule without an id", "id: r, ", "", ("policy.yaml:6:", "id")),
        ("a section that nobody knows", "  rules:", "  rulez:", ("policy.yaml:5:", "rulez")),
        ("no version", ", version: 1.0.0", "", ("policy.yaml:3:", "version")),
    ):
        yield Start(fault=fault, policy=POLICY.replace(was, becomes, 1), told=told)


def judged(start: Start, folder: Path) -> str:
    """Start it; return what is not as specified, empty where all is."""
    place = folder / "start"
    place.mkdir(exist_ok=True)
    (place / "handrail.yaml").write_text(start.config)
    (place / "policy.yaml").write_text(start.policy)
    environment = {name: value for name, value in os.environ.items() if name != "CANARY_KEY"}
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "proxy", "serve", "--config", str(place / "handrail.yaml")],
            env={**environment, "PYTHONPATH": str(ROOT), **dict(start.environment)},
            capture_output=True,
            text=True,
            timeout=REFUSED_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "it started"
    said = ran.stdout + ran.stderr
    missing = [word for word in start.told if word not in said]
    if ran.returncode not in (1, 2) or missing or KEY in said or "Traceback" in said:
        return f"exit code {ran.returncode}, {missing} not in {said[:300]!r}"
    return ""
