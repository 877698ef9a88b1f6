"""Owns the proof of proxy/sealing.py: what is sealed opens with its key, in its row, as it was, or is an error."""

from __future__ import annotations

import sys
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError, Overloaded
from proxy.sealing import KEY_BYTES, LIBRARY, NONCE_BYTES, PLAIN, Seal, keys
from proxy.terms import Table

OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES
BODY = b'{"said":"the word"}'


def seal(*secrets: bytes) -> Seal:
    """Make a seal whose nonces are numbers."""
    numbers = count()
    return Seal(secrets, lambda: next(numbers).to_bytes(NONCE_BYTES, "big"))


@given(st.text(st.characters(codec="utf-8")), st.text())
def test_what_is_sealed_opens(text: str, row_id: str) -> None:
    """As it was, whatever it says and whatever its row is called; nothing of it shows."""
    one, body = seal(NEW), f"<{text}>".encode()

    stored = one.seal(Table.FACTS, row_id, body)

    assert (body, False) == (one.open(Table.FACTS, row_id, stored.encode()), f"<{text}>" in stored)


def test_equal_bodies_do_not_show() -> None:
    """Each has a nonce of its own."""
    one = seal(NEW)

    assert 2 == len({one.seal(Table.FACTS, "ex_1", BODY) for _ in range(2)})


@pytest.mark.parametrize(
    ("sealing", "table"),
    [pytest.param(PLAIN, Table.FACTS, id="without a key"), pytest.param(seal(NEW), Table.SESSIONS, id="no content")],
)
def test_what_is_not_to_be_sealed_stays_as_it_is(sealing: Seal, table: Table) -> None:
    """Where no key is configured, and in the tables without content; it can be read with keys and without."""
    stored = sealing.seal(table, "x", BODY)

    assert [BODY] * 3 == [stored.encode(), PLAIN.open(table, "x", stored), seal(NEW).open(table, "x", stored)]


def test_keys_are_changed_by_adding_one() -> None:
    """The first seals; those after it go on opening what they have sealed."""
    before, after = seal(OLD), seal(NEW, OLD)
    old, new = (one.seal(Table.HELD, "ap_1", BODY) for one in (before, after))

    assert [BODY, BODY] == [after.open(Table.HELD, "ap_1", stored) for stored in (old, new)]
    with pytest.raises(Overloaded, match=r"held ap_1 is sealed with key [0-9a-f]{8}, which"):
        before.open(Table.HELD, "ap_1", new)


@pytest.mark.parametrize(
    ("table", "row_id", "spoil", "says"),
    [
        pytest.param(Table.FACTS, "ex_2", lambda text: text, "is not as it was sealed", id="in another row"),
        pytest.param(Table.HELD, "ex_1", lambda text: text, "is not as it was sealed", id="in another table"),
        pytest.param(Table.FACTS, "ex_1", lambda text: text[:-8], "is not as it was sealed", id="cut short"),
        pytest.param(Table.FACTS, "ex_1", lambda text: text[:18], "is not as it was sealed", id="nothing left"),
        pytest.param(Table.FACTS, "ex_1", lambda text: f"{text}!", "is not as it was sealed", id="no base64"),
        pytest.param(Table.FACTS, "ex_1", lambda text: text.replace(":1:", ":1:x"), "which `state", id="no such key"),
    ],
)
def test_what_was_changed_or_moved_is_an_error(table: Table, row_id: str, spoil: object, says: str) -> None:
    """Never an empty answer, and never another row's content."""
    one = seal(NEW)
    assert callable(spoil)
    stored = spoil(one.seal(Table.FACTS, "ex_1", BODY))

    with pytest.raises(Overloaded, match=f"{table} {row_id} .*{says}") as refused:
        one.open(table, row_id, stored)
    assert "content_sealed" == refused.value.code


def test_what_rows_are_found_by_is_keyed() -> None:
    """So nobody can try out on it what a body may say; a newer key changes nothing, another oldest one does."""
    digest = "0123456789abcdef0123456789abcdef"
    found = [one.keyed(digest) for one in (PLAIN, seal(OLD), seal(NEW, OLD), seal(NEW))]

    assert (digest, found[1], 3) == (found[0], found[2], len(set(found)))
    assert found[1] != seal(OLD).keyed(digest[::-1])


def test_a_file_of_keys() -> None:
    """One a line, newest first; blank lines say nothing."""
    assert [NEW, OLD] == keys(f"{NEW.hex()}\n\n{OLD.hex()}\n", "x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "x: has no key: `openssl rand -hex 32` makes one", id="empty"),
        pytest.param("\nzz", "x:2: is no key: it has 32 bytes in hexadecimal", id="no hexadecimal"),
        pytest.param("00" * 31, "x:1: is no key: it has 32 bytes in hexadecimal", id="too short"),
    ],
)
def test_a_file_that_has_none(text: str, says: str) -> None:
    """Is told with its line, and never with what stands there."""
    with pytest.raises(ConfigError) as refused:
        keys(text, "x")

    assert [says] == refused.value.problems


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, LIBRARY, None)

    with pytest.raises(ConfigError, match=r"handrail\[audit\]"):
        seal(NEW)
