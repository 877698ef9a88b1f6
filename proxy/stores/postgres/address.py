"""Owns where the database is: an address as text, as the client's arguments. Nothing is taken from the environment."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PORT = 5432


def arguments(url: str) -> dict[str, Any]:
    """Return what to connect with: `postgresql://user@host:port/database?sslmode=…&sslrootcert=…`, or with `host=` the
    folder of a Unix socket.

    Unless the address says otherwise, the server has to prove who it is, if it is not on this machine.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    user = unquote(parts.username or "") or "postgres"
    host = options.get("host") or unquote(parts.hostname or "") or "localhost"
    mode = options.get("sslmode") or ("disable" if _is_here(host) else "verify-full")
    return {
        "user": user,
        "host": host,
        "port": parts.port or PORT,
        "database": unquote(parts.path.removeprefix("/")) or user,
        "ssl": _context(mode, options.get("sslrootcert")),
    }


def _context(mode: str, root: str | None) -> ssl.SSLContext | bool:
    if mode == "disable":
        return False
    context = ssl.create_default_context(cafile=root)
    if mode == "require":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _is_here(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
