"""Proves that token counts are exact where they say so, never too low otherwise, and safe against hostile text."""

from __future__ import annotations

import gzip
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.accounting import DEFAULT_ENCODING, TokenCounter, encoding_of, estimate, token_counter, upper_bound
from proxy.accounting.tokens import VOCABULARIES, count_piece
from proxy.errors import ConfigError
from proxy.ports import Estimator

ROOT = Path(__file__).resolve().parents[2]
TEXTS = st.text(st.characters(codec=None) | st.sampled_from(" \n\r\t'/a1A\x00.")) | st.text(" \n/ax'S", max_size=200)


def read(encoding: str) -> bytes:
    """Read a shipped vocabulary."""
    return (files("proxy.accounting") / "data" / f"{encoding}.tiktoken.gz").read_bytes()


def loaded(**limits: int) -> TokenCounter:
    """Build a counter with both encodings loaded."""
    counter = TokenCounter(read, **limits)
    for encoding in VOCABULARIES:
        counter.load(encoding)
    return counter


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    """Both encodings, default limits."""
    return loaded()


@pytest.fixture(scope="module")
def cutter() -> TokenCounter:
    """Pieces so small that every longer text is cut."""
    return loaded(piece_chars=8)


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        pytest.param("tiktoken is great!", "cl100k_base", 6, id="cookbook-cl100k"),
        pytest.param("antidisestablishmentarianism", "o200k_base", 6, id="cookbook-o200k"),
        pytest.param("2 + 2 = 4", "cl100k_base", 7, id="cookbook-digits"),
        pytest.param("お誕生日おめでとう", "o200k_base", 8, id="cookbook-japanese"),
        pytest.param("<|endoftext|>", "o200k_base", 7, id="special-token-as-text"),
        pytest.param("", "o200k_base", 0, id="empty"),
    ],
)
def test_counts_are_openais(counter: TokenCounter, text: str, encoding: str, expected: int) -> None:
    """Counts equal those published in OpenAI's cookbook; a special token in user text is ordinary text."""
    assert (expected, True) == counter.count(text, encoding)


@pytest.mark.parametrize("encoding", VOCABULARIES)
@given(text=TEXTS)
@settings(max_examples=150)
def test_no_count_exceeds_the_bound(counter: TokenCounter, cutter: TokenCounter, encoding: str, text: str) -> None:
    """Reservations by bytes cover every text, cut or whole."""
    assert counter.count(text, encoding).tokens <= upper_bound(text)
    assert cutter.count(text, encoding).tokens <= upper_bound(text)


@pytest.mark.parametrize("encoding", VOCABULARIES)
@given(text=TEXTS)
@example(text="abcdef/\n/abcd")
@example(text="abcdef  \nabcd")
@settings(max_examples=300)
def test_a_cut_count_that_says_exact_is_exact(
    counter: TokenCounter, cutter: TokenCounter, encoding: str, text: str
) -> None:
    """Cutting at a safe place changes no count; cutting elsewhere is admitted."""
    whole, cut = counter.count(text, encoding), cutter.count(text, encoding)

    assert whole.tokens == cut.tokens or not cut.exact


def test_prose_is_cut_without_loss(counter: TokenCounter) -> None:
    """Ordinary text is exact however long it is, since words offer safe places."""
    words = ["order", "café", "refund,", "12345", "It's", "DONE!\n\n", "x/y\n", "¿qué?"]
    text = " ".join(words[i * i % 31 % 8] for i in range(2000))

    for encoding in VOCABULARIES:
        expected = counter.count(text, encoding)
        assert expected == loaded(piece_chars=64).count(text, encoding)
        assert expected.exact


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" " * 1_000_000, id="spaces"),
        pytest.param("a" * 1_000_000, id="one-letter"),
        pytest.param("\ud800\udfff\udc00" * 1000, id="surrogates"),
        pytest.param("\x00\x01\x7f\x9f\ufffe" * 1000, id="controls"),
    ],
)
def test_hostile_text_is_counted(counter: TokenCounter, text: str) -> None:
    """Text that stops a bare tokenizer gets a count below its bound."""
    assert 0 < counter.count(text).tokens <= upper_bound(text)


def test_a_cut_in_the_middle_of_a_token_is_admitted(counter: TokenCounter) -> None:
    """A text without any safe place is not called exact."""
    assert not counter.count("a" * 65_537).exact
    assert counter.count("a" * 65_536).exact


def test_what_is_too_long_is_counted_by_bytes() -> None:
    """Only the head of an oversized text costs a tokenizer's time; the rest is counted on the safe side."""
    short = loaded(max_chars=5)

    assert (1 + len(" wörld") + 1, False) == short.count("hello wörld")


def test_a_panic_of_the_tokenizer_is_a_bound() -> None:
    """The Rust panic of a million spaces, which no `except Exception` sees, ends as the bound of that text."""
    uncut = loaded(piece_chars=2_000_000)

    assert (1_000_000, False) == uncut.count(" " * 1_000_000)


def test_other_exits_are_not_swallowed() -> None:
    """Catching the panic catches nothing else."""

    def interrupted(_: str) -> list[int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_piece(interrupted, "text")


def test_nothing_is_read_before_load() -> None:
    """Until the vocabulary is asked for, counting is an estimate and costs no memory; loading twice reads once."""
    reads: list[str] = []

    def recording(encoding: str) -> bytes:
        reads.append(encoding)
        return read(encoding)

    counter = TokenCounter(recording)
    before = counter.count("hello world")
    assert (before, reads) == ((estimate("hello world"), False), [])

    counter.load()
    counter.load()
    assert ((2, True), [DEFAULT_ENCODING]) == (counter.count("hello world"), reads)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not gzip", id="not-gzip"),
        pytest.param(read("cl100k_base")[:-100], id="truncated"),
        pytest.param(read("cl100k_base")[:100] + b"\xff" * 100, id="damaged"),
        pytest.param(gzip.compress(b"IQ== 0\n"), id="another-vocabulary"),
    ],
)
def test_a_damaged_vocabulary_is_refused(packed: bytes) -> None:
    """Counts come from the published vocabulary or from none, and the error says what to do."""
    with pytest.raises(ConfigError, match="reinstall handrail"):
        TokenCounter(lambda _: packed).load("cl100k_base")


def test_a_seen_text_is_not_counted_again() -> None:
    """A history that is sent again costs a hash; a text is forgotten once twice as many others came after it."""
    counter = loaded(memo_texts=2)
    first = counter.count("a")

    for others in ("", "bc", "de"):
        for other in others:
            counter.count(other)
        assert counter.count("a") is first
    for other in "efgh":
        counter.count(other)
    assert first == counter.count("a")
    assert counter.count("a") is not first


def test_the_shipped_door_counts_and_is_an_estimator() -> None:
    """`token_counter()` reads the files inside the package and fits the port."""
    counter = token_counter()
    port: Estimator = counter
    counter.load("cl100k_base")

    assert (1, True) == counter.count("hello", "cl100k_base")
    assert (2, False) == port.count("hello")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param("gpt-4o-mini", "o200k_base", id="prefix"),
        pytest.param("gpt-4", "cl100k_base", id="exact"),
        pytest.param("gpt-4.1", "o200k_base", id="newer-family"),
        pytest.param("openai/GPT-4-turbo", "cl100k_base", id="provider-prefix"),
        pytest.param("ft:gpt-4.1-mini:org::id", "o200k_base", id="fine-tune-of-newer"),
        pytest.param("ft:gpt-3.5-turbo:org::id", "cl100k_base", id="fine-tune"),
        pytest.param("gpt-oss-120b", "o200k_base", id="harmony"),
        pytest.param("text-davinci-003", "cl100k_base", id="not-shipped"),
        pytest.param("gpt-6.1-sol", "o200k_base", id="unknown-to-tiktoken"),
        pytest.param("claude-opus-5", "o200k_base", id="other-vendor"),
        pytest.param("", "o200k_base", id="empty"),
    ],
)
def test_encoding_of_a_model(model: str, expected: str) -> None:
    """Models map to a shipped encoding by tiktoken's own tables, everything unknown to the newest."""
    assert expected == encoding_of(model)


def test_the_development_command_verifies_what_is_committed() -> None:
    """`bench/vendor_tokenizers.py --check` accepts the shipped files."""
    command = [sys.executable, "bench/vendor_tokenizers.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert (0, len(VOCABULARIES)) == (done.returncode, done.stdout.count("sha256 as published")), done.stderr
