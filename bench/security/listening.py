"""Owns a server that keeps whatever is sent to it: a webhook and a collector at once."""

from __future__ import annotations

import gzip
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class Ear:
    """Listens on loopback and keeps heads and bodies, by path; `with` starts it and ends it."""

    def __init__(self) -> None:
        self.heard: dict[str, bytes] = defaultdict(bytes)
        ear = self

        class Handler(BaseHTTPRequestHandler):
            """Takes everything."""

            def do_POST(self) -> None:
                """Keep it, unpacked."""
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                text = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                ear.heard[self.path] += str(self.headers).encode() + text
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server has
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Ear:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
