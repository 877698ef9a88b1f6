"""Owns the proof that SIGTERM truncates nothing that fits the grace, and loses nothing of what does not."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from proxy.terms import Exchange, State, Totals
from tests.e2e.rig import LISTENERS, WAIT_S, Provider, Served, handrail, until

STREAMS = 50
TEXT = "All of this has to arrive. " * 4
SHORT = {"text": TEXT, "gap_ms": 20}
"""About 28 tokens: half a second or so after the first of them."""
LONG = {"text": TEXT * 50, "gap_ms": 40}
"""A minute."""
GAPS_MS = (40, 1_000)
"""Between two events; the second where a machine was too busy to see in a second that streams were open."""

CONFIG = """\
providers: {model: {dialect: openai, base_url: "URL"}}
models: {m: {provider: model, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}
policies: [policy.yaml]
state: {path: state.sqlite}
limits: {grace_s: GRACE, connect_s: 60}
"""
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: budget, version: 1.0.0}
spec:
  spend: [{id: cap, scope: agent, window: day, limitUSD: 1000}]
"""


def new_folder(within: Path, number: int) -> Path:
    """Make a folder."""
    folder = within / str(number)
    folder.mkdir()
    return folder


def configure(folder: Path, url: str, grace_s: float) -> Path:
    """Write a configuration in which every call has money held for it."""
    (folder / "policy.yaml").write_text(POLICY)
    path = folder / "handrail.yaml"
    path.write_text(LISTENERS + CONFIG.replace("URL", url).replace("GRACE", str(grace_s)))
    return path


class Client:
    """One open call."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._begun = b""

    @staticmethod
    async def open(here: Served, directives: dict[str, object], *, stream: bool) -> Client:
        """Send a call; a streamed one is open once its first event has arrived."""
        host, _, port = here.base_url.removeprefix("http://").removesuffix("/v1").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        tree = {
            "model": "m",
            "stream": stream,
            "messages": [{"role": "user", "content": "Hi"}],
            "metadata": {"simulate": json.dumps(directives)},
        }
        body = msgspec.json.encode(tree)
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length:"
        writer.write(f"{head} {len(body)}\r\n\r\n".encode() + body)
        client = Client(reader, writer)
        if stream:
            client._begun = await reader.readuntil(b"data: ")
        return client

    async def rest(self) -> bytes:
        """Read until Handrail closes the connection."""
        try:
            return self._begun + await self._reader.read(-1)
        finally:
            self._writer.close()


async def open_calls(here: Served, count: int, directives: dict[str, object], *, stream: bool = True) -> list[Client]:
    """Open calls at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Client.open(here, directives, stream=stream)) for _ in range(count)]
    return [task.result() for task in tasks]


async def replies(clients: list[Client]) -> list[bytes]:
    """Read every reply to its end."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.rest()) for client in clients]
    return [task.result() for task in tasks]


def said(reply: bytes) -> str:
    """Return the text of a streamed reply."""
    chunks = [json.loads(line[6:]) for line in reply.splitlines() if line.startswith(b'data: {"id"')]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def readiness(here: Served) -> tuple[int, list[str]]:
    """Ask whether calls are taken."""
    try:
        with urllib.request.urlopen(f"{here.health_url}/readyz", timeout=WAIT_S) as page:  # noqa: S310 - our own http page
            return page.status, []
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["reasons"]
    except OSError:
        return 0, ["gone"]


async def not_ready(here: Served) -> list[str]:
    """Wait until the signal has arrived; return why Handrail is not ready."""
    async with asyncio.timeout(WAIT_S):
        while True:
            status, reasons = await asyncio.to_thread(readiness, here)
            if status != 200:
                return reasons
            await asyncio.sleep(0.01)


class Ended(NamedTuple):
    """What came of streams that were open at SIGTERM."""

    code: int
    seen_open: bool
    """Whether they still were when Handrail said that it takes no more."""
    reasons: list[str]
    replies: list[bytes]
    records: list[Exchange]
    totals: dict[tuple[str, str], Totals]
    billed_nanousd: int


async def ended(folder: Path, gap_ms: int) -> Ended:
    """Open streams, end Handrail, and have nobody else served."""
    directives = {**SHORT, "gap_ms": gap_ms}
    with Provider().running() as provider, handrail(configure(folder, provider.url, WAIT_S)) as here:
        clients = await open_calls(here, STREAMS, directives)
        here.process.send_signal(signal.SIGTERM)
        reasons = await not_ready(here)
        seen_open = here.process.poll() is None and len(provider.bill) < STREAMS
        if seen_open:
            with pytest.raises(ConnectionRefusedError):
                await Client.open(here, SHORT, stream=True)
        got = await replies(clients)
        code = await asyncio.to_thread(here.process.wait, WAIT_S)
        billed = sum(line.prompt_tokens * 1_000 + line.completion_tokens * 2_000 for line in provider.bill)
        return Ended(code, seen_open, reasons, got, here.records(), here.totals(), billed)


async def test_what_fits_the_grace_is_not_truncated(tmp_path: Path) -> None:
    """Fifty streams that are open at SIGTERM end as if nothing had happened and are booked at the provider's price,
    while Handrail says at once that it takes no more, and takes no more."""
    for gap_ms in GAPS_MS:
        end = await ended(await asyncio.to_thread(new_folder, tmp_path, gap_ms), gap_ms)
        if end.seen_open:
            break

    assert (0, True, ["not accepting calls"]) == (end.code, end.seen_open, end.reasons)
    assert [TEXT] * STREAMS == [said(reply) for reply in end.replies]
    assert all(reply.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for reply in end.replies)
    assert [State.COMPLETE] * STREAMS == [record.state for record in end.records]
    assert {(end.billed_nanousd, 0, STREAMS)} == {
        (total.nanousd, total.reserved_nanousd, total.calls)
        for (scope, _), total in end.totals.items()
        if "agent" in scope
    }


async def test_what_does_not_fit_is_told_and_recorded(tmp_path: Path) -> None:
    """A stream longer than the grace gets an error event and no `[DONE]`, an unstreamed call a 503; both are on record
    with what they cost, nothing stays held, and what did fit beside them is whole."""
    with Provider().running() as provider, handrail(configure(tmp_path, provider.url, 4)) as here:
        long = await open_calls(here, STREAMS // 2, LONG)
        waiting = await open_calls(here, 5, {"delay_ms": 60_000}, stream=False)
        assert await asyncio.to_thread(until, lambda: len(long) + len(waiting) == len(here.flying()))
        short = await open_calls(here, STREAMS // 2, SHORT)
        here.process.send_signal(signal.SIGTERM)
        whole, cut, refused = await replies(short), await replies(long), await replies(waiting)
        code = await asyncio.to_thread(here.process.wait, WAIT_S)
        records, totals = here.records(), here.totals()

    assert 0 == code
    assert [TEXT] * len(short) == [said(reply) for reply in whole]
    for reply in cut:
        assert (TEXT * 50).startswith(said(reply))
        assert b"[DONE]" not in reply
        assert b'"code":"shutting_down"' in reply[reply.rindex(b"data: ") :]
    assert {b"HTTP/1.1 503 Service Unavailable"} == {reply.partition(b"\r\n")[0] for reply in refused}
    ends = [(record.state, record.error) for record in records]
    assert len(short) == ends.count((State.COMPLETE, ""))
    assert len(long) + len(waiting) == ends.count((State.FAULT, "abandoned"))
    assert all(record.cost.nanousd for record in records)
    assert {0} == {total.reserved_nanousd for total in totals.values()}
