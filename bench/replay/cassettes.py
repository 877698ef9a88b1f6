"""Owns recorded exchanges as they lie in a folder: one JSON object per line of `*.jsonl.gz` or `*.jsonl`."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec


class Asked(msgspec.Struct, frozen=True):
    """The recorded request."""

    path: str = ""
    host: str = ""
    content_type: str | None = None
    body: str | None = None
    body_b64: str | None = None

    @property
    def data(self) -> bytes:
        """Return its body."""
        return base64.b64decode(self.body_b64) if self.body_b64 else (self.body or "").encode()


class Answered(msgspec.Struct, frozen=True):
    """The recorded reply."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: str | None = None
    body_b64: str | None = None

    @property
    def data(self) -> bytes:
        """Return its body, as it came but for compression."""
        return base64.b64decode(self.body_b64) if self.body_b64 else (self.body or "").encode()


class Called(msgspec.Struct, frozen=True):
    """A tool call that the reply is known to have."""

    name: str | None = ""
    arguments: str | None = ""


class Expected(msgspec.Struct, frozen=True):
    """What the recording says came back, worked out from its body without Handrail. None: it does not say."""

    usage: Mapping[str, int | None] | None = None
    text: str | None = None
    tool_calls: tuple[Called, ...] | None = None
    finish: str | int | None = None
    model: str | None = None
    n_embeddings: int | None = None


class Cassette(msgspec.Struct, frozen=True):
    """One recorded exchange."""

    id: str
    provider: str
    endpoint: str
    request: Asked
    response: Answered
    stream: bool = False
    source: str = ""
    path: str = ""
    expect: Expected | None = None


def read(folder: Path) -> Iterator[Cassette]:
    """Yield the cassettes of a folder, file by file; raise ValueError naming the line that is none."""
    decoder = msgspec.json.Decoder(Cassette)
    for path in sorted((*folder.glob("*.jsonl.gz"), *folder.glob("*.jsonl"))):
        data = path.read_bytes()
        for number, line in enumerate((gzip.decompress(data) if path.suffix == ".gz" else data).splitlines(), 1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{path.name}:{number}: {error}") from None
