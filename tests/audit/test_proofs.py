"""Owns the proof of proxy/audit/proofs.py: what stands alone proves itself, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.notes import BadNote
from proxy.audit.proofs import grown, prove, prove_growth, proven
from tests.audit.logs import NAME, OTHER, SIGNER, THIEF, leaves, log, sign

LOG = log(21)
VERIFIER = SIGNER.verifier


def proof(index: int = 7) -> str:
    """Prove one entry."""
    return prove(LOG[index][:-1], index, leaves(LOG), sign(LOG))


def growth(size: int = 5) -> str:
    """Prove that the log grew from some size."""
    return prove_growth(size, leaves(LOG), sign(LOG))


@given(st.integers(0, len(LOG) - 1))
def test_a_proof_shows_its_entry(index: int) -> None:
    """The entry comes out of the proof with its place and the log's size."""
    found = proven(proof(index), VERIFIER)

    assert (LOG[index][:-1], index, len(LOG), NAME) == (
        found.entry,
        found.index,
        found.checkpoint.size,
        found.checkpoint.origin,
    )


@given(st.integers(0, len(proof().encode()) - 1), st.integers(1, 255))
def test_no_byte_of_a_proof_can_change(place: int, change: int) -> None:
    """Wherever one byte is another, nothing is shown."""
    data = bytearray(proof().encode())
    data[place] ^= change

    with pytest.raises(BadNote):
        proven(data.decode(errors="replace"), VERIFIER)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(proof().replace("tlog-proof@v1", "tlog-proof@v2"), id="another form"),
        pytest.param(proof().replace("\nextra ", "\nextras "), id="no entry"),
        pytest.param(proof().replace("\nindex 7", "\nindex 8"), id="another place"),
        pytest.param(proof().replace("\nindex 7", "\nindex 07"), id="no number"),
        pytest.param(prove(LOG[7][:-1], 7, leaves(LOG), sign(LOG, THIEF)), id="another key"),
        pytest.param(prove(LOG[7][:-1], 7, leaves(LOG), sign(LOG, origin="elsewhere")), id="another origin"),
        pytest.param(prove(LOG[7][:-1], 7, leaves(LOG), sign(LOG[:20])), id="another size"),
    ],
)
def test_what_shows_nothing(text: str) -> None:
    """Each is refused."""
    with pytest.raises(BadNote):
        proven(text, VERIFIER)


@given(st.integers(1, len(LOG)))
def test_growth_is_shown_from_every_size(size: int) -> None:
    """Whoever kept an old checkpoint learns that the log of today is a continuation of it."""
    assert len(LOG) == grown(growth(size), sign(LOG[:size]), VERIFIER).size


@pytest.mark.parametrize(
    ("text", "old"),
    [
        pytest.param(growth(), sign([*LOG[:4], b"other\n"]), id="what was there has changed"),
        pytest.param(growth(4), sign(LOG[:5]), id="from another size"),
        pytest.param(growth(), sign(LOG[:5], OTHER), id="another log"),
        pytest.param(growth().replace("old 5", "5"), sign(LOG[:5]), id="no size"),
    ],
)
def test_what_did_not_only_grow(text: str, old: str) -> None:
    """Each is refused."""
    with pytest.raises(BadNote):
        grown(text, old, VERIFIER)
