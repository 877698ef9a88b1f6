"""Owns the guard that finds credentials: the published formats of providers' keys, and values said to be a password.

The formats are those of detect-secrets and of the providers' pages; there is no entropy guessing, so a find is one.
In: texts. Out: Findings, sorted, none overlapping. Never: a file, a network call, time that is not linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import re2

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

LOOKBEHIND, LOOKAHEAD, KEY = 40, 4096, 512
"""A password needs the word before it; a private key has some thousand characters, and so may a token; the keys that
providers give out have less than 200."""
LONG = ("google", "jwt", "private_key", "assigned")

ASSIGNED = "assigned"
ASSIGNED_SCORE = 0.8
"""What a value scores that only the word before it tells."""

_KEYS = {
    # In this order: the first that fits at a place names the find.
    "anthropic": r"\bsk-ant-[A-Za-z0-9_\-]{20,}",
    "openai": r"\bsk-(?:proj-|svcacct-|admin-)[A-Za-z0-9_\-]{20,}|\bsk-[A-Za-z0-9]{32,64}\b",
    "stripe": r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9+/=]{24,}",
    "aws": r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "github": r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{50,}",
    "gitlab": r"\bglpat-[A-Za-z0-9_\-]{20,64}",
    "google": r"\bAIza[A-Za-z0-9_\-]{35}|\bGOCSPX-[A-Za-z0-9_\-]{28}|\bya29\.[A-Za-z0-9_\-]{20,}",
    "slack": r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,}|"
    r"hooks\.slack\.com/services/T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,32}",
    "huggingface": r"\bhf_[A-Za-z0-9]{34}\b",
    "npm": r"\bnpm_[A-Za-z0-9]{36}\b",
    "sendgrid": r"\bSG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}",
    "twilio": r"\bSK[0-9a-f]{32}\b",
    "jwt": r"\beyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]*",
    # A block that is cut off is one too.
    "private_key": r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"[A-Za-z0-9+/=\s:,.\\\-]*?(?:-----END [A-Z0-9 ]{0,40}-----|\z|[^A-Za-z0-9+/=\s:,.\\\-])",
}
_PASS_US, _MARK_US, _WORD_US = 0.02, 0.5, 12.0
"""What a scan takes at most (bench/guard_cost.py): for each character, and for what keys and passwords have in them."""
_DEAR_WORDS = ("pass", "pwd", "contrase", "mot de", "secret", "key", "token", "bearer", "eyj", "://")

_LABELS = tuple(_KEYS)
_KEY = re2.compile("|".join(f"({pattern})" for pattern in _KEYS.values()))

_ASSIGNED = re2.compile(
    r"(?i)(?:\b|_)(?:password|passwd|pwd|passphrase|passwort|contrase[ñn]a|mot de passe|secret|client[_\-]?secret|"
    r"api[_\-]?key|secret[_\-]?key|access[_\-]?key|access[_\-]?token|auth[_\-]?token)[\"']?"
    r"(?: ?(?:=|:=|:) ?| is:? )[\"'`]?([^\s\"'`<>{}$*]{5,}[^\s\"'`<>{}$*.,;:!?)])"
    r"|\bauthorization:? ?(?:bearer|basic) ([A-Za-z0-9._~+/=\-]{12,})"
    r"|\bbearer ([A-Za-z0-9._~+/=\-]{20,})"
    r"|[a-z][a-z0-9+.\-]+://[^\s:/@]+:([^\s:/@]{3,})@"
)
_UNWORDLY = re.compile(r"[0-9]|(?![^\W\d_])[^.,;:!?)\-_/][^.,;:!?)]")
_CANDIDATE = re2.compile(
    r"(?i)sk-|[srp]k_|whsec_|akia|asia|gh[pousr]_|github_pat_|glpat-|aiza|gocspx-|ya29|xox|hooks\.slack|hf_|npm_|sg\.|"
    r"\bsk[0-9a-f]{6}|eyj|-----begin|pass|pwd|contrase|secret|key|token|bearer|authorization|://"
)
"""What a text must have before anything else is tried."""


def create(sources: Sequence[Source]) -> Secrets:
    """Return the guard; it reads no file."""
    return Secrets()


class Secrets:
    """Find credentials and where they stand."""

    name = "secrets"
    version = "1"
    labels = (*_LABELS, ASSIGNED)
    context = Context.SAID
    lookbehind = LOOKBEHIND
    lookahead = LOOKAHEAD
    lookaheads: Mapping[str, int] = {**dict.fromkeys(labels, KEY), **dict.fromkeys(LONG, LOOKAHEAD)}

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return what was found; a key keeps its provider's label where it is assigned as a password."""
        # A lone surrogate cannot be encoded for RE2; one character stands for another, so every offset holds.
        text = text.encode("utf-8", "replace").decode()
        if _CANDIDATE.search(text) is None:
            return []
        taken = bytearray(len(text))
        found = []
        for match in _KEY.finditer(text):
            start, end = match.span()
            taken[start:end] = b"\1" * (end - start)
            found.append(Finding(guard=self.name, label=_LABELS[match.lastindex - 1], start=start, end=end))
        for match in _ASSIGNED.finditer(text):
            start, end = match.span(match.lastindex)
            if _told(text[start:end]) and not any(taken[start:end]):
                found.append(Finding(guard=self.name, label=ASSIGNED, score=ASSIGNED_SCORE, start=start, end=end))
        return sorted(found, key=lambda finding: finding.start)

    def most_us(self, text: str) -> int:
        """Return the most microseconds that a scan takes, told by the words and marks in the text."""
        plain = text.casefold()
        words, marks = sum(map(plain.count, _DEAR_WORDS)), sum(map(plain.count, "-_="))
        return 12 + int(_PASS_US * len(text) + _MARK_US * marks + _WORD_US * words)


def _told(value: str) -> bool:
    """Say whether a value can be no mere word ("my password is required.", "token-based")."""
    return _UNWORDLY.search(value) is not None
