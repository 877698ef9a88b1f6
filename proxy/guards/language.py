"""Owns the guard that says which language a text is in, by its script and its commonest words.

A script that one language is mostly written in decides by itself; Latin text is told by stop words, each counting the
less the more languages have it. A short text without any of them is `und`, never a guess. So is a language that is not
known here where it shares no words with one that is; a near relative (Norwegian, Catalan) may be taken for it.
In: texts. Out: one Finding, its label an ISO 639-1 code. Never: a network call, time without a bound.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

UNKNOWN = "und"
READ_CHARACTERS, READ_WORDS = 2048, 256
"""Of a longer text, so much of its beginning and of its end is read."""
SURE_SCRIPT = 0.5
"""The share of the letters that a script needs to decide."""
LEAST_SCORE = 0.4
"""Below this it is no language."""
PRIOR, STRANGE = 0.5, 0.1
"""What speaks against every language from the start, and with each word that is no stop word: few are never certain."""

_STOP_WORDS = {
    "en": "the and is of to in it you that this my your for with not are was have has do does what where when how "
    "can will would could please thanks thank hello hi i me we they from been on be am i'm don't it's order "
    "want need but so if an i'd i'll i've that's let's all there then them these those one any yes just which "
    "or by as were",
    "de": "der die das und ist nicht ich sie es ein eine mit für auf von zu den dem im wie was wo wann meine mein "
    "ihre bitte danke hallo habe hat haben wurde kann noch aber auch wir mir mich bei nach werden sind war zum "
    "zur oder wenn",
    "fr": "le la les des et est une un je vous nous que qui pas pour dans avec sur ce cette mon ma mes votre où "
    "comment quand merci bonjour j'ai c'est n'est du au aux ne il elle mais suis avez puis s'il plaît été être "
    "sont",
    "es": "el la los las de que y es en un una no mi su por para con del al está dónde cómo cuándo qué gracias hola "
    "quiero tengo pero lo se me favor pedido muy ha he usted yo mis son fue este esta cuál sin todavía también "
    "llegado cuando",
    "it": "il la lo gli che di e è un una non per con del della dei mio mia sono ho hai dove come quando grazie ciao "
    "voglio ma si mi ordine questo questa alla nel più anche buongiorno perché stato ha le favore vorrei",
    "pt": "o a os as que e é de do da dos das em um uma não meu minha por para com no na está onde como quando "
    "obrigado obrigada olá quero tenho mas você eu foi mais muito seu sua isso este esta pedido ao já",
    "nl": "de het een en is niet ik je u van op te dat die in met voor mijn uw waar wanneer hoe wat bedankt hallo "
    "heb heeft maar ook naar bij nog kan zijn wordt er aan om deze dit geen als graag bestelling was wil",
    "sv": "och är att det som en ett jag du inte på för med av till den min mitt var när hur vad tack hej har kan "
    "men om från vi ni så kommer vill beställning skulle också här mig er",
    "pl": "i w na nie się jest to że z do jak gdzie kiedy co mój moje moja czy dziękuję cześć proszę mam ale od za "
    "dla po jestem dzień dobry był zamówienie został przez tego jeszcze już chcę o",
    "tr": "bir ve bu ne için çok değil mi nerede benim var yok ile da de ben siz lütfen teşekkürler merhaba ama daha "
    "kadar sipariş siparişim olarak zaman istiyorum gibi olan bana her geldi hangi nedir mu",
}
_LANGUAGES_OF: dict[str, frozenset[str]] = {
    word: frozenset(language for language, words in _STOP_WORDS.items() if word in words.split())
    for word in " ".join(_STOP_WORDS.values()).split()
}

_SCRIPTS = {
    "ru": r"[\u0400-\u04ff]",
    "ar": r"[\u0620-\u06ff]",
    "ja": r"[\u3041-\u30ff]",
    "zh": r"[\u4e00-\u9fff]",
    "ko": r"[\uac00-\ud7a3]",
    "el": r"[\u0370-\u03ff]",
    "he": r"[\u05d0-\u05ea]",
}
_BY_SCRIPT = {language: re.compile(pattern) for language, pattern in _SCRIPTS.items()}
_FOREIGN = re.compile(
    r"[\u0404\u0406\u0407\u0454\u0456\u0457\u0490\u0491\u0458\u045e\u0452\u045b\u067e\u0686\u0698\u06af\u06cc\u06a9]"
)
"""Letters that Ukrainian, Serbian, Belarusian, Persian or Urdu have, and Russian and Arabic have not."""
KANA_WEIGHT = 4
"""Japanese is written in Han signs too, Chinese never in kana: how much a kana counts for Japanese."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_NO_LANGUAGE = re.compile(r"https?://\S+|\S{1,64}@\S{1,255}")


def create(sources: Sequence[Source]) -> Language:
    """Return the guard; it learns from no file."""
    return Language()


class Language:
    """Name the language of a text."""

    name = "language"
    version = "1"
    labels = (*_STOP_WORDS, *_SCRIPTS, UNKNOWN)
    context = Context.SAID
    lookbehind = 0
    lookahead = 0

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return the language of a text, `und` with the score of the best guess where that is too low."""
        if not text.strip():
            return []
        read = _plain(text)
        label, score = _by_script(read) or _by_words(read)
        return [Finding(guard=self.name, label=label if score >= LEAST_SCORE else UNKNOWN, score=score, end=len(text))]


def _by_script(text: str) -> tuple[str, float] | None:
    """Return the language whose script most letters are in, with their share; None for Latin and the like."""
    letters = sum(map(str.isalpha, text))
    counts = {language: len(pattern.findall(text)) for language, pattern in _BY_SCRIPT.items()}
    if counts["ja"] * KANA_WEIGHT > counts["zh"]:
        counts["ja"] += counts.pop("zh")
    language = max(counts, key=lambda one: counts[one])
    if not letters or counts[language] < SURE_SCRIPT * letters:
        return None
    return (UNKNOWN, 0.0) if _FOREIGN.search(text) else (language, min(1.0, counts[language] / letters))


def _by_words(text: str) -> tuple[str, float]:
    """Return the language that has most of the stop words, and how much of the evidence is its."""
    words = _WORD.findall(text)
    if len(words) > 2 * READ_WORDS:
        words = words[:READ_WORDS] + words[-READ_WORDS:]
    known = [_LANGUAGES_OF[word] for word in words if word in _LANGUAGES_OF]
    # Each word is shared out, so that the weights add up to the number of words.
    weights = dict.fromkeys(_STOP_WORDS, 0.0)
    for languages in known:
        for language in languages:
            weights[language] += 1 / len(languages)
    best = max(weights, key=lambda one: weights[one])
    return best, weights[best] / (len(known) + PRIOR + STRANGE * (len(words) - len(known)))


def _plain(text: str) -> str:
    if len(text) > 2 * READ_CHARACTERS:
        text = f"{text[:READ_CHARACTERS]} {text[-READ_CHARACTERS:]}"
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _NO_LANGUAGE.sub(" ", plain)
