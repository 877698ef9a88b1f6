"""Owns the proof of the text functions for policies."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cel.running import failure, run, units


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("containsWord('I want a REFUND!', 'refund')", True, id="a word in any case"),
        pytest.param("containsWord('no refunds', 'refund')", False, id="part of a longer word"),
        pytest.param("containsWord('prerefund refund', 'refund')", True, id="a later occurrence"),
        pytest.param("containsWord('a_refund refund_b', 'refund')", False, id="an underscore joins"),
        pytest.param(
            "containsWord('möchte Geld zurück', 'zurück') && containsWord('STRASSE', 'straße')", True, id="any script"
        ),
        pytest.param("'charge back?'.containsWord('charge back')", True, id="several words, as a method"),
        pytest.param("containsAny('Please CANCEL it', ['stop', 'cancel'])", True, id="one of them"),
        pytest.param("'x'.containsAny(['stop', 'cancel']) || containsAny('x', [])", False, id="none of them"),
    ],
)
def test_words(expression: str, value: bool) -> None:
    """People write words in any case; a word ends where a letter, digit or underscore ends."""
    assert value is run(expression)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        pytest.param("Where is my order?", "where  is MY order?", 1.0, 1.0, id="case and spaces"),
        pytest.param("", "", 1.0, 1.0, id="nothing twice"),
        pytest.param("", "a", 0.0, 0.0, id="nothing and something"),
        pytest.param("refund my order", "refund the order", 0.5, 0.9, id="near"),
        pytest.param("refund my order", "what a nice day", 0.0, 0.2, id="far"),
    ],
)
def test_similar(a: str, b: str, low: float, high: float) -> None:
    """Texts are alike by the pieces they share."""
    value = run("similar(a, b)", {"a": a, "b": b})

    assert isinstance(value, float)
    assert low <= value <= high


@given(st.text(max_size=20), st.text(max_size=20))
def test_similar_is_symmetric_and_bounded(a: str, b: str) -> None:
    """The order of the two does not count, and a text is wholly like itself."""
    there, back, same = (run(call, {"a": a, "b": b}) for call in ("similar(a, b)", "similar(b, a)", "similar(a, a)"))

    assert isinstance(there, float)
    assert (there, 1.0) == (back, same)
    assert 0 <= there <= 1


def test_hash_is_sha256_in_hexadecimal() -> None:
    """The same text has the same digest everywhere."""
    assert hashlib.sha256("é".encode()).hexdigest() == run("hash('é')")


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        pytest.param("none here", [], id="none"),
        pytest.param("see https://a.com/x?y=1#z.", ["https://a.com/x?y=1#z"], id="without the full stop"),
        pytest.param(
            "[link](HTTP://B.org) <ws://c.io/d>", ["HTTP://B.org", "ws://c.io/d"], id="in markdown and brackets"
        ),
        pytest.param("www.evil.com, ftp://e.f", ["www.evil.com", "ftp://e.f"], id="without a scheme"),
        pytest.param("https://a.com\u00a0https://b.com", ["https://a.com", "https://b.com"], id="any space ends one"),
        pytest.param("mailto:a@b.com xhttps://a.com", [], id="not inside a word"),
    ],
)
def test_urls(text: str, urls: list[str]) -> None:
    """What a reader would follow is found, without the sentence around it."""
    assert urls == run("urls(t)", {"t": text})


HOSTS = ["example.com", "*.trusted.org", "BÜCHER.de", "[::1]"]


@pytest.mark.parametrize(
    ("url", "value"),
    [
        pytest.param("https://example.com", True, id="the host"),
        pytest.param("https://shop.example.com/x", True, id="below the host"),
        pytest.param("HTTPS://EXAMPLE.COM.:443/", True, id="case, a final dot and a port"),
        pytest.param("example.com/path", True, id="without a scheme"),
        pytest.param("//example.com", True, id="relative to a scheme"),
        pytest.param("https:example.com", True, id="slashes a browser would add"),
        pytest.param("https:\\\\example.com\\x", True, id="slashes a browser would turn"),
        pytest.param("https://user:pw@example.com/", True, id="a user before the host"),
        pytest.param("https://a.trusted.org", True, id="below a starred host"),
        pytest.param("https://trusted.org", False, id="not the starred host itself"),
        pytest.param("https://bücher.de/", True, id="another script"),
        pytest.param("https://xn--bcher-kva.de/", True, id="its ASCII form"),
        pytest.param("http://[::1]:8080/", True, id="an IPv6 address"),
        pytest.param("https://evil.com", False, id="another host"),
        pytest.param("https://badexample.com", False, id="a name that ends alike"),
        pytest.param("https://example.com.evil.com", False, id="a name that starts alike"),
        pytest.param("https://example.com@evil.com", False, id="the host as a user"),
        pytest.param("https://evil.com\\@example.com", False, id="a backslash before a user"),
        pytest.param("https://evil.com/example.com", False, id="the host in the path"),
        pytest.param("https://evil.com?example.com", False, id="in the query"),
        pytest.param("https://evil.com#@example.com", False, id="in the fragment"),
        pytest.param("gopher://evil.com", False, id="another scheme"),
    ],
)
def test_a_host_is_read_as_a_browser_reads_it(url: str, value: bool) -> None:
    """No spelling makes a foreign host look like one of the list."""
    assert value is run("hostIn(u, h)", {"u": url, "h": HOSTS})


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        pytest.param("hostIn('https://', ['a.com'])", "invalid_argument", id="no host"),
        pytest.param("hostIn('https://a b.com', ['a.com'])", "invalid_argument", id="a space in the host"),
        pytest.param("hostIn('https://%61.com', ['a.com'])", "invalid_argument", id="an escaped host"),
        pytest.param("hostIn('https://exa\\tmple.com', ['a.com'])", "invalid_argument", id="a tab in the host"),
        pytest.param("hostIn('https://\\u2024.com', ['a.com'])", "invalid_argument", id="a host no registry has"),
        pytest.param("hostIn('https://' + l + '.com', ['a.com'])", "invalid_argument", id="a label too long"),
        pytest.param("hostIn('https://' + k, ['a.com'])", "invalid_argument", id="a label too long of another script"),
        pytest.param("hostIn('https://a.com', ['a b'])", "invalid_argument", id="a list that holds no host"),
        pytest.param("hostIn('https://a.com', 'a.com')", "no_such_overload", id="no list"),
        pytest.param("hostIn('https://a.com', [1])", "no_such_overload", id="a list of numbers"),
        pytest.param("hostIn(1, ['a.com'])", "no_such_overload", id="no text"),
        pytest.param("containsWord('a', '')", "invalid_argument", id="no word"),
        pytest.param("containsWord('a', 1)", "no_such_overload", id="a number as word"),
        pytest.param("containsAny('a', 'a')", "no_such_overload", id="a text as list"),
        pytest.param("containsAny('a', ['b', 1])", "no_such_overload", id="a number in the list"),
        pytest.param("similar('a', 1)", "no_such_overload", id="a number compared"),
        pytest.param("hash(1)", "no_such_overload", id="a number hashed"),
        pytest.param("urls(1)", "no_such_overload", id="a number searched"),
    ],
)
def test_what_cannot_be_read_is_an_error(expression: str, kind: str) -> None:
    """A host that cannot be read is neither in the list nor outside it."""
    assert kind == failure(expression, {"l": "x" * 70, "k": "é" * 70})


@pytest.mark.parametrize(
    ("expression", "least"),
    [
        pytest.param("containsWord(t, 'xx')", 6400 // 64 + 3 * 6000, id="every occurrence"),
        pytest.param("containsWord(v, 'xx')", 6400 // 32, id="letters beyond ASCII"),
        pytest.param("containsAny(t, ['y', 'z'])", 6400 // 64 + 2 * 6400 // 256, id="every term"),
        pytest.param("similar(t, t)", 2 * 6400, id="every piece"),
        pytest.param("hash(t) == ''", 100, id="the digest"),
        pytest.param("urls(t + u).size()", 200 + 8 * 100, id="every URL"),
        pytest.param("hostIn('a.com', h)", 80, id="every host"),
    ],
)
def test_text_functions_are_charged(expression: str, least: int) -> None:
    """Work by length is paid by length."""
    activation = {"t": "x" * 6400, "v": "é" * 6400, "u": " https://a.com" * 100, "h": ["b.com"] * 10}

    assert units(expression, activation) >= least
