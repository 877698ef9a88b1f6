"""Owns the proof of proxy/cli/keys.py: a key that a keys file then knows."""

import re

import pytest

from proxy.cli import main
from proxy.identity import digest_of, load_keys


def test_a_new_key_is_known_by_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    """The printed entry is a keys file that knows the printed key, and the key itself is not in it."""
    status = main(["keys", "web"])
    shown, entry = capsys.readouterr().out.split("entry for the keys file:\n")
    key = re.search(r"hr_\w+", shown)

    (known,) = load_keys(entry, "keys.yaml")

    assert (0, "web") == (status, known.name)
    assert key
    assert known.sha256 == digest_of(key[0])
    assert key[0] not in entry


def test_a_key_s_scope_stands_in_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    """What a key may do is said when it is made, and stands where its holder cannot reach it."""
    said = ["--expires", "2027-01-31", "--agent", "shop", "--model", "small", "--model", "large", "--endpoint", "chat"]

    assert 0 == main(["keys", "web", *said])
    (known,) = load_keys(capsys.readouterr().out.split("entry for the keys file:\n")[1], "keys.yaml")

    assert ("2027-01-31", "shop", ("small", "large"), ("chat",)) == (
        known.expires,
        known.agent,
        known.models,
        known.endpoints,
    )


def test_a_name_that_no_keys_file_takes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """No key is shown whose entry would not load."""
    assert 2 == main(["keys", "web, expires: 2000-01-01"])
    assert ("", True) == ((said := capsys.readouterr()).out, "$.name" in said.err)
