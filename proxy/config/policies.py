"""Owns policies and guards from files: which files a configuration means, and what they compile to."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from proxy import accounting, plugins, policy, redaction
from proxy.config.reading import Loaded
from proxy.documents import Problems, Source
from proxy.errors import ConfigError
from proxy.pipeline.rehearsal import rehearse
from proxy.pipeline.searching import Finder
from proxy.ports import Guard, Priced
from proxy.terms import Finding

POLICY_FILE = "policy.yaml"
TESTS_FILE = "tests.yaml"
LOCK_FILE = "policies.lock"
"""Beside the configuration, whose policies it locks."""


Place: TypeAlias = tuple[str, ...]
IN_FORCE: Place = ("policies",)
CANDIDATE: Place = ("candidate", "policies")
"""Where a config names policies."""


def compiled(
    loaded: Loaded, problems: Problems, place: Place = IN_FORCE
) -> tuple[dict[str, Guard], policy.PolicySet | None]:
    """Compile the policies that a config names, with the guards of their packs; what is wrong goes on the list."""
    files = list(dict.fromkeys(_named(loaded, problems, place)))
    sources = _read(files, problems)
    tests = _read(_beside(files, TESTS_FILE), problems, there=False)
    kill = _read(_kill_switch(loaded), problems, there=False)
    guards, lock, policies = dict[str, Guard](), policy.Lock(), None
    with _noting(problems):
        guards = guards_of(files)
    with _noting(problems):
        lock = lock_of(loaded)
    with _noting(problems):
        policies = policy.load(
            sources,
            functions=FUNCTIONS,
            guards={name: guard.labels for name, guard in guards.items()},
            routes={*loaded.config.models, *loaded.config.pools},
            kill=kill,
        )
        lock.hold(policies.documents, problems)
        # What is stopped must stop, also where a gate wants it to go on.
        policy.hold_gates(tests, policies.without(policy.KILL_SWITCH), rehearse)
    return guards, policies


def _kill_switch(loaded: Loaded) -> list[Path]:
    return [loaded.folder / loaded.config.kill_switch] if loaded.config.kill_switch else []


def _read(paths: Sequence[Path], problems: Problems, *, there: bool = True) -> list[Source]:
    """Read files; those that need not be there are passed over if they are not."""
    found: list[Source] = []
    for path in paths:
        if there or path.exists():
            with _noting(problems):
                found.append(source_of(path))
    return found


def _beside(files: Sequence[Path], name: str) -> list[Path]:
    """Return where a file of this name stands, or would, beside the others."""
    return list(dict.fromkeys(path.with_name(name) for path in files))


def _named(loaded: Loaded, problems: Problems, place: Place = IN_FORCE) -> Iterator[Path]:
    for index, pattern in enumerate(_patterns(loaded, place)):
        found = policy_files(loaded.folder, pattern)
        if not found:
            problems.add(loaded.text.at((*place, index)), f"no file matches {pattern}")
        elif found == [loaded.folder / pattern / POLICY_FILE] and not found[0].exists():
            way = f"for all packs in it write {Path(pattern) / '*' / POLICY_FILE}"
            problems.add(
                loaded.text.at((*place, index)), f"{pattern} has no {POLICY_FILE}: name a pack's folder; {way}"
            )
            continue
        yield from found


def _patterns(loaded: Loaded, place: Place) -> tuple[str, ...]:
    candidate = loaded.config.candidate
    return loaded.config.policies if place is IN_FORCE else candidate.policies if candidate else ()


@contextlib.contextmanager
def _noting(problems: Problems) -> Iterator[None]:
    """Put what is wrong in the block on the list, and go on: a reader is told everything at once."""
    try:
        yield
    except (ConfigError, policy.PolicyProblems) as error:
        problems.found += error.problems


def lock_of(loaded: Loaded) -> policy.Lock:
    """Read the lock beside a config, an empty one if there is none; raise ConfigError."""
    path, problems = lock_path(loaded), Problems()
    lock = policy.read_lock(source_of(path), problems) if path.exists() else policy.Lock()
    if problems.found:
        raise ConfigError(problems.found)
    return lock


def lock_path(loaded: Loaded) -> Path:
    """Return where the lock of a config is, or would be."""
    return loaded.folder / LOCK_FILE


def watched_policies(loaded: Loaded) -> Iterator[Path]:
    """Yield every file that decides what the policies of a config come to."""
    yield lock_path(loaded)
    yield from _kill_switch(loaded)
    patterns = (*_patterns(loaded, IN_FORCE), *_patterns(loaded, CANDIDATE))
    files = [path for pattern in patterns for path in policy_files(loaded.folder, pattern)]
    yield from files
    for name in (TESTS_FILE, *(f"{name}.yaml" for name in plugins.names("guards"))):
        yield from _beside(files, name)


def policies_of(paths: Sequence[Path], functions: policy.Functions | None = None) -> policy.PolicySet:
    """Compile policy files by themselves, with the guards of their packs; raise ConfigError or PolicyProblems."""
    guards = guards_of(paths)
    return policy.load(
        [source_of(path) for path in paths],
        functions=functions or FUNCTIONS,
        guards={name: guard.labels for name, guard in guards.items()},
    )


def policies_for(loaded: Loaded, functions: policy.Functions) -> policy.PolicySet:
    """Compile the policies that a config names, with what its kill switch stops; raise ConfigError. Whether lock and
    gates let them serve is not asked."""
    problems = Problems()
    files = list(dict.fromkeys(_named(loaded, problems)))
    sources, kill = _read(files, problems), _read(_kill_switch(loaded), problems, there=False)
    with _noting(problems):
        guards = {name: guard.labels for name, guard in guards_of(files).items()}
        routes = {*loaded.config.models, *loaded.config.pools}
        found = policy.load(sources, functions=functions, guards=guards, routes=routes, kill=kill)
    if problems.found:
        raise ConfigError(problems.found)
    return found


def guards_of(policies: Sequence[Path]) -> dict[str, Guard]:
    """Create every guard, each with the files beside the policies that are named like it (`topics.yaml` teaches the
    guard `topics`); one that learns from such a file is there only where a pack has it."""
    guards: dict[str, Guard] = {}
    for name in plugins.names("guards"):
        sources = [source_of(path) for path in _beside(policies, f"{name}.yaml") if path.exists()]
        module = plugins.load("guards", name)
        if sources or not getattr(module, "LEARNS", False):
            guards[name] = _guard(name, tuple(sources))
    return guards


@functools.lru_cache(maxsize=64)
def _guard(name: str, sources: tuple[Source, ...]) -> Guard:
    """Create a guard; to learn takes long, and a reload seldom changes what there is to learn."""
    guard: Guard = plugins.load("guards", name).create(sources)
    return guard


def source_of(path: Path) -> Source:
    """Read a file, named as seen from the working folder; raise ConfigError."""
    name = os.path.relpath(path)
    try:
        return Source(path=name, text=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{name}: cannot be read: {why_unreadable(error)}"]) from error


def policy_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files that one entry of `policies` means: a file, a pack's folder (its policy.yaml), a glob."""
    path = folder / pattern
    found = [path] if path.is_dir() else [Path(name) for name in sorted(glob.glob(str(path)))]
    return [one / POLICY_FILE if one.is_dir() else one for one in found]


def _window_key(window: str, zone: str, at_ms: int) -> str:
    return accounting.window_key(accounting.Window(window), at_ms, accounting.zone_named(zone))


_FINDERS: tuple[Priced, ...] = tuple(plugins.load("guards", name).create(()) for name in ("pii", "secrets"))
_GROUNDING = plugins.load("guards", "grounding").create(())


FINDER = Finder(_FINDERS)
"""Finds personal data and secrets; a history comes again with each turn of its conversation, and after a reload."""

FUNCTIONS = policy.Functions(
    tokens=accounting.estimate,
    window_key=_window_key,
    find=FINDER.find,
    find_us=lambda text: sum(guard.most_us(text) for guard in _FINDERS),
    kinds={label: (guard.lookbehind, ahead) for guard in _FINDERS for label, ahead in guard.lookaheads.items()},
    ungrounded=_GROUNDING.scan,
    claims=_GROUNDING.claims,
    read_us=_GROUNDING.most_us,
)
"""What policies can compute with the help of other rooms."""


_GUARD_OF = {label: guard.name for guard in _FINDERS for label in guard.labels}


def _found_in_kept(text: str) -> tuple[Finding, ...]:
    """Return also what stood where there is a mark now: a rule that found it then finds it again."""
    marked = (
        Finding(guard=_GUARD_OF[kind], label=kind, start=start, end=end)
        for kind, start, end in redaction.marks(text, _GUARD_OF)
    )
    return (*FINDER.find(text), *marked)


OF_KEPT = msgspec.structs.replace(FUNCTIONS, find=_found_in_kept)
"""The same, about texts that were kept."""


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Say in a few words why a file could not be read."""
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8"
