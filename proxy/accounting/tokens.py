"""Owns exact token counts: OpenAI's byte-pair encodings, offline, and safe against hostile text.

In: texts, and the bytes of a vocabulary. Out: token counts that say whether they are exact.
Never: a download, a file path, a stall or a crash on hostile text.
"""

from __future__ import annotations

import binascii
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tiktoken
from tiktoken.model import MODEL_PREFIX_TO_ENCODING, MODEL_TO_ENCODING

from proxy.accounting.bounds import estimate, upper_bound
from proxy.errors import ConfigError

DEFAULT_ENCODING = "o200k_base"
"""For models that tiktoken does not know: newer OpenAI models, and a fair guess for everybody else's."""


class Vocabulary(NamedTuple):
    """How an encoding splits text, and the sha256 of its uncompressed vocabulary file (tiktoken_ext.openai_public)."""

    pattern: str
    sha256: str


_O200K_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
VOCABULARIES = {
    "o200k_base": Vocabulary(
        "|".join(
            (
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _O200K_SUFFIX,
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _O200K_SUFFIX,
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": Vocabulary(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}

_SHIPPED = {"o200k_harmony": "o200k_base"}
"""Encodings whose ranks are those of a shipped one; special tokens are never counted as such."""
_SAFE_CUT = re.compile(r"(?<=\S)(?= )|(?<=\n)(?=[^\s/])")
"""Invariant: both encodings start a new piece of text here whatever stands around, so cutting changes no count."""
_CUT_SEARCH_CHARS = 1024


class TokenCount(NamedTuple):
    """Tokens of a text; `exact` means that a tokenizer counted all of it, else the count is a byte estimate
    (vocabulary not loaded) or on the safe side (hostile or oversized text)."""

    tokens: int
    exact: bool


def encoding_of(model: str) -> str:
    """Return the shipped encoding that counts best for a model; provider prefixes and fine-tunes are understood."""
    base = model.rpartition("/")[2].lower()
    if base.startswith("ft:"):
        base = base.split(":")[1]
    name = MODEL_TO_ENCODING.get(base) or next(
        (name for prefix, name in MODEL_PREFIX_TO_ENCODING.items() if base.startswith(prefix)), DEFAULT_ENCODING
    )
    name = _SHIPPED.get(name, name)
    return name if name in VOCABULARIES else "cl100k_base"


class TokenCounter:
    """Counts tokens. Until `load()` has been called for an encoding its counts are byte estimates, so that
    counting never waits for the 0.3 s and 75 MB that a vocabulary takes."""

    def __init__(
        self,
        read: Callable[[str], bytes],
        *,
        piece_chars: int = 65_536,
        max_chars: int = 1_000_000,
        memo_texts: int = 4096,
    ) -> None:
        self._read = read
        self._piece_chars = piece_chars
        self._max_chars = max_chars
        self._encodings: dict[str, tiktoken.Encoding] = {}
        self._memo = _Memo(memo_texts)

    def load(self, encoding: str = DEFAULT_ENCODING) -> None:
        """Read, verify and build one encoding, once; raise ConfigError when its vocabulary is not the published one."""
        if encoding not in self._encodings:
            self._encodings[encoding] = _build(encoding, self._read(encoding))

    def count(self, text: str, encoding: str = DEFAULT_ENCODING) -> TokenCount:
        """Count one text, special tokens as plain text; at most about 0.4 s of CPU whatever the text is."""
        encoder = self._encodings.get(encoding)
        if encoder is None:
            return TokenCount(estimate(text), False)
        key = _digest(encoding, text)
        known = self._memo.get(key)
        if known is None:
            known = self._memo.put(key, self._count(encoder.encode_ordinary, text))
        return known

    def _count(self, encode: Callable[[str], list[int]], text: str) -> TokenCount:
        head, tail = text[: self._max_chars], text[self._max_chars :]
        tokens, exact = upper_bound(tail), not tail
        for piece, clean in _pieces(head, self._piece_chars):
            counted = count_piece(encode, piece)
            tokens += counted.tokens
            exact = exact and clean and counted.exact
        return TokenCount(tokens, exact)


def count_piece(encode: Callable[[str], list[int]], piece: str) -> TokenCount:
    """Count one piece of text, by its bound where the tokenizer panics."""
    try:
        return TokenCount(len(encode(piece)), True)
    except BaseException as error:
        # A Rust panic (long runs of white space exhaust the regex stack) arrives as pyo3_runtime.PanicException: it
        # derives from BaseException and can be imported from nowhere, so its name is the only handle.
        if type(error).__name__ != "PanicException":
            raise
        return TokenCount(upper_bound(piece), False)


def _pieces(text: str, limit: int) -> Iterator[tuple[str, bool]]:
    """Cut a text into pieces of at most `limit` characters, each with whether its end changes no count."""
    start = 0
    while len(text) - start > limit:
        end = start + limit
        cuts = [cut.start() for cut in _SAFE_CUT.finditer(text, max(start + 1, end - _CUT_SEARCH_CHARS), end + 1)]
        stop = cuts[-1] if cuts else end
        yield text[start:stop], bool(cuts)
        start = stop
    yield text[start:], True


def _digest(encoding: str, text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=encoding.encode()).digest()


def _build(name: str, packed: bytes) -> tiktoken.Encoding:
    vocabulary = VOCABULARIES[name]
    try:
        raw = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        raw = b""
    if hashlib.sha256(raw).hexdigest() != vocabulary.sha256:
        raise ConfigError(
            [
                f"tokenizer vocabulary {name} is not the published one (sha256 {vocabulary.sha256}): "
                "reinstall handrail, or run `python bench/vendor_tokenizers.py` in a checkout"
            ]
        )
    ranks = {binascii.a2b_base64(token): int(rank) for token, rank in map(bytes.split, raw.splitlines())}
    return tiktoken.Encoding(name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={})


class _Memo:
    """Remembers the counts of recently seen texts by digest, so that a history sent again costs one hash.

    Two generations instead of a list of uses: each step is one dictionary operation, safe from several threads.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[bytes, TokenCount] = {}
        self._old: dict[bytes, TokenCount] = {}

    def get(self, key: bytes) -> TokenCount | None:
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: bytes, count: TokenCount) -> TokenCount:
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[key] = count
        return count
