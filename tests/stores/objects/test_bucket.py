"""Owns the proof of what a bucket promises of one object, and of what an error says."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.stores.objects.bucket import Bucket, Settings, opened, trouble


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """Give a bucket on disk."""
    return opened(Settings(url="cold"), tmp_path)


def test_what_is_there_is_not_written_over(bucket: Bucket) -> None:
    """Creating says whether it wrote; replacing always does."""
    assert [True, False, b"1"] == [bucket.create("a/b", b"1"), bucket.create("a/b", b"2"), bucket.read("a/b")]

    bucket.replace("a/b", b"3")

    assert b"3" == bucket.read("a/b")


def test_what_is_not_there_is_nothing(bucket: Bucket) -> None:
    """An object that is gone is neither read nor listed, and deleting it again changes nothing."""
    bucket.create("a/b", b"12345")
    [entry] = bucket.entries("a")
    assert [b"345", b"12345"] == [bucket.read_end(entry, 3), bucket.read_end(entry, 99)]
    for _ in range(2):
        bucket.delete("a/b")

    assert [None, None, None, []] == [
        bucket.read("a/b"),
        bucket.read_end(entry, 3),
        bucket.written("a/b"),
        [*bucket.entries("a")],
    ]


@pytest.mark.parametrize("url", ["cold", "file://{}/cold"], ids=["path", "file URL"])
def test_a_path_is_a_folder(tmp_path: Path, url: str) -> None:
    """A path starts beside the configuration; a file URL says all of it."""
    opened(Settings(url=url.format(tmp_path)), tmp_path).create("a", b"1")

    assert b"1" == (tmp_path / "cold" / "a").read_bytes()


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """What was said is in it. One that is there keeps its mode: others may have been let in on purpose."""
    (tmp_path / "shared").mkdir(mode=0o755)
    for name in ("new", "shared"):
        opened(Settings(url=name), tmp_path).create("a", b"1")

    assert [0o700, 0o755] == [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "shared")]


@pytest.mark.parametrize("url", ["", "ftp://x/y", "file://host/x", "s3://", "https://x/y"])
def test_what_is_no_place_is_told(tmp_path: Path, url: str) -> None:
    """A URL that means nothing is an error that lists what does."""
    with pytest.raises(ConfigError, match="it is a path, file:///path, s3://bucket/prefix"):
        opened(Settings(url=url), tmp_path)


def test_an_error_has_no_url() -> None:
    """A signed URL is a credential: it is never told."""
    assert (
        "The cold tier failed: OSError: GET … was refused."
        == trouble(OSError("GET https://b.example/x?signature=1 was refused.\nmore")).message
    )
