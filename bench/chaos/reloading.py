"""Owns the files of R7: a configuration and policies in generations, how they are changed, and how they are broken.

Each policy denies a question of its own with the number of its generation, and leaves a mark on every call in each
phase. The configuration has an alias by the name of its generation. So one call shows which generation decides. The
policy `mount` lies in a folder as Kubernetes mounts a ConfigMap: `..data` is a symlink that is exchanged for another.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from bench.chaos.serving import LISTENERS

CONFIG = """\
providers: {raw: {dialect: openai, base_url: "URL"}}
models:
  m: {provider: raw, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  gen-NUMBER: {provider: raw, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
unlisted_models: deny
policies: [policy.yaml, mounted/policy.yaml]
state: {path: state.sqlite}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: NAME, version: 1.0.NUMBER}
spec:
  rules:
    - id: which
      phase: request
      when: request.user_text == "which NAME?"
      action: deny
      message: generation NUMBER
    - {id: begins, phase: request, when: "true", action: annotate, annotations: {NAME: "NUMBER"}}
    - {id: passes, phase: chunk, action: redact, pattern: "lo there"}
    - {id: ends, phase: response, when: "true", action: annotate, annotations: {NAME: "NUMBER"}}
"""
GATE = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicyTest
spec:
  policies: [policy.yaml]
  cases:
    - name: who asks is told
      gate: true
      phase: request
      given: {request: {user_text: "which plain?"}}
      expect: {verdict: deny}
"""
PLAIN, MOUNTED, CONFIGURED = "plain", "mount", "config"


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of what is in force."""

    plain: int = 0
    mount: int = 0
    config: int = 0


class Files:
    """What a Handrail is configured by."""

    def __init__(self, folder: Path, provider_url: str) -> None:
        self._folder = folder
        self._config = CONFIG.replace("URL", provider_url)
        self._mount = folder / "mounted"
        self._versions = 0
        self.now = Generation()
        """What is in force, or will be."""

    def begin(self) -> str:
        """Write the first generation; return the configuration."""
        shutil.rmtree(self._mount, ignore_errors=True)
        self._mount.mkdir(parents=True)
        (self._folder / "tests.yaml").write_text(GATE)
        self._swap(policy("mount", 0))
        (self._mount / "policy.yaml").symlink_to("..data/policy.yaml")
        (self._folder / "policy.yaml").write_text(policy("plain", 0))
        return self.config(0)

    def config(self, number: int) -> str:
        """Return the configuration of a generation, without the listeners."""
        return self._config.replace("NUMBER", str(number))

    def change(self, number: int) -> str:
        """Change what the way of this number changes, and mend what is broken; return the way's name."""
        name, way = WAYS[number % len(WAYS)]
        way(self)
        return name

    def spoil(self, number: int) -> tuple[str, str]:
        """Break something; return what this is called, and a pattern of the place at which it has to be told."""
        name, place, fault = FAULTS[number % len(FAULTS)]
        fault(self)
        return name, place

    # --- ways ---------------------------------------------------------------------------------------------------------

    def rewritten(self) -> None:
        """Write the policy anew in its place."""
        self._next(PLAIN)
        self._mend()

    def renamed(self) -> None:
        """Put another file in the policy's place, as editors do."""
        self._next(PLAIN)
        fresh = self._folder / "policy.yaml.new"
        fresh.write_text(policy("plain", self.now.plain))
        fresh.replace(self._folder / "policy.yaml")
        self._mend()

    def configured(self) -> None:
        """Write the configuration anew."""
        self._next(CONFIGURED)
        self._mend()

    def swapped(self) -> None:
        """Exchange the folder as the kubelet does."""
        self._next(MOUNTED)
        self._mend()
        self._swap(policy("mount", self.now.mount))

    # --- faults -------------------------------------------------------------------------------------------------------

    def edit(self, name: str, old: str, new: str) -> None:
        """Write a file with something else in it."""
        path = self._folder / name
        path.write_text(path.read_text().replace(old, new))

    def swap_broken(self) -> None:
        """Exchange the folder for one with a broken policy."""
        self._swap(policy("mount", self.now.mount + 1).replace("user_text", "user_txt"))

    def delete(self) -> None:
        """Delete the policy."""
        (self._folder / "policy.yaml").unlink()

    def garble(self) -> None:
        """Write what is no text."""
        (self._folder / "policy.yaml").write_bytes(b"\xff" * 99)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _next(self, part: str) -> None:
        self.now = replace(self.now, **{part: getattr(self.now, part) + 1})

    def _mend(self) -> None:
        """Have every file say what it should; one that does is left alone."""
        wanted = {
            self._folder / "handrail.yaml": LISTENERS + self.config(self.now.config),
            self._folder / "policy.yaml": policy("plain", self.now.plain),
        }
        for path, text in wanted.items():
            if not path.exists() or path.read_bytes() != text.encode():
                path.write_text(text)
        if (self._mount / "policy.yaml").read_text() != (text := policy("mount", self.now.mount)):
            self._swap(text)

    def _swap(self, text: str) -> None:
        """Write a folder beside the other, exchange the link in one step, delete the other."""
        self._versions += 1
        fresh, data, link = self._mount / f"..{self._versions}", self._mount / "..data", self._mount / "..data_tmp"
        before = data.resolve() if data.exists() else None
        fresh.mkdir()
        (fresh / "policy.yaml").write_text(text)
        link.symlink_to(fresh.name)
        os.replace(link, data)
        if before:
            shutil.rmtree(before)


def policy(name: str, number: int) -> str:
    """Return a policy of a generation."""
    return POLICY.replace("NAME", name).replace("NUMBER", str(number))


def _line(text: str, of: str) -> int:
    """Return the line on which something stands."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if of in line)


def _place(name: str, of: str, text: str) -> str:
    return rf"{re.escape(name)}:{_line(text, of)}:\d+: "


_WHEN = _place("policy.yaml", "when: request.user_text", POLICY)
WAYS: tuple[tuple[str, Callable[[Files], None]], ...] = (
    ("a policy rewritten", Files.rewritten),
    ("a policy replaced by renaming", Files.renamed),
    ("the configuration rewritten", Files.configured),
    ("a ConfigMap swapped", Files.swapped),
)
FAULTS: tuple[tuple[str, str, Callable[[Files], None]], ...] = (
    ("no YAML", r"policy\.yaml:8:\d+: ", lambda files: files.edit("policy.yaml", "when: ", "when: [")),
    ("a name that CEL does not know", _WHEN, lambda files: files.edit("policy.yaml", "user_text", "user_txt")),
    (
        "a key that policies do not have",
        _place("policy.yaml", "id: which", POLICY),
        lambda files: files.edit("policy.yaml", "id: which", "name: which"),
    ),
    (
        "a gate that fails",
        _place("tests.yaml", "name: who asks", GATE),
        lambda files: files.edit("policy.yaml", "which plain?", "who?"),
    ),
    (
        "a key that the configuration does not have",
        _place("handrail.yaml", "unlisted_models", LISTENERS + CONFIG),
        lambda files: files.edit("handrail.yaml", "unlisted_models", "listed_models"),
    ),
    (
        "a policy that is not there",
        _place("handrail.yaml", "policies:", LISTENERS + CONFIG),
        lambda files: files.edit("handrail.yaml", "[policy.yaml", "[police.yaml"),
    ),
    ("a broken ConfigMap", "mounted/" + _WHEN, Files.swap_broken),
    ("a policy deleted", _place("handrail.yaml", "policies:", LISTENERS + CONFIG), Files.delete),
    ("a policy that is no text", r"policy\.yaml: cannot be read: it is not UTF-8", Files.garble),
)
