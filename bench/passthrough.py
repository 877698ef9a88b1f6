"""Owns the bench's yardstick: the plainest proxy that aiohttp's server and client make, without any governance.

`python bench/passthrough.py PORT PROVIDER_PORT` relays chat completions until it is killed. What it costs on this
machine in this run says what Handrail's figures are worth: it does nothing of what Handrail does, not even read JSON.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

PASSED = ("content-type", "x-request-id")


async def main(port: int, provider: int) -> None:
    """Serve until killed."""
    url = f"http://127.0.0.1:{provider}/v1/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def relay(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as reply:
                headers = {name: reply.headers[name] for name in PASSED if name in reply.headers}
                if b'"stream":true' not in body:
                    return web.Response(status=reply.status, headers=headers, body=await reply.read())
                response = web.StreamResponse(status=reply.status, headers=headers)
                await response.prepare(request)
                async for data in reply.content.iter_any():
                    await response.write(data)
                return response

        runner = web.ServerRunner(web.Server(relay))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
