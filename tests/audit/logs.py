"""Owns small logs that tests sign, prove and spoil."""

from __future__ import annotations

from proxy.audit import Checkpoint, Frontier, Signer, canonical, encoded, leaf_hash
from proxy.terms import Json

NAME = "handrail-audit/0123456789abcdef"
SIGNER = Signer(NAME, bytes(range(32)))
OTHER = Signer("handrail-audit/fedcba9876543210", bytes(range(32)))
THIEF = Signer(NAME, b"\xff" * 32)


def entry(index: int, kind: str = "call", **fields: Json) -> bytes:
    """Make an entry without its end of line."""
    return canonical({"kind": kind, "seq": index, **fields})


def log(size: int, *, segment: int = 0, other: int = 0) -> list[bytes]:
    """Make the lines of a log; `segment` entries on, it goes on in another file; `other` is another entry than else."""
    tree, lines = Frontier(), list[bytes]()
    for index in range(size):
        if index in (0, segment):
            data = entry(index, "opened", log=NAME, peaks=[encoded(peak) for peak in tree.peaks])
        else:
            data = entry(index, id="other" if other == index else f"ex_{index}")
        tree.add(leaf_hash(data))
        lines.append(data + b"\n")
    return lines


def sign(lines: list[bytes], signer: Signer = SIGNER, *, origin: str = "") -> str:
    """Sign the checkpoint of some lines."""
    tree = Frontier()
    for leaf in leaves(lines):
        tree.add(leaf)
    name = origin or signer.verifier.name
    return signer.sign(Checkpoint(origin=name, size=tree.size, root=tree.root()).text)


def leaves(lines: list[bytes]) -> list[bytes]:
    """Return the leaf hashes of lines."""
    return [leaf_hash(line.removesuffix(b"\n")) for line in lines]
