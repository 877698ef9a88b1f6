"""Owns the guard that finds the phrases and hidden characters by which a text gives orders to a model.

A phrase is a hint, no proof: who quotes an attack uses its words. So every find has a weight, and policy sets the line.
Attacks that use none of these phrases are not found; a word alone is never enough, what is ignored must be instructions.
In: texts. Out: Findings, sorted. Never: a file, a network call, time that is not linear in the text.
"""

# ruff: noqa: E501
# A pattern is read in one piece, and looks for what it says in other scripts.

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import re2

from proxy.documents import Source
from proxy.ports import Context
from proxy.terms import Finding

LOOKBEHIND, LOOKAHEAD = 8, 400
"""The longest phrase, counted generously, and what before it makes it a word."""

_GAP = r"(?:[\s\"'*_,]+[\pL'\x{2019}]+){0,5}?[\s\"'*_,]+"
_RULES = r"(?:instructions?|prompts?|directions|directives?|guidelines|rules|commands|programming|orders|restrictions|context|safeguards|policies)"
_EARLIER = r"(?:previous|prior|preceding|above|earlier|original|initial|foregoing|existing|past|system|developer|openai'?s?|given)"
_DROP = r"(?:ignore|disregard|forget|override|bypass|overrule|neglect|discard|set aside|do not follow|don'?t follow|stop following)"


class Phrase(msgspec.Struct, frozen=True):
    """One hint: how sure it is, a word that every match contains, and the whole pattern; case does not matter."""

    label: str
    weight: float
    word: str
    pattern: str


PHRASES = (
    Phrase(
        "override",
        0.95,
        r"ignor|disregard|forget|overrid|bypass|overrul|neglect|discard|set aside|follow",
        rf"\b{_DROP}{_GAP}{_EARLIER}{_GAP}{_RULES}\b",
    ),
    Phrase(
        "override",
        0.95,
        r"ignor|disregard|forget|overrid|bypass|overrul|neglect|discard|set aside|follow",
        rf"\b{_DROP}\s+(?:all|any|every|your)\s+(?:of\s+)?(?:the\s+|your\s+|other\s+)?(?:system\s+)?{_RULES}\b",
    ),
    Phrase(
        "override",
        0.5,
        r"ignor|disregard|forget|overrid|bypass|overrul|neglect|discard|set aside|follow",
        rf"\b{_DROP}\s+(?:the|these|those)\s+(?:of\s+)?(?:the\s+|your\s+|other\s+)?(?:system\s+)?{_RULES}\b",
    ),
    Phrase(
        "override",
        0.9,
        r"ignore|disregard|forget",
        r"\b(?:ignore|disregard|forget)\s+(?:everything|all(?: of)? (?:that|this|what)|anything)\s+(?:\S+\s+){0,3}?(?:above|before|previously|prior|told|instructed|learned)\b",
    ),
    Phrase(
        "override",
        0.9,
        r"\b(?:new|updated|real|actual)\s",
        r"\b(?:your|the|these are (?:your|the)|here are (?:your|the))\s+(?:new|updated|real|actual)\s+(?:system\s+)?(?:instructions?|prompt|directives?|orders)\s*(?:is|are|:)",
    ),
    Phrase(
        "override",
        0.85,
        r"(?:system|admin|developer)[^\n]{0,20}:",
        r"(?:^|\n)\s*(?:#{1,4}|\[|<\|?)?\s*(?:system|admin|developer)\s*(?:prompt|message|override|instructions?|update)\s*(?:\]|\|?>)?\s*:",
    ),
    Phrase(
        "override",
        0.9,
        r"ignor(?:ier|e|a)",
        r"\bignor(?:iere?|e[rz]?|a)\s+(?:bitte\s+)?(?:alle|alles|sämtliche|toutes?|les|todas?|las|os|tutte|le)\s+(?:\S+\s+){0,3}?(?:anweisungen|instruktionen|regeln|instructions|consignes|règles|instrucciones|reglas|instruções|regras|istruzioni|regole)\b",
    ),
    Phrase(
        "override",
        0.9,
        r"vergiss|oublie|olvida|esqueça|dimentica",
        r"\b(?:vergiss|oublie[rz]?|olvida|esqueça|dimentica)\s+(?:\S+\s+){0,4}?(?:anweisungen|regeln|instructions|consignes|instrucciones|reglas|instruções|regras|istruzioni|regole)\b",
    ),
    Phrase(
        "override",
        0.9,
        r"忽略|无视|無視|忘记|忘掉|игнорируй|забудь",
        r"(?:忽略|无视|無視|忘记|忘掉)[^。\n]{0,12}(?:指令|指示|提示|规则|規則|命令)|(?:игнорируй|забудь)\pL*\s+(?:\S+\s+){0,4}?(?:инструкци|правил|указани)",
    ),
    Phrase(
        "escape",
        0.95,
        r"do anything now|jailbr|developer mode|\bdan\b|god mode",
        r"\b(?:do anything now|jailbr(?:eak|oken)(?:\s+(?:mode|prompt|chatgpt|gpt))|developer mode (?:enabled|output|on\b)|DAN mode|(?:act|acting|respond|answer)\s+as\s+(?:a\s+)?DAN\b|god mode enabled)",
    ),
    Phrase(
        "escape",
        0.9,
        r"limits|limitations|restrictions|filter|boundaries|censorship|guidelines|ethic|moral|\brules",
        r"\b(?:you|it|he|she|they|who|that|which|\w+gpt|ai)\s+(?:\S+\s+){0,3}?(?:ha(?:s|ve)|with|are|is)\s+(?:\S+\s+){0,3}?(?:no|without(?: any)?|free (?:of|from)(?: all| any)?|not bound by(?: any)?|freed from)\s+(?:\S+\s+){0,2}?(?:limits|limitations|restrictions|filters?|boundaries|censorship|guidelines|ethic(?:s|al\s+\w+)|morals?|morality|rules)\b",
    ),
    Phrase(
        "escape",
        0.9,
        r"openai|content",
        r"\b(?:without|free of|free from|no|not (?:have|bound by|limited (?:to|by)|restricted by|follow)|bypass(?:es|ing)?|ignor(?:es|ing)|broken free (?:of|from))\s+(?:\S+\s+){0,4}?(?:openai(?:'s|\x{2019}s)?|content)\s+(?:\S+\s+){0,2}?(?:polic(?:y|ies)|rules|guidelines|restrictions|limitations|filters?)\b",
    ),
    Phrase(
        "escape",
        0.85,
        r"unfiltered|uncensored|amoral|unrestricted|unethical|unhinged",
        r"\b(?:unfiltered|uncensored|amoral|unrestricted|unethical|unhinged)\s+(?:\S+\s+){0,3}?(?:ai|chatbot|assistant|model|bot|response|responses|answers?|gpt|character|version)\b",
    ),
    Phrase(
        "escape",
        0.8,
        r"character|\brole",
        r"\b(?:never|not|don'?t|won'?t|cannot|can'?t)\s+(?:ever\s+)?(?:break|leave|exit|drop|get out of)\s+(?:your\s+|the\s+|of\s+)?(?:character|role)\b|\b(?:stay|remain|stay(?:ing)?) in character\b",
    ),
    Phrase(
        "escape",
        0.75,
        r"from now on|hereby|henceforth",
        r"\b(?:from now on|hereby|henceforth)\W+(?:\S+\s+){0,3}?(?:you|chatgpt)(?:'re|\x{2019}re|\s+(?:are|will|must|shall|have|act|respond|answer|pretend))\b",
    ),
    Phrase(
        "escape",
        0.7,
        r"pretend|act as|imagine|role-?play",
        r"\b(?:pretend|act as (?:if|though)|imagine|roleplay|role-play)\s+(?:\S+\s+){0,4}?(?:you|you're)\s+(?:are|have|were|can)?\s*(?:\S+\s+){0,4}?(?:no (?:rules|restrictions|limits|filters?)|unrestricted|evil|not an ai|hacker|jailbroken)\b",
    ),
    Phrase(
        "escape",
        0.75,
        r"refuse|decline|reject|deny|never (?:say|use|include)",
        r"\b(?:never|not|don'?t|cannot|can'?t|won'?t)\s+(?:refuse|decline|reject|deny)\s+(?:to\s+(?:answer|respond|do|fulfil)|any(?:thing)?|a|the|my|user)\b|\bnever (?:say|says|use|include)\s+(?:\S+\s+){0,4}?(?:can'?t|cannot|sorry|as an ai)\b",
    ),
    Phrase(
        "extraction",
        0.9,
        r"prompt|instruction|message|directive|rules|guidelines|configuration",
        r"\b(?:reveal|show|print|repeat|output|display|tell me|give me|write (?:out|down)|share|leak|dump|expose|return|recite|what (?:is|are|was|were))\s+(?:me\s+)?(?:\S+\s+){0,4}?(?:your\s+(?:\S+\s+){0,2}?(?:system|initial|original|hidden|secret|internal|developer|pre-?)|(?:the|this|its)\s+(?:\S+\s+){0,2}?(?:system|hidden|secret|developer))[\s\-]?(?:prompt|instructions?|message|directives?|rules|guidelines|configuration)\b",
    ),
    Phrase(
        "extraction",
        0.85,
        r"above|before this|preceding|from the|prompt|systemanweisungen",
        r"\b(?:repeat|print|output|copy|recite|write)\s+(?:\S+\s+){0,4}?(?:words|text|everything|sentences|content|all)\s+(?:\S+\s+){0,2}?(?:above|before this|preceding|from the (?:start|beginning))\b|\b(?:zeig|nenne|verrate|montre|révèle|muestra|revela|mostra)\S*\s+(?:\S+\s+){0,3}?(?:system-?\s?prompt|prompt (?:système|de sistema|del sistema)|systemanweisungen)\b",
    ),
    Phrase(
        "markup",
        0.9,
        r"<|\[/?INST|human:|assistant:",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>|\[/?INST\]|<</?SYS>>|</?(?:system|tool_result|function_results|assistant)>|(?:^|\n)\s*(?:Human|Assistant):.{0,200}\n\s*(?:Human|Assistant):",
    ),
    Phrase(
        "markup",
        0.8,
        r"<!--|font-size|display:|visibility:|color:",
        r"<!--[^>]{0,200}?\b(?:ignore|instruct|assistant|ai|llm|prompt|you must)\b|(?:font-size:\s*0|display:\s*none|visibility:\s*hidden|color:\s*(?:white|#fff(?:fff)?))[^>]{0,100}>[^<]{0,200}?\b(?:ignore|assistant|instructions?|you must)\b",
    ),
    Phrase("markup", 0.8, r"!\[", r"!\[[^\]]{0,100}\]\(https?://[^)\s]{1,200}[?&][^)\s=]{1,40}=(?:\{|\[|<|%7B|\$)"),
    Phrase("hidden", 0.95, r"[\x{E0020}-\x{E007E}]", r"[\x{E0020}-\x{E007E}]{4,}"),
    Phrase(
        "hidden",
        0.75,
        r"[\x{200B}\x{2060}-\x{2064}\x{202D}\x{202E}\x{AD}]",
        r"[\x{200B}\x{2060}-\x{2064}]{4,}|[\x{202D}\x{202E}]|[A-Za-z][\x{200B}\x{2060}\x{AD}][A-Za-z][\x{200B}\x{2060}\x{AD}][A-Za-z]",
    ),
    Phrase(
        "imperative",
        0.85,
        r"\b(?:ai|llm|language model|virtual|chatbot|assistant)\b",
        r"\b(?:dear |attention,? |hey,? |note to (?:the )?|instructions? (?:to|for) (?:the )?|important(?: message)? (?:to|for) (?:the )?|if you are an? )(?:ai|llm|language model|(?:ai|virtual) (?:assistant|agent|model)|chatbot|assistant reading)\b",
    ),
    Phrase(
        "imperative",
        0.8,
        r"you must|call the|use the|invoke|run the|the user|the customer",
        r"\b(?:before|after|instead of|without)\s+(?:answering|replying|responding|continuing|telling|informing|asking|notifying)\s+(?:\S+\s+){0,4}?(?:you must|call the|use the|invoke|run the|the user)\b|\bdo not (?:tell|inform|mention (?:this|it) to|alert|notify) the (?:user|customer)\b",
    ),
    Phrase(
        "imperative",
        0.8,
        r"conversation|chat history|data|api key|credential|password",
        r"\b(?:send|forward|email|post|upload|exfiltrate|transmit)\s+(?:\S+\s+){0,6}?(?:conversation|chat history|user'?s? data|customer'?s? data|api keys?|credentials|passwords?)\s+(?:\S+\s+){0,3}?to\s+(?:https?://|\S+@|this (?:url|address))",
    ),
)
"""What is looked for, hint by hint."""


def create(sources: Sequence[Source]) -> Injection:
    """Return the guard; it reads no file."""
    return Injection()


class Injection:
    """Find phrases that order a model about, and where they stand."""

    name = "injection"
    version = "1"
    labels = tuple(dict.fromkeys(phrase.label for phrase in PHRASES))
    context = Context.SAID
    lookbehind = LOOKBEHIND
    lookahead = LOOKAHEAD

    def __init__(self) -> None:
        quiet = re2.Options()
        quiet.log_errors = False
        self._patterns = [re2.compile(f"(?i){phrase.pattern}", quiet) for phrase in PHRASES]
        self._words = re2.Set.SearchSet()
        for phrase in PHRASES:
            self._words.Add(f"(?i){phrase.word}")
        self._words.Compile()

    def scan(self, text: str, context: Sequence[str]) -> list[Finding]:
        """Return every phrase that was found; each scores its weight, so the worst one is the text's."""
        # A lone surrogate cannot be encoded for RE2; one character stands for another, so every offset holds.
        text = text.encode("utf-8", "replace").decode()
        found = [
            Finding(guard=self.name, label=phrase.label, score=phrase.weight, start=match.start(), end=match.end())
            for place in self._words.Match(text) or ()
            for phrase in [PHRASES[place]]
            for match in self._patterns[place].finditer(text)
        ]
        return sorted(found, key=lambda finding: (finding.start, -finding.score))
