"""Owns the proof of what is written to a provider, and of what is refused before a byte is."""

import pytest

from proxy.errors import UpstreamError
from proxy.terms import Secret
from proxy.upstream.request import Target
from tests.upstream.scripted import call_to

URL = "https://api.example.com/v1/chat?api-version=1"


def head(**changes: object) -> bytes:
    """Return the head of a call with some of its fields changed."""
    return Target("POST", URL).head(call_to(URL, **changes))


def test_a_head_is_exactly_what_the_call_says() -> None:
    """The request carries the call's headers, its length, its key, and nothing that the call did not ask for."""
    expected = (
        b"POST /v1/chat?api-version=1 HTTP/1.1\r\nhost: api.example.com\r\naccept-encoding: identity\r\n"
        b"content-length: 4\r\ncontent-type: application/json\r\nauthorization: Bearer sk-canary\r\n\r\n"
    )

    assert expected == head(body=b"body")


def test_a_call_without_headers_or_key_is_still_one_request() -> None:
    """Without a line of the call's own, the head still ends where it must."""
    expected = b"POST /v1/chat?api-version=1 HTTP/1.1\r\nhost: api.example.com\r\naccept-encoding: identity\r\n"

    assert expected + b"content-length: 0\r\n\r\n" == head(body=b"", headers={}, auth=None)


def test_the_key_goes_where_the_provider_wants_it() -> None:
    """A provider that reads its key from another header gets it there."""
    assert b"\r\nx-api-key: k\r\n" in head(auth_header="x-api-key", auth=Secret("k"))


@pytest.mark.parametrize(
    "name",
    ["host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect", "upgrade", "cookie"],
)
def test_what_belongs_to_the_connection_cannot_be_set(name: str) -> None:
    """A header that frames, routes or upgrades the connection is ours, whatever a call holds."""
    assert b"smuggled" not in head(headers={name: "smuggled"})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a\r\nx-evil: 1", id="CRLF"),
        pytest.param("a\nx-evil: 1", id="LF"),
        pytest.param("a\rx-evil: 1", id="CR"),
        pytest.param("a\0", id="NUL"),
        pytest.param("naïve", id="not ASCII"),
        pytest.param("\udcff", id="a byte that was no text"),
    ],
)
@pytest.mark.parametrize("place", ["header", "name", "key"])
def test_a_value_cannot_become_a_second_header(value: str, place: str) -> None:
    """A header or key that would not stay one line is refused, and the refusal does not repeat it."""
    changes: dict[str, dict[str, object]] = {
        "header": {"headers": {"x-tag": value}},
        "name": {"headers": {value: "x"}},
        "key": {"auth": Secret(value)},
    }

    with pytest.raises(UpstreamError) as caught:
        head(**changes[place])

    assert ("bad_header", False, False) == (caught.value.code, caught.value.retryable, value in str(caught.value))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        pytest.param("https://api.example.com/v1", ("api.example.com", 443, True), id="https"),
        pytest.param("http://127.0.0.1:8080/v1", ("127.0.0.1", 8080, False), id="http with a port"),
        pytest.param("http://[::1]:11434/v1", ("::1", 11434, False), id="IPv6"),
        pytest.param("https://api.example.com./v1", ("api.example.com", 443, True), id="a final dot"),
    ],
)
def test_a_url_says_where_to_connect(url: str, key: tuple[str, int, bool]) -> None:
    """Connections are shared by host, port and TLS."""
    assert key == Target("POST", url).key


def test_the_host_header_keeps_brackets_and_port() -> None:
    """An IPv6 host with a port is named as RFC 9110 §7.2 says."""
    assert b"\r\nhost: [::1]:11434\r\n" in Target("POST", "http://[::1]:11434/v1").start


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "/v1/chat", "http://", "https://user:pass@example.com/", ""],
)
def test_another_kind_of_url_is_refused(url: str) -> None:
    """Only http and https with a host and without credentials are addresses of a provider."""
    with pytest.raises(ValueError, match="host"):
        Target("POST", url)
