"""Owns the proof that a URL opens the right store, and that what is wrong with one is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.exceptions import PermissionDeniedError

from proxy.errors import ConfigError
from proxy.stores.objects import Settings
from proxy.stores.objects.bucket import opened, trouble
from tests.stores.objects.buckets import Breaking


@pytest.mark.parametrize("url", ["cold tier", "file://{folder}/cold%20tier"])
def test_local_disk_is_a_path_or_a_url(tmp_path: Path, url: str) -> None:
    """Both name the same folder, which is made."""
    bucket = opened(Settings(url=url.format(folder=tmp_path)), tmp_path)

    assert bucket.create("exchanges/x", b"data")
    assert b"data" == (tmp_path / "cold tier/exchanges/x").read_bytes()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(Settings(url="ftp://host/x"), "tiers.cold.url: 'ftp://host/x' is none", id="scheme"),
        pytest.param(Settings(url=""), "tiers.cold.url: '' is none", id="empty"),
        pytest.param(Settings(url="s3:///x"), "names no bucket", id="no bucket"),
        pytest.param(Settings(url="gs://b", region="r"), "tiers.cold.region: gs:// has none", id="useless option"),
        pytest.param(Settings(url="/proc/nowhere/x"), "cannot be opened", id="no folder"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, settings: Settings, expected: str) -> None:
    """A place that cannot be is an error of the configuration."""
    with pytest.raises(ConfigError, match=expected):
        opened(settings, tmp_path)


def test_an_object_is_written_once() -> None:
    """Whoever comes second is told, and changes nothing; an object that is gone is None, and deleted twice is gone."""
    bucket = Breaking()

    assert [True, False] == [bucket.create("a/x", b"one"), bucket.create("a/x", b"two")]
    assert b"one" == bucket.read("a/x")
    for _ in range(2):
        bucket.delete("a/x")
    assert (None, None) == (bucket.read("a/x"), bucket.written("a/x"))


def test_a_signed_url_is_not_told() -> None:
    """What callers and logs are told of a failure has no URL in it."""
    error = PermissionDeniedError("GET https://host/x?sig=secret in 1ms - 403\nDebug source: more")

    assert "The cold tier failed: PermissionDeniedError: GET … in 1ms - 403." == str(trouble(error))
