"""Owns the proof of proxy/audit/notes.py: signed notes and checkpoints that others can read, and theirs that we can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.notes import BadNote, Checkpoint, Signer, Verifier, checkpoint, notes, verifier
from tests.audit.logs import NAME, OTHER, SIGNER, THIEF

# The example of Go's golang.org/x/mod/sumdb/note, from which the format comes.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = f"{GO_TEXT}\n— PeterNeumann " + (
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The key and note of C2SP implementations' tests.
C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
TEXT = Checkpoint(origin=NAME, size=3, root=bytes(32)).text
NOTE = SIGNER.sign(TEXT)


@pytest.mark.parametrize(
    ("key", "note", "text"),
    [
        pytest.param(GO_KEY, GO_NOTE, GO_TEXT, id="Go"),
        pytest.param(C2SP_KEY, C2SP_NOTE, "This is an example message.\n", id="C2SP"),
    ],
)
def test_notes_of_others_open(key: str, note: str, text: str) -> None:
    """Notes that other implementations have signed are read, and their keys written as they write them."""
    read = verifier(key)

    assert (text, key) == (read.open(note), read.line)


@pytest.mark.parametrize(
    ("note", "why"),
    [
        pytest.param(NOTE.replace("\n3\n", "\n4\n"), "does not fit", id="another text"),
        pytest.param(THIEF.sign(TEXT), "no signature of", id="another key of this name"),
        pytest.param(OTHER.sign(TEXT), "no signature of", id="another name"),
        pytest.param(TEXT, "no signed note", id="no signature"),
        pytest.param(NOTE.rstrip("\n"), "no signed note", id="cut off"),
        pytest.param("\n\n" + NOTE.partition("\n\n")[2], "no signed note", id="no text"),
        pytest.param(NOTE.replace("— ", "- "), "is no signature", id="no dash"),
        pytest.param(NOTE.replace("=\n", "!\n"), "no base64", id="no base64"),
        pytest.param(NOTE.replace("\n3\n", "\n\t3\n"), "control characters", id="a control character"),
        pytest.param("x" * 70_000 + NOTE, "too long", id="too long"),
    ],
)
def test_what_this_key_has_not_signed_does_not_open(note: str, why: str) -> None:
    """Each way in which a note is not a signed one is told."""
    with pytest.raises(BadNote, match=why):
        SIGNER.verifier.open(note)


def test_signatures_of_others_may_stand_beside() -> None:
    """A witness adds its line; whoever does not know its key passes it over (signed-note, Signatures)."""
    both = NOTE + OTHER.sign(TEXT).partition("\n\n")[2]

    assert TEXT == SIGNER.verifier.open(both) == OTHER.verifier.open(both)


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_no_byte_of_a_note_can_change(place: int, change: int) -> None:
    """Wherever one byte is another, the note does not open."""
    data = bytearray(NOTE.encode())
    data[place] ^= change

    with pytest.raises(BadNote):
        SIGNER.verifier.open(data.decode(errors="replace"))


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="nothing"),
        pytest.param(GO_KEY.replace("c74f20a3", "c74f20a4"), id="another id"),
        pytest.param(GO_KEY.replace("+ARpc", "+BRpc"), id="another kind of key"),
        pytest.param(GO_KEY[:-4], id="cut"),
        pytest.param(GO_KEY.replace("Peter", "Peter "), id="a name with a space"),
    ],
)
def test_what_is_no_key(line: str) -> None:
    """A public key has a name, its id, and 32 bytes."""
    with pytest.raises(BadNote):
        verifier(line)


@pytest.mark.parametrize("name", ["", "a+b", "a b", "a\u00a0b", "a\x7f"])
def test_what_is_no_name(name: str) -> None:
    """A name with a space or a plus could not be told from what follows."""
    with pytest.raises(BadNote, match="cannot be a key's name"):
        Signer(name, bytes(32))


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.integers(0, 2**62),
    st.binary(min_size=32, max_size=32),
)
def test_checkpoints_are_read_as_they_are_written(origin: str, size: int, root: bytes) -> None:
    """Origin, size and root come back."""
    written = Checkpoint(origin=origin, size=size, root=root)

    assert written == checkpoint(written.text)


ROOT = TEXT.split("\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{NAME}\n3\n", id="no root"),
        pytest.param(f"{NAME}\n03\n{ROOT}\n", id="a leading zero"),
        pytest.param(f"{NAME}\n-1\n{ROOT}\n", id="no size"),
        pytest.param(f"{NAME}\n{'9' * 5000}\n{ROOT}\n", id="a size without end"),
        pytest.param(f"{NAME}\n3\nAAAA\n", id="no hash"),
        pytest.param(f"{NAME}\n3\n{ROOT}=\n", id="no base64"),
        pytest.param(f"{NAME}\n3\n{ROOT[:-2]}B=\n", id="base64 with bits that say nothing"),
        pytest.param(f"{NAME}\n3\n{ROOT}", id="no end"),
        pytest.param(f"{NAME}\n3\n{ROOT}\n\nmore\n", id="an empty line"),
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    """Each is refused."""
    with pytest.raises(BadNote):
        checkpoint(text)


def test_a_checkpoint_may_say_more() -> None:
    """Lines after the root are others' extensions."""
    assert 3 == checkpoint(f"{TEXT}extension\n").size


@given(st.lists(st.sampled_from([NOTE, OTHER.sign(TEXT), NOTE + OTHER.sign(TEXT).partition("\n\n")[2]])))
def test_notes_come_apart_again(written: list[str]) -> None:
    """A file to which notes were appended gives back each of them."""
    assert written == list(notes("".join(written)))


def test_a_key_is_told_by_name_and_bytes() -> None:
    """The id depends on both (signed-note, Signatures)."""
    keys = [Verifier(name=name, public=bytes([byte]) * 32) for name in "ab" for byte in (1, 2)]

    assert 4 == len({key.id for key in keys})
