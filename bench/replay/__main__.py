"""Plays recorded exchanges of real providers through the hallway, and compares what a client gets with what they say.

Usage: python -m bench.replay FOLDER [--provider anthropic] [--endpoint messages] [--show 20]. Prints each provider and
endpoint with how many were played and how many came out as recorded, the failures with their reasons, and at last one
line with the count. Exits with 1 unless all of those came out right that Handrail has an endpoint for.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
from collections import Counter
from pathlib import Path

import msgspec

from bench.replay import cassettes, judging, serving
from bench.replay.asking import Play, play
from bench.replay.cassettes import Cassette
from proxy.snapshot import Snapshot


@functools.cache
def _built(provider: bytes) -> Snapshot:
    return serving.snapshot(msgspec.json.decode(provider))


def checked(cassette: Cassette, way: Play) -> list[str]:
    """Play one recording; return what is not as it was recorded."""
    settings = _built(msgspec.json.encode(way.provider))
    try:
        body = way.body(cassette)
        got = asyncio.run(serving.play(settings, way.path, body, cassette.response, seed=cassette.id))
    except Exception as error:  # noqa: BLE001 - whatever breaks is one recording's failure, and told as such
        return [f"raised {type(error).__name__}: {error}"]
    return list(judging.problems(cassette, way, got))


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--provider", default="")
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--show", type=int, default=20, help="failures to tell of each provider and endpoint")
    chosen = parser.parse_args()
    total: Counter[tuple[str, str, bool]] = Counter()
    good: Counter[tuple[str, str, bool]] = Counter()
    none: Counter[tuple[str, str, bool]] = Counter()
    for cassette in cassettes.read(chosen.folder):
        key = (cassette.provider, cassette.endpoint, cassette.stream)
        if chosen.provider not in ("", key[0]) or chosen.endpoint not in ("", key[1]):
            continue
        total[key] += 1
        if (way := play(cassette)) is None:
            none[key] += 1
            continue
        found = checked(cassette, way)
        good[key] += not found
        if found and total[key] - good[key] <= chosen.show:
            print(f"{cassette.provider} {cassette.endpoint} {cassette.id}: {'; '.join(found)}")
    for key, count in sorted(total.items()):
        missing = "no such endpoint here" if none[key] else ""
        print(f"{key[0]:14} {key[1]:22} {'stream' if key[2] else 'whole':7} {good[key]:5} of {count:5} {missing}")
    played = total.total() - none.total()
    print(f"replay: {good.total()} of {played} as recorded, {none.total()} of {total.total()} have no endpoint here")
    return 0 if played and good.total() == played else 1


if __name__ == "__main__":
    raise SystemExit(main())
