"""Owns the proof of the secrets guard: which credentials it finds and where, and what it leaves alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.guards.secrets import ASSIGNED, create

GUARD = create(())
X = "aB3" * 40
"""Keys are put together here, so that no scanner takes this file for a leak."""
KEYS = [
    ("anthropic", "sk-" + "ant-api03-" + X),
    ("openai", "sk-" + "proj-" + X),
    ("openai", "sk-" + X[:48]),
    ("stripe", "sk_" + "live_" + X[:24]),
    ("stripe", "whsec_" + X[:32]),
    ("aws", "AKIA" + "ABCDEFGH234567QR"),
    ("github", "ghp_" + X[:36]),
    ("github", "github_" + "pat_" + X[:82]),
    ("gitlab", "glpat-" + X[:20]),
    ("google", "AIza" + X[:35]),
    ("google", "ya29." + X[:60]),
    ("slack", "xoxb-" + "123456789012-" + X[:24]),
    ("slack", "hooks.slack.com/services/" + "T12345678/B12345678/" + X[:24]),
    ("huggingface", "hf_" + X[:34]),
    ("npm", "npm_" + X[:36]),
    ("sendgrid", "SG." + X[:22] + "." + X[:43]),
    ("twilio", "SK" + "0123456789abcdef" * 2),
    ("jwt", "eyJ" + X[:20] + ".eyJ" + X[:30] + "." + X[:43]),
    ("private_key", "-----BEGIN RSA " + "PRIVATE KEY-----\n" + X + "\n-----END RSA PRIVATE KEY-----"),
    ("private_key", "-----BEGIN " + "PRIVATE KEY-----\n" + X),
]


def found(text: str) -> list[tuple[str, str]]:
    """Return label and text of each find."""
    return [(finding.label, text[finding.start : finding.end]) for finding in GUARD.scan(text, [])]


@pytest.mark.parametrize(("label", "key"), [pytest.param(*key, id=f"{key[0]}-{n}") for n, key in enumerate(KEYS)])
def test_a_published_format_is_found(label: str, key: str) -> None:
    """The key is found under its provider's label, after any characters, and also where it is assigned."""
    assert [(label, key)] == found(f"\N{GRINNING FACE}\ud800 {key}")
    assert [(label, key)] == found(f"password={key}")


def test_every_label_is_proven() -> None:
    """No format stands on the shelf untried."""
    assert set(GUARD.labels) == {label for label, _ in KEYS} | {ASSIGNED}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("password=hunter22", "hunter22", id="equals"),
        pytest.param('"api_key": "abc123def"', "abc123def", id="json"),
        pytest.param("my password is S3cret!pass.", "S3cret!pass", id="said"),
        pytest.param("DB_PASSWORD: tr0ub4dor", "tr0ub4dor", id="environment"),
        pytest.param("Authorization: Bearer abcdef1234567890", "abcdef1234567890", id="header"),
        pytest.param("use bearer abcdefghij1234567890.", "abcdefghij1234567890.", id="bearer"),
        pytest.param("postgres://app:pa55word@db/x", "pa55word", id="address"),
    ],
)
def test_an_assigned_value_is_found(text: str, value: str) -> None:
    """The value alone is the find, surely less certain than a format."""
    (finding,) = GUARD.scan(text, [])

    assert (ASSIGNED, value) == (finding.label, text[finding.start : finding.end])
    assert finding.score < 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("I forgot my password, please help", id="word"),
        pytest.param("The password is required. My secret is: nothing", id="sentence"),
        pytest.param("password: $PASSWORD or <password>", id="placeholder"),
        pytest.param("the bearer authentication-of-every-call", id="words with dashes"),
        pytest.param("see https://example.com:8080/x and sk-learn", id="address without a password"),
        pytest.param("task-12345678901234567890123456789012345", id="inside a word"),
        pytest.param("order 4711", id="no candidate"),
    ],
)
def test_talk_about_passwords_is_left_alone(text: str) -> None:
    """A word of the language is no credential."""
    assert [] == found(text)


def test_every_label_says_how_far_it_looks() -> None:
    """No label looks farther than the guard, and each says how far it looks."""
    assert set(GUARD.labels) == set(GUARD.lookaheads)
    assert GUARD.lookahead == max(GUARD.lookaheads.values()) > GUARD.lookaheads["openai"]


def test_what_a_scan_takes_at_most_is_told_beforehand() -> None:
    """It grows with the text, and faster with what begins a find; telling it needs no scan."""
    least, plain, dear = (GUARD.most_us(text) for text in ("", "was" * 900, "key" * 900))

    assert 0 < least < plain < dear / 10


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["sk-", X, "password=", "bearer ", " ", "é", "eyJ", "-----BEGIN PRIVATE KEY-----", "://a:b1c@"])
    )
)
def test_finds_never_overlap_and_stand_in_order(parts: list[str]) -> None:
    """Whatever the text, every find is inside it and starts where the last one has ended."""
    text = "".join(parts)
    ends = [0]

    for finding in GUARD.scan(text, []):
        assert ends[-1] <= finding.start < finding.end <= len(text)
        ends.append(finding.end)


def test_texts_without_secrets_raise_no_alarm(real_data: Path) -> None:
    """On Presidio's generated texts, which hold none, nothing is found."""
    rows = json.loads(gzip.decompress((real_data / "pii" / "presidio_generated_large.json.gz").read_bytes()))

    assert [] == [find for row in rows for find in found(row["full_text"])]
