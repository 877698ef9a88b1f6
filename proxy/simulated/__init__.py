"""Owns the simulated model: an OpenAI-compatible server on loopback, for demos and tests on any machine.

It is a provider like any other, reached over HTTP, and every reply has `x-handrail-simulated: true`. It speaks
`POST /v1/chat/completions` (streamed or not, `n`, tools, JSON mode, `stream_options.include_usage`) and
`GET /v1/models`. The same request gets the same bytes, whenever and wherever it is sent.

What it says: it answers as a small support agent. It calls an offered tool whose name fits what the customer wants
(`lookup_order`, `issue_refund`, `cancel_order`, `search_faq` or their like) with arguments taken from the words
(order `A1001` or `#1001`, amount `$12.50`), tells what a tool found, and answers everyday questions itself.

What else it can do: `metadata.simulate` of a request is a JSON text of `Directives`, e.g.

    {"simulate": "{\"delay_ms\": 200, \"error\": 429, \"headers\": {\"retry-after\": \"2\"}}"}
    {"simulate": "{\"tools\": [{\"name\": \"issue_refund\", \"arguments\": {\"amount\": 900}}]}"}
    {"simulate": "{\"text\": \"Hello\", \"cut_after\": 3}"}

and `serve(script=…)` has the same for the first calls in order. `serve(bill=…)` is told of every call what a provider
would charge for it.
"""

from proxy.simulated.directives import Directives, ToolDirective
from proxy.simulated.provider import Billed, serve

__all__ = ["Billed", "Directives", "ToolDirective", "serve"]
