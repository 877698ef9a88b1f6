"""Owns AgentPolicy: documents in, decisions out. This is the package's only door.

In: policy texts at load; Facts at each phase. Out: a PolicySet; Decisions and Limits. Never: I/O, a clock, a detector:
token counts and budget windows come in as callables, guard results as facts.
"""

from __future__ import annotations

from proxy.documents import Source
from proxy.policy.activation import Shared
from proxy.policy.charges import refused
from proxy.policy.compile import PolicyProblems, load
from proxy.policy.decide import Explained, PolicySet
from proxy.policy.facts import user_text
from proxy.policy.functions import Functions
from proxy.policy.kill import KILL_SWITCH
from proxy.policy.lock import Lock, read_lock
from proxy.policy.patterns import Globs
from proxy.policy.question import Question
from proxy.policy.quotas import in_units
from proxy.policy.recorded import recorded
from proxy.policy.replay import Replayed, differ, replay
from proxy.policy.rule import Document, Rule
from proxy.policy.search import Searched, Sought, ordered
from proxy.policy.testing import CaseResult, Report, Streamed, hold_gates, run_tests
from proxy.policy.tool_facts import changed, definitions

__all__ = [
    "KILL_SWITCH",
    "CaseResult",
    "Document",
    "Explained",
    "Functions",
    "Globs",
    "Lock",
    "PolicyProblems",
    "PolicySet",
    "Question",
    "Replayed",
    "Report",
    "Rule",
    "Searched",
    "Shared",
    "Sought",
    "Source",
    "Streamed",
    "changed",
    "definitions",
    "differ",
    "hold_gates",
    "in_units",
    "load",
    "ordered",
    "read_lock",
    "recorded",
    "refused",
    "replay",
    "run_tests",
    "user_text",
]
