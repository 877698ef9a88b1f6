"""Owns `handrail price`: what a model costs, and where that is known from."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from proxy import accounting
from proxy.cli.paint import paint
from proxy.terms import Usage

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXAMPLE = """examples:
  handrail price gpt-5-mini
  handrail price claude-sonnet-4-5 --provider anthropic --input 12000 --output 800
"""


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "price",
        help="say what a model costs",
        description="Say what a model costs, and from which table that is known. Exit 1 if no price is known.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("--provider", default="openai", help="price book (default: openai)")
    parser.add_argument("--input", type=int, default=1_000_000, help="input tokens (default: 1000000)")
    parser.add_argument("--output", type=int, default=1_000_000, help="output tokens (default: 1000000)")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print the price; exit 1 when none is known, which is never the same as free."""
    table = accounting.price_table()
    source = f"table {table.digest[:19]} from {table.source.package} {table.source.version} ({table.source.imported})"
    price = table.find(chosen.provider, chosen.model, time.time_ns() // 1_000_000)
    if price is None:
        print(paint(f"no price is known for {chosen.provider}/{chosen.model}", "red"))
        print(f"  {source}\n  set it under `prices:` in handrail.yaml")
        return 1
    for name, tokens in (("input", chosen.input), ("output", chosen.output)):
        cost = price.cost(Usage(**{f"{name}_tokens": tokens}))
        shown = "unknown" if cost.nanousd is None else accounting.format_usd(cost.nanousd)
        print(f"{name:>8}  {tokens:>10,} tokens  {shown}")
    print(f"  {price.id}; {source}")
    return 0
