"""Owns what makes a log tamper-evident: canonical entries in a Merkle tree, signed checkpoints of it, and proofs.

In: records, keys, bytes of a log. Out: entries, notes, proofs, reports. Never: a file, a clock or a random number.
"""

from __future__ import annotations

from proxy.audit.canonical import canonical
from proxy.audit.entries import (
    SALT_BYTES,
    Fields,
    Writer,
    asked,
    closed,
    dispatched,
    event,
    finished,
    opens,
    ruled,
)
from proxy.audit.examination import Report, examine, newest, parsed
from proxy.audit.merkle import Frontier, leaf_hash
from proxy.audit.notes import BadNote, Checkpoint, Signer, Verifier, decoded, encoded, notes, verifier
from proxy.audit.proofs import Proven, grown, prove, prove_growth, proven, signed

__all__ = [
    "SALT_BYTES",
    "BadNote",
    "Checkpoint",
    "Fields",
    "Frontier",
    "Proven",
    "Report",
    "Signer",
    "Verifier",
    "Writer",
    "asked",
    "canonical",
    "closed",
    "decoded",
    "dispatched",
    "encoded",
    "event",
    "examine",
    "finished",
    "grown",
    "leaf_hash",
    "newest",
    "notes",
    "opens",
    "parsed",
    "prove",
    "prove_growth",
    "proven",
    "ruled",
    "signed",
    "verifier",
]
