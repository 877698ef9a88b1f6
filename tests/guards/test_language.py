"""Owns the proof of the language guard: what it knows, when it is unsure, that it is bounded, and how good it is."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.guards.language import LEAST_SCORE, create

GUARD = create(())


def language(text: str) -> str:
    """Return the label of a text."""
    (finding,) = GUARD.scan(text, ())
    return finding.label


@pytest.mark.parametrize(
    ("code", "text"),
    [
        pytest.param("en", "Where is my order? It should have arrived yesterday.", id="English"),
        pytest.param("en", "Hello", id="an English greeting"),
        pytest.param("en", "I don\u2019t want it", id="a typographic apostrophe"),
        pytest.param("de", "Wo ist meine Bestellung? Ich warte seit einer Woche auf das Paket.", id="German"),
        pytest.param("fr", "Où est ma commande ? Je voudrais la retourner.", id="French"),
        pytest.param("es", "¿Dónde está mi pedido? No ha llegado todavía.", id="Spanish"),
        pytest.param("it", "Dove si trova il mio ordine? Non è ancora arrivato.", id="Italian"),
        pytest.param("pt", "Onde está o meu pedido? Ainda não chegou.", id="Portuguese"),
        pytest.param("nl", "Waar is mijn bestelling? Ik heb het pakket nog niet ontvangen.", id="Dutch"),
        pytest.param("sv", "Var är min beställning? Jag har inte fått paketet än.", id="Swedish"),
        pytest.param("pl", "Gdzie jest moje zamówienie? Jeszcze nie przyszło.", id="Polish"),
        pytest.param("tr", "Siparişim nerede? Henüz bana gelmedi ve çok bekledim.", id="Turkish"),
        pytest.param("ru", "\u0433\u0434\u0435 \u043c\u043e\u0439 \u0437\u0430\u043a\u0430\u0437", id="Russian"),
        pytest.param("ar", "\u0623\u064a\u0646 \u0637\u0644\u0628\u064a", id="Arabic"),
        pytest.param("zh", "\u6211\u7684\u8ba2\u5355\u5728\u54ea\u91cc", id="Chinese"),
        pytest.param("zh", "\u6211\u7684 iPad \u8ba2\u5355\u5728\u54ea\u91cc", id="Chinese with a Latin name"),
        pytest.param("ja", "\u6ce8\u6587\u306f\u3069\u3053\u3067\u3059\u304b", id="Japanese"),
        pytest.param("ko", "\uc8fc\ubb38\uc774 \uc5b4\ub514 \uc788\ub098\uc694", id="Korean"),
        pytest.param("el", "\u03c0\u03bf\u03cd \u03b5\u03af\u03bd\u03b1\u03b9", id="Greek"),
        pytest.param("he", "\u05d0\u05d9\u05e4\u05d4 \u05d4\u05d4\u05d6\u05de\u05e0\u05d4", id="Hebrew"),
        pytest.param("und", "ok", id="a word of any language"),
        pytest.param("und", "Zxcvb qwerty asdfgh", id="no words"),
        pytest.param("und", "12345 !!", id="no letters"),
        pytest.param("und", "Hol rendel\u00e9sem csomag tegnap rakt\u00e1r sz\u00e1ll\u00edt\u00e1s", id="Hungarian"),
        pytest.param(
            "und",
            "\u0434\u0435 \u043c\u043e\u0454 \u0437\u0430\u043c\u043e\u0432\u043b\u0435\u043d\u043d\u044f",
            id="Ukrainian",
        ),
        pytest.param("und", "https://is.the.test/where the@is.test", id="addresses"),
    ],
)
def test_a_text_is_in_the_language_of_its_words(code: str, text: str) -> None:
    """Scripts and stop words decide, and what neither tells is `und`."""
    assert code == language(text)


def test_what_is_unsure_has_a_low_score() -> None:
    """The score of `und` is that of the best guess, below the least."""
    (found,) = GUARD.scan("Bestellung die Paket Adresse Karton Farbe Nummer Kunde Rechnung Lager Versand", ())

    assert ("und", True) == (found.label, 0 < found.score < LEAST_SCORE)


def test_an_empty_text_has_no_language() -> None:
    """Nothing said, nothing found."""
    assert [[], []] == [GUARD.scan("", []), GUARD.scan(" \n", [])]


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_text_has_one_label(text: str) -> None:
    """Whatever is said, the label is a known one, the score is from 0 to 1, and it is the same each time."""
    found = GUARD.scan(text, [])

    assert found == GUARD.scan(text, [])
    assert all(finding.label in GUARD.labels and 0 <= finding.score <= 1 for finding in found)


@pytest.mark.parametrize("filler", [pytest.param("12 " * 1500, id="characters"), pytest.param("x " * 1000, id="words")])
def test_long_texts_are_read_at_both_ends(filler: str) -> None:
    """The beginning and the end count, the middle of a very long text does not, so time has a bound."""
    said = "where is my order and what have you done with it " * 20
    hidden = GUARD.scan(f"{filler}{said}{filler}"[: 2 * len(filler)], ())[0].score

    assert hidden < GUARD.scan(f"{said}{filler}", ())[0].score
    assert hidden < GUARD.scan(f"{filler}{said}", ())[0].score


def test_customers_who_write_english_are_taken_for_english(real_data: Path) -> None:
    """Of tau-bench's customer turns of five words or more, 99 in 100 are English and none is another language."""
    with gzip.open(real_data / "tau-retail" / "few_shot_dialogues.jsonl.gz", "rt") as lines:
        dialogues = [json.loads(line)["messages_display"] for line in lines]
    turns = [
        turn
        for dialogue in dialogues
        for turn in re.findall(r"(?:^|\n)user: (.*?)(?=\n(?:assistant|tool|user): |\Z)", dialogue, re.DOTALL)
        if len(turn.split()) >= 5
    ]
    others = [(label, turn) for turn in turns if (label := language(turn)) != "en"]

    assert len(turns) > 300
    assert len(others) <= len(turns) // 100, others
    assert {"und"} >= {label for label, _ in others}, others
