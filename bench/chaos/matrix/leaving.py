"""Owns row 10 of the fault matrix: clients that leave, where the books still have to be right."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.matrix.cell import DOCUMENT, DRAIN_S, EVENTS, Cell, Expected, Play, chunked, sized

READ_ON = "The reply is read on for the books: the provider's own usage is billed, and the record says who left."


def cells() -> Iterator[Cell]:
    """Yield the cells."""
    for resets in (False, True):
        how = "with a RST" if resets else "in order"
        sizes = [sum(map(len, EVENTS[:count])) for count in range(len(EVENTS))]
        for count, size in enumerate(sizes):
            place = f"after {count} events" if count else "before the head"
            for judged in (False, True) if not count else (False,):
                yield Cell(
                    row=10,
                    fault=f"leaves {place}, {how}",
                    why=READ_ON,
                    stream=True,
                    judged=judged,
                    play=Play(pieces=chunked(EVENTS), gap_s=0.25),
                    leaves=size or -1,
                    resets=resets,
                    expected=Expected(status=0, state="client_gone"),
                )
        yield Cell(
            row=10,
            fault=f"leaves at [DONE], {how}",
            why="A client that has all there is has not left early.",
            stream=True,
            play=Play(pieces=chunked(EVENTS), gap_s=0.05),
            leaves=sum(map(len, EVENTS)),
            resets=resets,
            expected=Expected(status=0),
        )
        head, body = sized(DOCUMENT)
        yield Cell(
            row=10,
            fault=f"leaves while it waits for a document, {how}",
            why=READ_ON,
            play=Play(pieces=(b"", head, body[:9], body[9:]), gap_s=0.1),
            leaves=-1,
            resets=resets,
            expected=Expected(status=0, state="client_gone"),
        )
        yield Cell(
            row=10,
            fault=f"leaves, and the provider never ends, {how}",
            why="What is read on for the books has a bound as well; what is not known then is estimated.",
            stream=True,
            play=Play(pieces=(*chunked(EVENTS[:2])[:-1], *chunked([b": ping\n\n"] * 20)[1:-1]), gap_s=0.5),
            leaves=len(EVENTS[0]),
            resets=resets,
            expected=Expected(status=0, state="client_gone", billed="estimate", within_s=DRAIN_S),
        )
        for falls_back in (False, True):
            yield Cell(
                row=10,
                fault=f"leaves while the provider is silent, {how}",
                why="Its deadline runs out as for any call. Nobody waits for another target's answer, but the one that "
                "was asked may bill.",
                stream=True,
                falls_back=falls_back,
                play=Play(end="silence"),
                leaves=-1,
                resets=resets,
                expected=Expected(status=0, state="client_gone", billed="estimate", calls=1),
            )
