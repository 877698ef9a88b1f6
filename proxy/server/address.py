"""Owns addresses to listen on: from `host:port` or `unix:/path` to a bound socket, and its name."""

from __future__ import annotations

import socket
from pathlib import Path

UNIX = "unix:"


def bind(listen: str) -> tuple[socket.socket, str]:
    """Return a socket bound to `host:port` or `unix:/path`, and its address with the port that was given for port 0;
    raise OSError if it cannot be had. Brackets are around an IPv6 address, as in a URL."""
    if listen.startswith(UNIX):
        return _bind_unix(Path(listen.removeprefix(UNIX))), listen
    host, _, port = listen.rpartition(":")
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    bound = socket.create_server((bare, int(port)), family=family)
    return bound, f"{host}:{bound.getsockname()[1]}"


def _bind_unix(path: Path) -> socket.socket:
    if path.is_socket() and _is_left_behind(path):
        path.unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    return bound


def _is_left_behind(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def release(listen: str) -> None:
    """Remove the file of a Unix socket that is listened on no more."""
    if listen.startswith(UNIX):
        Path(listen.removeprefix(UNIX)).unlink(missing_ok=True)
