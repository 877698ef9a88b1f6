"""Owns the proof of proxy/audit/merkle.py: RFC 6962's tree and proofs, held against the RFC's own recursive words."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency,
    consistent,
    included,
    inclusion,
    leaf_hash,
    root_of,
)

# The leaves and roots that implementations of Certificate Transparency test with.
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(entry)) for entry in ENTRIES]
MANY = [leaf_hash(bytes([number])) for number in range(70)]
SIZES = st.integers(1, len(MANY))


# --- the same from the words of RFC 6962, 2.1, by recursion over slices ---------------------------------------------


def mth(entries: list[bytes]) -> bytes:
    """The Merkle tree hash of entries."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = halfway(len(entries))
    return hashlib.sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(entries) == 1:
        return []
    k = halfway(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    if m == len(entries):
        return [] if whole else [mth(entries)]
    k = halfway(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], whole), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def halfway(size: int) -> int:
    """The largest power of two below the size."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


RAW = [bytes([number]) for number in range(70)]


# --- roots ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_public_vectors(size: int) -> None:
    """Certificate Transparency's test trees of one to eight leaves."""
    assert ROOTS[size - 1] == root_of(LEAVES[:size]).hex()


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 6962: MTH({}) = SHA-256()."""
    assert EMPTY_ROOT == Frontier().root() == mth([])


@given(SIZES, SIZES)
def test_a_tree_goes_on_from_its_frontier(size: int, more: int) -> None:
    """Size and peaks are all that a tree needs to go on as if it had never stopped."""
    first = Frontier()
    for leaf in MANY[:size]:
        first.add(leaf)
    second = Frontier(first.size, first.peaks)
    for leaf in MANY[size : size + more]:
        second.add(leaf)

    assert mth(RAW[: size + more]) == second.root()


def test_a_frontier_has_one_peak_per_bit() -> None:
    """What cannot be the right edge of a tree is refused."""
    with pytest.raises(ValueError, match="has 2 full subtrees"):
        Frontier(3, [LEAVES[0]])


# --- inclusion --------------------------------------------------------------------------------------------------------


@given(SIZES, st.data())
def test_proofs_of_inclusion_are_the_rfc_s(size: int, data: st.DataObject) -> None:
    """Every proof is the one of the RFC's recursion, and is accepted."""
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion(MANY[:size], index)

    assert path(index, RAW[:size]) == proof
    assert included(MANY[index], index, size, proof, mth(RAW[:size]))


@given(SIZES, st.data())
def test_no_other_proof_is_accepted(size: int, data: st.DataObject) -> None:
    """Another leaf, place, size, root, or a proof that is longer, shorter or changed shows nothing."""
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion(MANY[:size], index), root_of(MANY[:size])
    other = data.draw(st.integers(0, size - 1))
    place = data.draw(st.integers(0, max(len(proof) - 1, 0)))

    assert not included(leaf_hash(b"other"), index, size, proof, root)
    assert other == index or not included(MANY[index], other, size, proof, root)
    assert not included(MANY[index], index, size, [*proof, root], root)
    assert not included(MANY[index], index, size, proof, leaf_hash(b"root"))
    assert not proof or not included(MANY[index], index, size, proof[:-1], root)
    assert not proof or not included(MANY[index], index, size, [*proof[:place], root, *proof[place + 1 :]], root)


@pytest.mark.parametrize(("index", "size"), [(-1, 8), (8, 8), (0, 0)])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    """Neither made nor accepted."""
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion(LEAVES[:size], index)
    assert not included(LEAVES[0], index, size, [], LEAVES[0])


# --- growth -----------------------------------------------------------------------------------------------------------


@given(SIZES, st.data())
def test_proofs_of_growth_are_the_rfc_s(size: int, data: st.DataObject) -> None:
    """Every proof is the one of the RFC's recursion, and is accepted."""
    old = data.draw(st.integers(1, size))
    proof = consistency(MANY[:size], old)

    assert subproof(old, RAW[:size]) == proof
    assert consistent((old, mth(RAW[:old])), (size, mth(RAW[:size])), proof)


@given(SIZES, st.data())
def test_no_other_history_is_accepted(size: int, data: st.DataObject) -> None:
    """A log of which an old entry was changed has no proof, nor does a changed, longer or shorter one show anything."""
    old = data.draw(st.integers(1, size))
    assume(old < size)
    changed = data.draw(st.integers(0, old - 1))
    was, now = root_of(MANY[:old]), root_of(MANY[:size])
    forged = [*MANY[:changed], leaf_hash(b"other"), *MANY[changed + 1 : size]]
    proof = consistency(MANY[:size], old)

    assert not consistent((old, was), (size, root_of(forged)), consistency(forged, old))
    assert not consistent((old, was), (size, now), [*proof, now])
    assert not consistent((old, was), (size, now), proof[:-1])
    assert not consistent((old, leaf_hash(b"was")), (size, now), proof)


@pytest.mark.parametrize(
    ("old", "new", "proof"),
    [
        pytest.param((0, EMPTY_ROOT), (1, LEAVES[0]), [], id="of nothing"),
        pytest.param((2, LEAVES[0]), (1, LEAVES[0]), [], id="it shrank"),
        pytest.param((1, LEAVES[0]), (1, LEAVES[1]), [], id="another root of the same size"),
        pytest.param((1, LEAVES[0]), (1, LEAVES[0]), [LEAVES[0]], id="with a proof where none is needed"),
        pytest.param((3, LEAVES[0]), (5, LEAVES[1]), [], id="without a proof where one is"),
    ],
)
def test_what_is_no_growth(old: tuple[int, bytes], new: tuple[int, bytes], proof: list[bytes]) -> None:
    """Trees that cannot have grown from one to the other."""
    assert not consistent(old, new, proof)


@pytest.mark.parametrize("size", [0, 9])
def test_there_is_no_proof_of_a_size_that_never_was(size: int) -> None:
    """A tree of eight leaves had no size of zero to grow from, nor one of nine."""
    with pytest.raises(ValueError, match="never had"):
        consistency(LEAVES, size)
