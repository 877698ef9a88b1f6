"""Owns reading the store's file beside the processes that serve: for the command line, status pages and exports."""

from __future__ import annotations

from types import TracebackType

from proxy.terms import Exchange, Totals


class Reader:
    """Read one file, never write it; each call sees the newest commits and holds nothing open in between."""

    def __init__(self, path: str) -> None:
        """Open the file; raise ConfigError when there is none or it is not ours."""
        raise NotImplementedError

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""

    def tail(self, limit: int) -> list[tuple[int, Exchange]]:
        """Return the newest finished exchanges with their sequence numbers, oldest first."""
        raise NotImplementedError

    def after(self, seq: int, limit: int = 500) -> list[tuple[int, Exchange]]:
        """Return finished exchanges written after `seq`, oldest first; a corrected one comes again with a new number."""
        raise NotImplementedError

    def between(self, from_ms: int, to_ms: int) -> list[Exchange]:
        """Return finished exchanges that started in [from, to), in that order."""
        raise NotImplementedError

    def find(self, name: str) -> Exchange | None:
        """Return the exchange, finished or in flight, that has this id or holds the decision with this id."""
        raise NotImplementedError

    def totals(self) -> list[tuple[str, str, Totals]]:
        """Return every counter as (scope, window, totals)."""
        raise NotImplementedError
