"""Owns addresses to listen on: from `host:port` or `unix:/path` to a bound socket, and its name."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

UNIX = "unix:"
PRIVATE = 0o600
"""The mode of a Unix socket that only its own user may connect to."""
_UCRED = struct.Struct("3i")
"""What the kernel says of a peer: process, user and group (unix(7))."""


def bind(listen: str, mode: int = PRIVATE) -> tuple[socket.socket, str]:
    """Return a socket bound to `host:port` or `unix:/path`, and its address with the port that was given for port 0;
    raise OSError if it cannot be had. Brackets are around an IPv6 address, as in a URL; a Unix socket has this mode."""
    if listen.startswith(UNIX):
        return _bind_unix(Path(listen.removeprefix(UNIX)), mode), listen
    host, _, port = listen.rpartition(":")
    # No name is looked up for what has to stay on this machine: somebody may have given it to another.
    bare = "127.0.0.1" if host == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    bound = socket.create_server((bare, int(port)), family=family)
    return bound, f"{host}:{bound.getsockname()[1]}"


def _bind_unix(path: Path, mode: int) -> socket.socket:
    if path.is_socket() and _is_left_behind(path):
        path.unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(bound.fileno(), PRIVATE)  # The file is made with this, so it is never more open than it shall be.
        bound.bind(str(path))
        path.chmod(mode)
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


def uid_of(connected: socket.socket | None) -> int | None:
    """Return the user at the other end of a connection, as the kernel says; None where it is no Unix socket."""
    if connected is None or connected.family != socket.AF_UNIX:
        return None
    said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(said)[1])


def release(listen: str) -> None:
    """Remove the file of a Unix socket that is listened on no more."""
    if listen.startswith(UNIX):
        Path(listen.removeprefix(UNIX)).unlink(missing_ok=True)
