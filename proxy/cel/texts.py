"""Owns the text functions that policies add to CEL: containsWord, containsAny, similar, hash, urls, hostIn.

In: a Budget and text. Out: values. Never: the network, a public suffix list, a natural language.
Letter case is ignored by containsWord, containsAny and similar: people who write to an agent do not keep to one.
"""

import hashlib
import re
from collections import Counter
from typing import Any

import re2

from .errors import Budget, CelError, no_overload
from .functions import Function
from .operators import COPIED_CHARACTERS, READ_CHARACTERS, charge_search
from .values import kind_of

_URL = re2.compile(r"""(?i)\b(?:(?:https?|wss?|ftp)://|www\.)[^\s\p{Z}<>"'`{}|^\[\]()]+""")
_URL_TAIL = ".,;:!?*_~"
# What a browser takes for the authority of a URL, however its slashes lean; or of a bare "host/path".
_AUTHORITY = re.compile(r"(?:(?:https?|wss?|ftp):[/\\]*|[a-z][a-z0-9+.\-]*://|[/\\]{2,})?([^/?#\\]*)", re.IGNORECASE)
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_\-]{0,62})\.)*[a-z0-9_](?:[a-z0-9_\-]{0,62})|\[[0-9a-f:.]{2,45}\]")


def require_text(name: str, *values: object) -> None:
    """Fail unless every argument is text."""
    kinds = tuple(map(kind_of, values))
    if set(kinds) != {"string"}:
        raise no_overload(name, *kinds)


def _folded(budget: Budget, text: str) -> str:
    # Beyond ASCII each letter is looked up.
    budget.charge(1 + len(text) // (COPIED_CHARACTERS if text.isascii() else COPIED_CHARACTERS // 2))
    return text.casefold()


def _contains_word(budget: Budget, text: Any, word: Any) -> bool:
    require_text("containsWord", text, word)
    whole, part = _folded(budget, text), _folded(budget, word)
    if not part:
        raise CelError("invalid_argument", "containsWord() needs a word")
    charge_search(budget, whole, part)
    start = whole.find(part)
    while start >= 0:
        if not (_in_word(whole[max(start - 1, 0) : start]) or _in_word(whole[start + len(part) :][:1])):
            return True
        budget.charge(6 + len(part) // READ_CHARACTERS)
        start = whole.find(part, start + 1)
    return False


def _in_word(neighbour: str) -> bool:
    return neighbour.isalnum() or neighbour == "_"


def _contains_any(budget: Budget, text: Any, parts: Any) -> bool:
    require_text("containsAny", text)
    if kind_of(parts) != "list":
        raise no_overload("containsAny", "string", kind_of(parts))
    require_text("containsAny", text, *parts)
    whole = _folded(budget, text)
    budget.charge(len(parts) * (5 + len(text) // READ_CHARACTERS))
    return any(_within(budget, _folded(budget, part), whole) for part in parts)


def _within(budget: Budget, part: str, whole: str) -> bool:
    charge_search(budget, whole, part)
    return part in whole


def _similar(budget: Budget, a: Any, b: Any) -> float:
    """Return how much two texts share, 0 to 1: the Dice coefficient of their three-character pieces."""
    require_text("similar", a, b)
    budget.charge(36 + 2 * (len(a) + len(b)))
    first, second = _pieces(a), _pieces(b)
    shared, total = (first & second).total(), first.total() + second.total()
    return 2 * shared / total if total else 1.0


def _pieces(text: str) -> Counter[str]:
    words = " ".join(text.casefold().split())
    padded = f"  {words} " if words else ""
    return Counter(map("".join, zip(padded, padded[1:], padded[2:], strict=False)))


def _hash(budget: Budget, text: Any) -> str:
    require_text("hash", text)
    budget.charge(1 + len(text) // COPIED_CHARACTERS)
    return hashlib.sha256(text.encode()).hexdigest()


def _urls(budget: Budget, text: Any) -> list[str]:
    require_text("urls", text)
    budget.charge(8 + len(text) // COPIED_CHARACTERS)
    found = []
    for match in _URL.finditer(text):
        budget.charge(8)
        found.append(match.group().rstrip(_URL_TAIL))
    return found


def _host_in(budget: Budget, url: Any, hosts: Any) -> bool:
    """Tell if a URL's host is one of these or below one; "*.host" means below only. An unreadable host is an error."""
    require_text("hostIn", url)
    if kind_of(hosts) != "list":
        raise no_overload("hostIn", "string", kind_of(hosts))
    require_text("hostIn", url, *hosts)
    budget.charge(16 + len(url) // READ_CHARACTERS + 24 * len(hosts))
    authority = _AUTHORITY.match(url)
    host = _host(authority[1].rpartition("@")[2] if authority else url)
    return any(_under(host, allowed) for allowed in hosts)


def _host(written: str) -> str:
    """Return a host in lower-case ASCII without its port."""
    name = written if written.startswith("[") else written.partition(":")[0]
    name = re.sub(r"(?<=\]):[0-9]*\Z", "", name).rstrip(".").lower()
    try:
        host = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        host = ""
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise CelError("invalid_argument", "cannot read this as a host", written)
    return host


def _under(host: str, allowed: str) -> bool:
    below = allowed.removeprefix("*.")
    name = _host(below)
    return host.endswith(f".{name}") or (host == name and below == allowed)


FUNCTIONS = {
    "containsWord": Function(call=_contains_word, least=2, metered=True, method=True, kind="bool"),
    "containsAny": Function(call=_contains_any, least=2, metered=True, method=True, kind="bool"),
    "similar": Function(call=_similar, least=2, metered=True, kind="double"),
    "hash": Function(call=_hash, least=1, metered=True, kind="string"),
    "urls": Function(call=_urls, least=1, metered=True, kind="list"),
    "hostIn": Function(call=_host_in, least=2, metered=True, kind="bool"),
}
