"""Owns the argument `--config`: every command means the same file when it is not told which."""

from __future__ import annotations

import argparse
from pathlib import Path

FILE = Path("handrail.yaml")


def add(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, whose default is `handrail.yaml` where the command is run, or none if there is no such file."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=FILE if FILE.exists() else None,
        help=f"the configuration (default: {FILE} if there is one here, else embedded defaults)",
    )
