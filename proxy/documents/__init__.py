"""Owns the documents people write, configuration and policies: YAML read with positions, held against a JSON Schema.

In: a Source. Out: Texts, and every problem at once with its place. Never: a file, a meaning.
"""

from __future__ import annotations

from proxy.documents.reading import Mark, Path, Problems, Source, Text, by_place, meant, read
from proxy.documents.shape import check

__all__ = ["Mark", "Path", "Problems", "Source", "Text", "by_place", "check", "meant", "read"]
