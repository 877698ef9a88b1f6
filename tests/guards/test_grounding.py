"""Owns the proof of the grounding guard: what is a claim, what supports it, that it is bounded, and how good it is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import TooLarge
from proxy.guards.grounding import LONGEST_REPLY, MOST_CLAIMS, create

GUARD = create(())


def claims(reply: str, *evidence: str) -> list[tuple[str, str]]:
    """Return kind and text of what is not supported."""
    return [(found.label, found.reason) for found in GUARD.scan(reply, evidence)]


@pytest.mark.parametrize(
    ("reply", "kind", "claim"),
    [
        pytest.param("You get $1,299.00 back", "money", "$1,299.00", id="dollars"),
        pytest.param("It costs 49,90 €.", "money", "49,90 €", id="euros behind"),
        pytest.param("It costs 20 dollars.", "money", "20 dollars", id="a word"),
        pytest.param("It costs EUR 20.", "money", "EUR 20", id="a code"),
        pytest.param("It arrives on 2026-01-05.", "date", "2026-01-05", id="an ISO date"),
        pytest.param("It arrives on January 5th, 2026.", "date", "January 5th, 2026", id="month and day"),
        pytest.param("It arrives on the 5th of Jan.", "date", "5th of Jan", id="day and month"),
        pytest.param("It arrives on 1/5/2026.", "date", "1/5/2026", id="slashes"),
        pytest.param("It arrives on 05.01.26.", "date", "05.01.26", id="points"),
        pytest.param("I see #W1234567.", "order_id", "#W1234567", id="a number sign"),
        pytest.param("That is order number 12345.", "order_id", "order number 12345", id="an order number"),
        pytest.param("I see ORD-12345.", "order_id", "ORD-12345", id="a prefix"),
        pytest.param("See (https://x.test/a?b=1).", "link", "https://x.test/a?b=1", id="a link"),
        pytest.param("See www.x.test!", "link", "www.x.test", id="a link without scheme"),
        pytest.param("Write to Help@x.test.", "email", "Help@x.test", id="an address"),
        pytest.param("You get 20% off", "percentage", "20%", id="per cent"),
        pytest.param("You get 7.5 percent off", "percentage", "7.5 percent", id="per cent as a word"),
        pytest.param("Your order has been shipped.", "status", "shipped", id="a state"),
        pytest.param("I've just canceled it", "status", "canceled", id="an act"),
        pytest.param("It will be refunded", "status", "refunded", id="a promise"),
    ],
)
def test_what_a_reply_commits_to_needs_evidence(reply: str, kind: str, claim: str) -> None:
    """Every kind of claim is found, and the finding spans exactly what was claimed."""
    (found,) = GUARD.scan(reply, ["Nothing of the kind."])

    assert (kind, claim, claim) == (found.label, found.reason, reply[found.start : found.end])


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param("Hello, how can I help you 2 today?", id="small talk"),
        pytest.param("Has it been delivered?", id="a question"),
        pytest.param("It has not been shipped.", id="a denial"),
        pytest.param("It hasn't been shipped.", id="a short denial"),
        pytest.param("Once your item is received, it will be refunded.", id="a condition"),
        pytest.param("Orders can be cancelled.", id="a possibility"),
        pytest.param("The refunded amount", id="no assertion"),
        pytest.param("It takes 5 to 7 business days.", id="a duration"),
    ],
)
def test_what_commits_to_nothing_is_no_claim(reply: str) -> None:
    """Questions, conditions and bare numbers need no evidence."""
    assert [] == claims(reply)


@pytest.mark.parametrize(
    ("reply", "evidence"),
    [
        pytest.param("You get $1,299.00", '{"total": 1299}', id="thousands"),
        pytest.param("You get 1.299,00 €", '{"total": 1299.0}', id="European thousands"),
        pytest.param("You get $170.67", '{"total": 170.66999999999996}', id="a binary fraction"),
        pytest.param("January 5", '{"at": "2026-01-05T10:00:00Z"}', id="a month and an ISO date"),
        pytest.param("January 5, 2026", "it came on 5 Jan", id="the evidence tells no year"),
        pytest.param("2026-01-05", "05/01/2026", id="day first"),
        pytest.param("2026-01-05", "1/5/26", id="month first"),
        pytest.param("order w123456", '{"order_id": "#W123456"}', id="case of an id"),
        pytest.param("https://www.x.test/a/", "see http://X.test/a.", id="a link's outside"),
        pytest.param("write to HELP@x.test", "mail: help@X.test", id="case of an address"),
        pytest.param("20% off", "a discount of 20 %", id="per cent"),
        pytest.param("20% off", '{"discount": 0.2}', id="a rate"),
        pytest.param("It was shipped.", '{"status": "shipped"}', id="a status field"),
        pytest.param("I have cancelled it.", "Canceled on request", id="another spelling"),
        pytest.param("It will be refunded.", '{"transaction_type": "refund"}', id="a noted refund"),
        pytest.param("It has been returned.", '{"status": "return requested"}', id="a noted request"),
        pytest.param("It was delivered.", "No, it was delivered", id="a denial of something else"),
    ],
)
def test_the_same_value_in_other_writing_supports(reply: str, evidence: str) -> None:
    """Values are compared, not their spelling; without the evidence each is a finding."""
    assert ([], 1) == (claims(reply, "something else", evidence), len(claims(reply)))


@pytest.mark.parametrize(
    ("reply", "evidence"),
    [
        pytest.param("You get $129", '{"total": 129.5}', id="another amount"),
        pytest.param("You get $125", '{"rate": 0.125}', id="a rate is no thousand"),
        pytest.param("January 5, 2026", "2025-01-05", id="another year"),
        pytest.param("January 5", "2026-01-06", id="another day"),
        pytest.param("order 12345", "order 123456", id="a part of an id"),
        pytest.param("https://x.test/a", "https://x.test/b", id="another page"),
        pytest.param("20% off", "10% off", id="another share"),
        pytest.param("It was delivered.", "Was it delivered?", id="the evidence asks"),
        pytest.param("It was delivered.", "It was not delivered.", id="the evidence denies"),
        pytest.param("It was delivered.", '{"delivered": false}', id="a field that is false"),
        pytest.param("It was refunded.", "I want a refund", id="a wish"),
    ],
)
def test_another_value_supports_nothing(reply: str, evidence: str) -> None:
    """What is only like the claim is no evidence."""
    assert 1 == len(claims(reply, evidence))


def test_each_claim_is_found_once_in_the_order_of_the_reply() -> None:
    """What is a link is no id as well, and every unsupported claim is told; words score less than values."""
    reply = "It was shipped: https://x.test/#W1234567, $5 on 2026-01-05"

    assert [
        ("status", 0.7, "shipped"),
        ("link", 1.0, "https://x.test/#W1234567"),
        ("money", 1.0, "$5"),
        ("date", 1.0, "2026-01-05"),
    ] == [(found.label, found.score, found.reason) for found in GUARD.scan(reply, [])]


def test_without_claims_nothing_is_found() -> None:
    """Nothing said, nothing found."""
    assert [] == GUARD.scan("", ["$5"])


@settings(max_examples=100)
@given(st.text(st.sampled_from("$€%#@.,:/-? 0159Ww\uff41\u017f\u0660Janseptorde"), max_size=80), st.text(max_size=40))
def test_any_reply_is_read_and_supports_itself(reply: str, other: str) -> None:
    """Whatever is said, findings lie inside it, and a reply that is its own evidence has no unsupported value."""
    found = GUARD.scan(reply, [other])

    assert all(reply[one.start : one.end] == one.reason and one.label in GUARD.labels for one in found)
    assert [] == [one for one in GUARD.scan(reply, [reply]) if one.label != "status"]


def test_a_reply_that_is_too_long_is_not_judged() -> None:
    """Nothing is read in part: at the bound the last word counts, beyond it the guard fails."""
    longest = "x " * ((LONGEST_REPLY - 2) // 2) + "$5"

    assert [("money", "$5")] == claims(longest)
    with pytest.raises(TooLarge) as raised:
        claims(f"{longest} ")
    assert "too_long" == raised.value.code


def test_a_reply_with_too_many_claims_is_not_judged() -> None:
    """A list of numbers that nobody reads is no commitment, and judging it would take too long."""
    assert MOST_CLAIMS == len(claims("$1 " * MOST_CLAIMS))
    with pytest.raises(TooLarge) as raised:
        claims("$1 " * (MOST_CLAIMS + 1))
    assert "too_many" == raised.value.code


def test_evidence_has_no_longest_length() -> None:
    """The middle of a long evidence text supports what its ends support."""
    assert [] == claims("$5", "x " * LONGEST_REPLY + "$5" + " x" * LONGEST_REPLY)


def test_what_reading_takes_at_most_is_told_beforehand() -> None:
    """It grows with the text, whatever it says."""
    assert 0 < GUARD.most_us("") < GUARD.most_us("$5 " * 300) == GUARD.most_us("so " * 300)


def test_claims_are_listed_without_evidence() -> None:
    """What a text commits to can be asked for by itself."""
    assert [("money", 0, 2), ("percentage", 3, 6)] == [
        (found.label, found.start, found.end) for found in GUARD.claims("$5 10% 7")
    ]


@pytest.mark.parametrize("folder", [pytest.param("ectsum", id="earnings calls"), pytest.param("news", id="news")])
def test_summaries_that_are_true_are_hardly_ever_doubted(folder: str, real_data: Path) -> None:
    """Of SummEdits' true summaries one in a hundred is doubted at most; of false ones of earnings a quarter is."""
    with gzip.open(real_data / "grounding" / f"summedits_{folder}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    doubted: dict[int, list[bool]] = {0: [], 1: []}
    for row in rows:
        doubted[row["label"]].append(bool(claims(row["summary"], row["doc"])))

    assert sum(doubted[1]) <= len(doubted[1]) // 100
    assert folder == "news" or sum(doubted[0]) >= len(doubted[0]) // 4
