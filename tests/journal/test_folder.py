"""Owns the proof of proxy/journal/folder.py: a log's files are found, read and understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.audit import SALT_BYTES
from proxy.errors import ConfigError
from proxy.journal import folder as files
from tests.journal.written import SEED, look, settings, write


def test_entries_are_read_in_order_over_all_files(tmp_path: Path) -> None:
    """Whatever file they are in, each with its place."""
    write(settings(tmp_path, segment_bytes=300), ["a", "b"], ["c"], ["d"])
    found = list(files.lines(tmp_path))

    assert len(files.segments(tmp_path)) > 1
    assert [f'"seq":{number}}}' for number in range(len(found))] == [
        line.decode().rstrip().rpartition(",")[2] for _, line in found
    ]
    assert "entries-000000000000.jsonl:2" == found[1][0]


def test_salts_are_found_and_deleted_one_by_one(tmp_path: Path) -> None:
    """Each entry has one of its own, in whatever file; deleting it changes nothing of the log."""
    write(settings(tmp_path, segment_bytes=300), ["a", "b"], ["c"], ["d"])
    salts = {index: files.salt_of(tmp_path, index) for index in range(8)}

    files.erase(tmp_path, [5])

    assert 8 == len(set(salts.values()))
    assert {**salts, 5: files.ERASED} == {index: files.salt_of(tmp_path, index) for index in range(8)}
    assert () == look(tmp_path).problems


def test_entries_are_found_by_what_they_are_about(tmp_path: Path) -> None:
    """Several about one call, a spoilt line between them; how many salts there were is told once."""
    write(settings(tmp_path, segment_bytes=300), ["a", "b"], ["a"], ["c"])
    with files.segments(tmp_path)[-1].open("ab") as file:
        file.write(b"spoilt\n")

    found = files.about(tmp_path, {"a", "c"})
    assert ["a", "a", "c"] == [entry["id"] for index, entry in enumerate(whole(tmp_path)) if index in found]
    assert [3, 0] == [files.erase(tmp_path, found) for _ in range(2)]


def whole(folder: Path) -> list[dict[str, str]]:
    """Read the entries that are whole."""
    return [json.loads(line) for _, line in files.lines(folder) if line.startswith(b"{")]


def test_a_salt_that_was_never_written_counts_as_deleted(tmp_path: Path) -> None:
    """As after a power cut."""
    write(settings(tmp_path), ["a"])
    path = files.salts_of(files.segment(tmp_path, 0))
    path.write_bytes(path.read_bytes()[: SALT_BYTES + 5])

    assert files.ERASED == files.salt_of(tmp_path, 2)
    assert files.ERASED[5:] == files.salt_of(tmp_path, 1)[5:]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(None, "there is no audit log", id="none"),
        pytest.param(b"x", "is no public key", id="no key"),
        pytest.param(b"\xff", "is no public key", id="no text"),
    ],
)
def test_a_key_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, why: str) -> None:
    """With the file, or with what has to be done first."""
    if content is not None:
        (tmp_path / files.PUBLIC_KEY).write_bytes(content)

    with pytest.raises(ConfigError, match=why):
        files.key_of(tmp_path)


def test_a_file_that_is_not_ours_is_told(tmp_path: Path) -> None:
    """Its name has no number."""
    with pytest.raises(ConfigError, match="no file of an audit log"):
        files.first_of(tmp_path / "entries-copy.jsonl")


def test_the_key_beside_a_log_is_that_of_its_checkpoints(tmp_path: Path) -> None:
    """So that anybody can check the log who got the key on a way of its own."""
    write(settings(tmp_path), ["a"])

    assert files.key_of(tmp_path).name == files.text(tmp_path / files.CHECKPOINTS).splitlines()[0]
    assert SEED.hex() not in (tmp_path / files.PUBLIC_KEY).read_text()
