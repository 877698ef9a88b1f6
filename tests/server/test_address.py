"""Owns the proof that an address is bound once, and that only what was left behind is taken over."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.server.address import bind, release


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
