"""Owns the streaming cases of policy tests: a reply in pieces, sent on its way through the very window that serves.

In: a set of policies, facts, what a provider says piece by piece. Out: what leaves, and when. Never: a call, a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.errors import Denied
from proxy.pipeline.passage import Passage
from proxy.policy import PolicySet, Streamed
from proxy.recording import Draft
from proxy.redaction import Vault
from proxy.terms import ChoiceDelta, Decision, Delta, Facts, Phase, Verdict


def rehearse(policies: PolicySet, facts: Facts, chunks: Sequence[str]) -> Streamed:
    """Stream a text to its end, or to where a rule cuts it; what `response` rules say of the whole is not asked."""
    policies = policies.narrow(facts.caller.agent, facts.request.model, facts.caller.tenant)
    draft, left = Draft("test", "", facts.at_ms, 0.0), list[Delta]()
    draft.stream = True
    vault = Vault(b"test", facts.session.id)
    passage = Passage(policies, vault, draft, hold=policies.holds_response, now_ms=lambda: 0.0)
    try:
        for text in chunks:
            left.extend(passage.feed((_said(text),), facts))
        released = _text(left)
        left.extend(passage.close(facts))
    except Denied as denied:
        return Streamed(decision=denied.decision, released=_text(left), text=_text(left) + denied.decision.message)
    said = passage.gate.replies()
    return Streamed(
        decision=max(draft.texts.values(), key=lambda one: one.verdict.weight, default=_NOTHING),
        released=released,
        text=said[0].text if said else "",
    )


_NOTHING = Decision(id="test", phase=Phase.CHUNK, verdict=Verdict.ALLOW)


def _said(text: str) -> Delta:
    return Delta(frame=b"", choices=(ChoiceDelta(index=0, text=text),))


def _text(left: Iterable[Delta]) -> str:
    return "".join(piece.text for delta in left for piece in delta.choices)
