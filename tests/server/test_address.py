"""Owns the proof that an address is bound once, and that only what was left behind is taken over."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.server.address import bind, release, uid_of


def test_port_0_is_named() -> None:
    """Whoever asks for any port is told which one it got."""
    bound, address = bind("127.0.0.1:0")

    with bound:
        assert f"127.0.0.1:{bound.getsockname()[1]}" == address


def test_a_unix_socket_that_was_left_behind_is_taken_over(tmp_path: Path) -> None:
    """The file of a process that was killed does not keep the next one from starting."""
    listen = f"unix:{tmp_path / 's'}"
    bind(listen)[0].close()

    bound, address = bind(listen)

    with bound:
        assert listen == address


def test_a_unix_socket_in_use_is_not_taken_over(tmp_path: Path) -> None:
    """A live listener keeps its socket."""
    listen = f"unix:{tmp_path / 's'}"
    bound, _ = bind(listen)

    with bound:
        bound.listen()
        with pytest.raises(OSError, match="in use"):
            bind(listen)


def test_a_file_is_not_taken_over(tmp_path: Path) -> None:
    """Anything but a socket is not ours to remove."""
    (tmp_path / "s").write_text("precious")

    with pytest.raises(OSError, match="in use"):
        bind(f"unix:{tmp_path / 's'}")

    assert "precious" == (tmp_path / "s").read_text()


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:http", ":x"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    """A listener without a port number is a mistake."""
    with pytest.raises(ValueError, match="invalid literal"):
        bind(listen)


def test_release_removes_the_file(tmp_path: Path) -> None:
    """Nothing is left behind, and nothing is wrong if it is gone already; ports have no file."""
    bound, address = bind(f"unix:{tmp_path / 's'}")
    bound.close()

    release(address)
    release(address)
    release("127.0.0.1:80")

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_unix_socket_has_its_mode(tmp_path: Path, mode: int, umask: int) -> None:
    """Who may connect is said by the mode alone, whatever the process makes of other files."""
    before = os.umask(umask)
    bound, _ = bind(f"unix:{tmp_path / 's'}", mode)
    os.umask(before)

    with bound:
        assert mode == stat.S_IMODE((tmp_path / "s").stat().st_mode)


def test_localhost_is_not_looked_up() -> None:
    """The name is taken for what it stands for: a hosts file cannot give it another machine's address."""
    bound, _ = bind("localhost:0")

    with bound:
        assert "127.0.0.1" == bound.getsockname()[0]


def test_the_kernel_tells_who_is_at_the_other_end() -> None:
    """Of a Unix socket the user is known; of any other, and of none, nobody."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs, socket.socket(socket.AF_INET) as other:
        assert (os.getuid(), None, None) == (uid_of(ours), uid_of(other), uid_of(None))
