"""Owns a Redis and its replica, which take turns: each failover loses the last writes, as replication may."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.redis_servers import RedisServer, whichever

_SYNC_S = 30.0


class RedisPair:
    """Two servers in a folder, of which clients reach the one that is the primary, by `url`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._link = folder / "redis.sock"
        program = whichever()
        self._sockets = [folder / f"{name}.sock" for name in "ab"]
        self.primary, self._replica = (
            RedisServer(program, folder / path.stem, "--unixsocket", str(path)) for path in self._sockets
        )
        self.url = f"unix://{self._link}"

    def __enter__(self) -> RedisPair:
        for server in (self.primary, self._replica):
            server.start()
        self._point()
        self._follow()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.primary, self._replica):
            server.kill()

    def fail_over(self, lost_s: float, before: Callable[[], object] = lambda: None) -> None:
        """Cut the replica off, kill the primary a moment later, and have clients reach the replica, which has not heard
        of what was written in that moment; then the killed one follows. `before` is done in that moment."""
        self._replica.command("REPLICAOF", "NO", "ONE")
        before()
        time.sleep(lost_s)
        self.primary.kill()
        self.primary, self._replica = self._replica, self.primary
        self._sockets.reverse()
        self._point()
        self._replica.start()
        self._follow()

    def _point(self) -> None:
        fresh = self._link.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._sockets[0])
        os.replace(fresh, self._link)

    def _follow(self) -> None:
        self._replica.command("REPLICAOF", "127.0.0.1", self.primary.port)
        until_s = time.monotonic() + _SYNC_S
        while "master_link_status:up" not in self._told():
            if time.monotonic() > until_s:
                raise TimeoutError("the replica did not come up")
            time.sleep(0.02)

    def _told(self) -> str:
        told = self._replica.command("INFO", "replication")
        return f"master_link_status:{told['master_link_status']}" if isinstance(told, dict) else str(told)
