"""Owns the way to the objects: on local disk, or in S3, Google Cloud Storage or Azure Blob Storage, by one URL.

Every call blocks, and none for long: a request that fails is tried again for `RETRIES_S` at most.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from proxy.errors import ConfigError, Overloaded

if TYPE_CHECKING:
    from obstore.store import ObjectStore

REQUEST_S = 30
RETRIES_S = 30
"""After this a request is not begun again; so no call takes more than a minute."""

_URL = re.compile(r"https?://\S+")
_FORMS = "a path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
_CLOUDS: Mapping[str, tuple[Callable[..., ObjectStore], Mapping[str, str]]] = {
    "s3": (S3Store, {"endpoint": "endpoint", "region": "region"}),
    "gs": (GCSStore, {"endpoint": "base_url"}),
    "az": (AzureStore, {"endpoint": "endpoint", "account": "account_name"}),
}
"""By scheme, how a bucket is opened, and what its options are called there."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where objects are kept. Credentials are looked for in the environment, as the clouds' own tools do."""

    url: str
    endpoint: str = ""
    """Of a service that speaks the same protocol elsewhere; empty: the cloud's own."""
    region: str = ""
    account: str = ""
    """Of Azure."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One object in a listing."""

    path: str
    size: int


class Bucket:
    """Objects by their path. What is written is on the disk, or with the cloud, when a call returns."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects below a prefix."""
        for chunk in obstore.list(self._store, prefix):
            for meta in chunk:
                yield Entry(path=meta["path"], size=meta["size"])

    def read(self, path: str) -> bytes | None:
        """Return an object; None: there is none."""
        with contextlib.suppress(FileNotFoundError):
            return obstore.get(self._store, path).bytes().to_bytes()
        return None

    def read_end(self, entry: Entry, size: int) -> bytes | None:
        """Return as much of an object's end; None: the object is gone."""
        with contextlib.suppress(FileNotFoundError):
            start = max(0, entry.size - size)
            return obstore.get_range(self._store, entry.path, start=start, end=entry.size).to_bytes()
        return None

    def create(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; say whether it was written."""
        try:
            obstore.put(self._store, path, data, mode="create")
        except AlreadyExistsError:
            return False
        self._sync(path)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Write an object, over another if there is one."""
        obstore.put(self._store, path, data, use_multipart=False)
        self._sync(path)

    def delete(self, path: str) -> None:
        """Delete an object, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, path)
            self._sync_folder(path)

    def written(self, path: str) -> datetime | None:
        """Return when an object was written, by the store's own clock; None: there is none."""
        with contextlib.suppress(FileNotFoundError):
            return obstore.head(self._store, path)["last_modified"]
        return None

    def _sync(self, path: str) -> None:
        if self._folder:
            _sync(self._folder / path)
            self._sync_folder(path)

    def _sync_folder(self, path: str) -> None:
        """Sync the folders of an object, new ones included, as far as they are there."""
        if self._folder:
            for folder in (self._folder / path).parents:
                with contextlib.suppress(FileNotFoundError):
                    _sync(folder)
                if folder == self._folder:
                    return


def opened(settings: Settings, base: Path) -> Bucket:
    """Return the bucket of a URL; a path is relative to `base`. Nothing is asked over the network yet.

    Raise ConfigError saying what is wrong with it.
    """
    url = urlsplit(settings.url)
    try:
        if url.scheme in _CLOUDS:
            return Bucket(_cloud(settings, url.scheme, url.netloc, url.path))
        if settings.url and ((url.scheme == "file" and not url.netloc) or "://" not in settings.url):
            folder = base / (unquote(url.path) if url.scheme else settings.url)
            # There is content in it: others read a folder that is made here only if its owner lets them.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Bucket(LocalStore(folder, automatic_cleanup=True), folder)
    except (BaseError, OSError, ValueError) as error:
        raise ConfigError([f"tiers.cold: {settings.url!r} cannot be opened: {_first_line(error)}"]) from error
    raise ConfigError([f"tiers.cold.url: {settings.url!r} is none: it is {_FORMS}"])


def trouble(error: Exception) -> Overloaded:
    """Map a failure of the store to what callers are told. URLs are left out: some are signed."""
    return Overloaded(f"The cold tier failed: {_first_line(error)}.", code="tier_unavailable")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {_URL.sub('…', str(error).partition(chr(10))[0]).rstrip('.')}"


def _cloud(settings: Settings, scheme: str, bucket: str, path: str) -> ObjectStore:
    open_store, names = _CLOUDS[scheme]
    if not bucket:
        raise ConfigError([f"tiers.cold.url: {settings.url!r} names no bucket: it is {_FORMS}"])
    given = {name: getattr(settings, name) for name in ("endpoint", "region", "account") if getattr(settings, name)}
    useless = sorted(given.keys() - names.keys())
    if useless:
        raise ConfigError([f"tiers.cold.{name}: {scheme}:// has none; leave it out" for name in useless])
    options: dict[str, Any] = {names[name]: value for name, value in given.items()}
    return open_store(
        bucket,
        prefix=path.strip("/") or None,
        client_options={
            "allow_http": settings.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=REQUEST_S),
        },
        retry_config={"retry_timeout": timedelta(seconds=RETRIES_S)},
        **options,
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
