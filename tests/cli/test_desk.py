"""Owns the proof of proxy/cli/desk.py: a human decides from a terminal, on a real admin listener on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from proxy.cli import main
from proxy.ports import Desk
from proxy.server.admin import Admin
from proxy.snapshot import Limits
from proxy.terms import HeldState, Tried
from tests.desks import CLOCK, HANDOFF, HELD, HumansDesk
from tests.server.rig import error_body

TOKEN = "t" * 40
CONFIG = "admin_token_file: admin.token\nproviders: {model: {dialect: simulated, prices: openai}}\n"


class Shell:
    """Commands against one admin listener, and what they print."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "handrail.yaml"
        self.token = folder / "admin.token"
        self._capsys = capsys

    def point(self, address: str) -> None:
        """Write the configuration that names an address."""
        self.config.write_text(f'admin_listen: "{address}"\n{CONFIG}', encoding="utf-8")

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Run one command; return its status, stdout and stderr."""
        status = await asyncio.to_thread(main, [*words, "--config", str(self.config)])
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Give a shell whose token is right."""
    made = Shell(tmp_path, capsys)
    made.token.write_text(f"{TOKEN}\n")
    return made


@asynccontextmanager
async def running(shell: Shell, desk: HumansDesk, listen: str = "127.0.0.1:0") -> AsyncIterator[None]:
    """Serve the admin API for a shell while the context is open."""
    token = shell.token.with_name("served.token")
    token.write_text(TOKEN)
    bugs: list[BaseException] = []
    admin = Admin(
        token,
        lambda: None,
        lambda: None,
        error=error_body,
        on_bug=bugs.append,
        limits=Limits(),
        desk=cast(Desk, desk),
        clock=CLOCK,
    )
    shell.point(await admin.start(listen))
    try:
        yield
    finally:
        await admin.stop()
    assert [] == bugs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["list"], ["ap_1"], id="pending"),
        pytest.param(["list", "--state", "used"], ["ap_2"], id="used"),
        pytest.param(["list", "--state", "all"], ["ap_2", "ap_1"], id="all"),
        pytest.param(["list", "--state", "denied"], ["nothing"], id="none"),
    ],
)
async def test_actions_are_listed(shell: Shell, words: list[str], expected: list[str]) -> None:
    """Each action is a line that begins with its id; what waits is shown unless another state is asked for."""
    async with running(shell, HumansDesk()):
        status, out, _ = await shell.run("approvals", *words)

    assert (0, expected) == (status, [line.split()[0] for line in out.splitlines()])


async def test_an_action_says_what_is_approved(shell: Shell) -> None:
    """The line has the very call that is approved, who wants it, by which rule, and until when."""
    desk = HumansDesk()
    desk.actions = [replace(HELD, group="finance")]
    async with running(shell, desk):
        _, out, _ = await shell.run("approvals", "list")

    assert (
        'ap_1  pending   refund {"usd":90}  agent web  rule p/r@1  for finance  until 2026-01-01 00:15:00 UTC\n' == out
    )


@pytest.mark.parametrize(("verb", "state"), [("approve", HeldState.APPROVED), ("deny", HeldState.DENIED)])
async def test_an_action_is_decided(shell: Shell, verb: str, state: HeldState) -> None:
    """Approving and denying write who and why, and print how the action stands."""
    desk = HumansDesk()
    async with running(shell, desk):
        status, out, _ = await shell.run("approvals", verb, "ap_1", "--by", "Bö", "--note", "fine")

    held = desk.actions[1]
    assert (0, state, "Bö", "fine") == (status, held.state, held.decided_by, held.note)
    assert f"{state}" in out
    assert "by Bö: fine" in out


async def test_who_is_logged_in_decides(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --by the decision is signed by the login's name."""
    monkeypatch.setenv("LOGNAME", "carla")
    desk = HumansDesk()
    async with running(shell, desk):
        await shell.run("approvals", "approve", "ap_1")
        _, out, _ = await shell.run("escalations", "close", "ho_1")

    assert "carla" == desk.actions[1].decided_by
    assert "closed by carla" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["approvals", "deny", "ap_2", "--by", "al"], "is used and cannot be denied", id="used"),
        pytest.param(["approvals", "approve", "ap_9", "--by", "al"], "no such action", id="no action"),
        pytest.param(["approvals", "approve", "../x\n", "--by", "al"], "no such action", id="no id"),
        pytest.param(["escalations", "close", "ho_9", "--by", "al"], "no such hand-off", id="no packet"),
        pytest.param(["escalations", "show", "ho_9"], "no hand-off ho_9", id="nothing to show"),
    ],
)
async def test_the_answer_may_be_no(shell: Shell, words: list[str], said: str) -> None:
    """What cannot be done exits 1, prints nothing on stdout, and says why on stderr."""
    async with running(shell, HumansDesk()):
        status, out, err = await shell.run(*words)

    assert (1, "", True) == (status, out, said in err)


@pytest.mark.parametrize(
    ("words", "expected"),
    [pytest.param([], ["ho_1"], id="open"), pytest.param(["--all"], ["ho_1", "ho_0"], id="all")],
)
async def test_handoffs_are_listed(shell: Shell, words: list[str], expected: list[str]) -> None:
    """Open hand-offs are shown, closed ones when all are asked for."""
    async with running(shell, HumansDesk()):
        status, out, _ = await shell.run("escalations", "list", *words)

    assert (0, expected) == (status, [line.split()[0] for line in out.splitlines()])


async def test_nobody_waits(shell: Shell) -> None:
    """An empty list says so."""
    desk = HumansDesk()
    desk.packets = []
    async with running(shell, desk):
        assert (0, "nobody waits\n", "") == await shell.run("escalations", "list")


async def test_a_packet_is_shown_in_words(shell: Shell) -> None:
    """All that the packet has is printed, and nothing in it can steer the terminal."""
    full = replace(
        HANDOFF,
        summary="Wants \x1b[2J money.",
        customer={"user": "u-1"},
        tried=(Tried(tool="refund", arguments="{}", result="Error\nno", outcome="failed"),),
        identifiers={"order": ("A-1042", "#12345")},
        closed_ms=CLOCK.at_ms,
        closed_by="bo",
    )
    desk = HumansDesk()
    desk.packets = [full]
    async with running(shell, desk):
        status, out, _ = await shell.run("escalations", "show", "ho_1")

    said = [
        "angry (p/r@1)",
        "Wants  [2J money.",
        "user = u-1",
        "A-1042, #12345",
        "refund {}: failed, Error no",
        "by bo",
    ]
    assert (0, []) == (status, [words for words in said if words not in out])
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["approvals", "list"], ["ap_1"], id="actions"),
        pytest.param(["approvals", "approve", "ap_1", "--by", "al"], "ap_1", id="decision"),
        pytest.param(["escalations", "list"], ["ho_1"], id="packets"),
        pytest.param(["escalations", "show", "ho_0"], "ho_0", id="packet"),
        pytest.param(["escalations", "close", "ho_1", "--by", "al"], "ho_1", id="closed packet"),
    ],
)
async def test_everything_is_also_json(shell: Shell, words: list[str], expected: object) -> None:
    """With --json stdout is one JSON value, whole."""
    async with running(shell, HumansDesk()):
        status, out, _ = await shell.run(*words, "--json")

    value = json.loads(out)
    assert (0, expected) == (status, [entry["id"] for entry in value] if isinstance(value, list) else value["id"])


async def test_a_unix_socket_is_asked_too(shell: Shell, tmp_path: Path) -> None:
    """An admin listener on a Unix socket is found by its path."""
    async with running(shell, HumansDesk(), f"unix:{tmp_path}/a.sock"):
        status, out, _ = await shell.run("approvals", "list")

    assert (0, True) == (status, out.startswith("ap_1"))


async def test_nothing_listens(shell: Shell) -> None:
    """A Handrail that does not run is a question that was wrong: exit 2, and where it was looked for."""
    async with running(shell, HumansDesk()):
        pass

    status, out, err = await shell.run("approvals", "list")

    assert (2, "") == (status, out)
    assert "no Handrail answers at 127.0.0.1:" in err
    assert "Connection refused" in err


@pytest.mark.parametrize(
    ("token", "said"),
    [
        pytest.param("w" * 40, "is not the one of the Handrail that runs there", id="wrong"),
        pytest.param(None, "admin.token: the admin token cannot be read: No such file", id="missing"),
        pytest.param("é", "it is no token", id="not ASCII"),
        pytest.param("a\nb", "it is no token", id="two lines"),
    ],
)
@pytest.mark.parametrize("words", [("list",), ("approve", "ap_1", "--by", "al")], ids=["get", "post"])
async def test_the_token_is_wrong(shell: Shell, token: str | None, said: str, words: tuple[str, ...]) -> None:
    """A wrong or missing token exits 2 and says which file it should be in."""
    shell.token.write_text(token or "")
    if token is None:
        shell.token.unlink()
    desk = HumansDesk()
    async with running(shell, desk):
        status, _, err = await shell.run("approvals", *words)

    assert (2, True, HELD) == (status, said in err, desk.actions[1])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "no Handrail of this version", id="other JSON"),
        pytest.param(
            b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n[]", "HTTP 500: what answers there", id="other error"
        ),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "no Handrail answers", id="no HTTP"),
        pytest.param(b"", "no Handrail answers", id="nothing"),
    ],
)
async def test_something_else_listens(shell: Shell, answer: bytes, said: str) -> None:
    """Whatever else answers at the address is named as such, without a traceback."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        shell.point(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        status, _, err = await shell.run("escalations", "list")

    assert (2, True) == (status, said in err)
