"""Owns the measurement of how near Handrail's own count of tokens comes to what providers have billed.

Run: python -m bench.token_estimates [DATA], where DATA holds the recordings (default: $HANDRAIL_DATA). Of each recorded
chat completion of OpenAI's the request and the reply are counted as those calls are whose provider gives no usage, and
compared with the usage that came with it. What a model has thought unseen is no part of the reply, and left out.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from proxy import openai_json
from proxy.accounting import asked_tokens, said_tokens, token_counter
from proxy.errors import HandrailError
from proxy.gate import Gate
from proxy.terms import Delta, RawRequest, Usage
from proxy.wire.chat import decode

RECORDINGS = ("openai", "azure-openai")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def recorded(data: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the request and the reply of every unstreamed chat completion that has usage."""
    for name in RECORDINGS:
        with gzip.open(data / "cassettes" / f"{name}.jsonl.gz", "rt") as lines:
            for record in map(json.loads, lines):
                asked, said = record["request"]["body"], record["response"]["body"]
                if record["endpoint"] == "chat.completions" and asked and said and not record["stream"]:
                    tree = openai_json.parse(said.encode())
                    if tree and openai_json.usage(tree):
                        yield asked.encode(), tree


def compared(asked: bytes, said: dict[str, Any], usage: Usage, count: Any) -> Iterator[tuple[str, int, int]]:
    """Yield (what, our count, the provider's) of the two directions."""
    request = decode(RawRequest(method="POST", path="/v1/chat/completions", headers={}, body=asked, peer=""))
    if any(message.media for message in request.messages):
        return
    kind = "with tools" if request.tools else "with a schema" if request.structured else "words alone"
    yield f"request, {kind}", asked_tokens(request, request.model, count)[0], usage.input_tokens
    gate = Gate()
    gate.feed(Delta(frame=b"", choices=openai_json.messages(said)))
    replies = gate.heard()
    kind = "with calls" if any(reply.tool_calls for reply in replies) else "words alone"
    yield f"reply, {kind}", said_tokens(replies, count)[0], usage.output_tokens - usage.reasoning_tokens


def main(data: Path) -> None:
    """Print how the counts differ."""
    counter = token_counter()
    counter.load()
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for asked, said in recorded(data):
        try:
            for what, ours, theirs in compared(asked, said, openai_json.usage(said) or Usage(), counter.count):
                if theirs > 0:
                    found[what].append((ours, theirs))
        except HandrailError:
            continue
    shown = "".join(f"{f'{quantile:.0%}':>8}" for quantile in QUANTILES)
    print(f"{'our count beside the bill':32}{'calls':>6}{'sum':>8}{shown}")
    for what, pairs in sorted(found.items()):
        print(f"{what:32}{len(pairs):6}{_row(pairs)}")


def _row(pairs: Sequence[tuple[int, int]]) -> str:
    errors = sorted(ours / theirs - 1 for ours, theirs in pairs)
    whole = sum(ours for ours, _ in pairs) / sum(theirs for _, theirs in pairs) - 1
    return "".join(f"{error:8.1%}" for error in (whole, *(errors[int(q * (len(errors) - 1))] for q in QUANTILES)))


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HANDRAIL_DATA", "")
    if not given:
        sys.exit("name the folder with the recordings, or set HANDRAIL_DATA")
    main(Path(given))
