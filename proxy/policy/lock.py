"""Owns the lock: what each version of each policy said when it was locked, so that a version means one thing for ever.

One line for each version, as `go.sum` has them, because such lines merge and compare by themselves. What was locked
once stays, also when the policy goes on to its next version: records name versions.
In: a lock's text, documents. Out: a Lock, its text, what does not agree with it. Never: a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from proxy.documents import Problems, Source
from proxy.policy.rule import Document

HEAD = "# What each version of each policy says. `handrail check --lock` adds lines; keep them, and keep this file.\n"
SHOWN = 12
"""So many digits of a digest tell two of them apart for a reader."""

_LINE = re.compile(r"(\S+) (\S+) sha256:([0-9a-f]{64})")


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """The digests of the versions that were locked, by (name, version)."""

    digests: Mapping[tuple[str, str], str] = {}

    def state(self, document: Document) -> Literal[True, False, "changed"]:
        """Say whether a document's version is locked with just this content, not locked, or locked with another."""
        locked = self.digests.get((document.name, document.version))
        if locked is None:
            return False
        return locked == document.digest or "changed"

    def hold(self, documents: Iterable[Document], problems: Problems) -> None:
        """Put every document on the list whose content changed and whose version did not."""
        for document in documents:
            if self.state(document) == "changed":
                locked = self.digests[document.name, document.version]
                problems.add(
                    document.position,
                    f"`{document.name}` {document.version} was locked as sha256:{locked[:SHOWN]}… and is now "
                    f"sha256:{document.digest[:SHOWN]}…: raise its `version`, then run handrail check --lock",
                )

    def add(self, documents: Iterable[Document]) -> Lock:
        """Return the lock with the versions that it did not have; those that it had stay as they were."""
        return Lock(digests={(d.name, d.version): d.digest for d in documents} | dict(self.digests))

    def text(self) -> str:
        """Write the lock."""
        lines = (f"{name} {version} sha256:{digest}\n" for (name, version), digest in sorted(self.digests.items()))
        return HEAD + "".join(lines)


def read_lock(source: Source, problems: Problems) -> Lock:
    """Read a lock; a line that is none, or that contradicts another, goes on the list."""
    digests: dict[tuple[str, str], str] = {}
    for number, line in enumerate(source.text.splitlines(), 1):
        place, found = f"{source.path}:{number}:1", _LINE.fullmatch(line.strip())
        if found is None and line.strip() and not line.startswith("#"):
            problems.add(
                place, "a line of the lock is `name version sha256:…`: restore it, or remove it and lock again"
            )
        elif found and digests.setdefault((found[1], found[2]), found[3]) != found[3]:
            problems.add(
                place, f"`{found[1]}` {found[2]} is locked twice, each time otherwise: keep the line of what was served"
            )
    return Lock(digests=digests)
