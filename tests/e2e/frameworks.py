"""Owns two agents as their frameworks' users write them: their code is README's, and nothing here adds to it."""

from __future__ import annotations

import asyncio
import io
import re
from contextlib import redirect_stdout
from typing import Any, NamedTuple, Protocol

from tests.house.tree import text

QUIET = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGSMITH_TRACING": "false"}
"""What keeps the frameworks from reporting to their vendors, as each documents it."""


class Shop:
    """What the agents' tool acts on: the refunds that were made."""

    def __init__(self) -> None:
        self.refunds: list[tuple[str, float]] = []

    def refund(self, order_id: str, amount: float) -> str:
        """Pay money back."""
        self.refunds.append((order_id, amount))
        return f"Refunded ${amount:.2f} for order {order_id}."


class Answer(NamedTuple):
    """How a run ended: what the customer is told, and the history that the next run goes on with."""

    text: str
    history: list[Any]


class Framework(Protocol):
    """One agent, to be run in its framework's way."""

    shop: Shop
    printed: str
    """What README's example printed when it was run."""

    def run(self, question: str, history: list[Any], *, streamed: bool) -> Answer:
        """Run the agent to its end."""


def readme(mark: str, shop: Shop) -> tuple[dict[str, Any], str]:
    """Run the example of README with a mark in it, as it stands; return what it defines and what it prints."""
    [code] = [block for block in re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL) if mark in block]
    names: dict[str, Any] = {"__name__": "example", "shop": shop}
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - README's own code is what is under test
    return names, printed.getvalue()


def says(question: str) -> dict[str, str]:
    """Return a customer's message."""
    return {"role": "user", "content": question}


class AgentsSdk:
    """An `Agent` of openai-agents. Its `run_sync` takes the thread's own loop, which has to be the one given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.shop = Shop()
        self._loop = loop
        names, self.printed = readme("from agents import", self.shop)
        self._agent, self._runner = names["agent"], names["Runner"]

    def run(self, question: str, history: list[Any], *, streamed: bool) -> Answer:
        """Run the agent to its end."""
        asked = [*history, says(question)]
        if streamed:
            result = self._loop.run_until_complete(self._streamed(asked))
        else:
            result = self._runner.run_sync(self._agent, asked)
        return Answer(result.final_output, result.to_input_list())

    async def _streamed(self, asked: list[Any]) -> Any:
        result = self._runner.run_streamed(self._agent, asked)
        async for _ in result.stream_events():
            pass
        return result


class LangChain:
    """A LangChain agent of `create_agent`, which is a graph of langgraph."""

    def __init__(self, _: asyncio.AbstractEventLoop) -> None:
        self.shop = Shop()
        names, self.printed = readme("create_agent", self.shop)
        self._agent = names["agent"]

    def run(self, question: str, history: list[Any], *, streamed: bool) -> Answer:
        """Run the agent to its end."""
        asked = {"messages": [*history, says(question)]}
        if streamed:
            parts = self._agent.stream(asked, stream_mode=["messages", "values"])
            *_, state = (state for mode, state in parts if mode == "values")
        else:
            state = self._agent.invoke(asked)
        return Answer(state["messages"][-1].content, state["messages"])
