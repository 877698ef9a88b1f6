"""Owns what one walk adds to what is known of its conversation: labels, its level, the calls that the agent got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from proxy import recording
from proxy.conversation import REMEMBERED_CALLS, REMEMBERED_TOOLS
from proxy.pipeline.house import House
from proxy.policy import changed, definitions
from proxy.recording import LONGEST_NAME
from proxy.terms import Booked, Decision, Issued, Level, Phase, ToolCall, ToolSpec, Verdict


class Notes:
    """What is new about the session of one walk."""

    def __init__(self, house: House, draft: recording.Draft) -> None:
        self._house = house
        self._draft = draft
        self._labels: dict[str, None] = {}
        self._level: Level | None = None
        self._tools: Mapping[str, str] = {}
        self._new: list[Issued] = []
        self.issued: tuple[Issued, ...] | None = None
        """The calls of earlier walks as they stand now, where that has changed."""

    def label(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Label the conversation; return all its labels, each once."""
        self._labels |= dict.fromkeys(labels)
        return tuple(dict.fromkeys((*self._draft.session.labels, *self._labels)))

    def lower(self, level: Level) -> None:
        """Let the agent do no more than this from the next call of the conversation on."""
        known = self._draft.session.level
        self._level = level if known is None or level.rank < known.rank else known

    def offer(self, tools: Sequence[ToolSpec]) -> None:
        """Note the definitions of tools that are offered for the first time; put on record which have changed."""
        first = self._draft.session.tools
        self._tools = dict(islice({**first, **definitions(tools), **first}.items(), REMEMBERED_TOOLS))
        if names := changed(tools, first):
            self._draft.decisions.append(
                Decision(
                    id=f"{self._draft.id}-tools",
                    phase=Phase.REQUEST,
                    verdict=Verdict.ANNOTATE,
                    reason="tools_changed",
                    annotations={"tools_changed": ", ".join(names)},
                )
            )

    def issue(self, calls: Iterable[tuple[ToolCall, tuple[Booked, ...]]]) -> None:
        """Note the tool calls that the agent gets, with what their results may give back. A name without measure is not
        kept: its result is then taken for one that nobody asked for."""
        now = self._house.clock.wall_ms()
        self._new = [
            Issued(id=call.id, tool=call.name, at_ms=now, booked=booked)
            for call, booked in calls
            if max(len(call.id), len(call.name)) <= LONGEST_NAME
        ]

    def remember(self) -> None:
        """Queue what is new about the session, if anything is."""
        session = self._draft.session
        earlier = session.issued if self.issued is None else self.issued
        issued = (*earlier, *self._new)[-REMEMBERED_CALLS:]
        tools, level = self._tools or session.tools, self._level or session.level
        known = replace(session, issued=issued, labels=self.label(()), level=level, tools=tools)
        if known != session:
            self._house.sessions.save(known, self._house.clock.wall_ms())
