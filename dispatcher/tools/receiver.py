"""A receiver of webhooks on this machine: hands every request on, examined, and answers as it is told."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from dispatcher.core.errors import OperatorError
from dispatcher.tools.receipt import Receipt, examine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

_MAX_BODY_BYTES: Final = 16 * 1024 * 1024
_GOODBYE_S: Final = 0.5  # for requests that are open when the receiver ends


class Reply(msgspec.Struct, frozen=True):
    """What to answer: a status after `delay_s` seconds or, with None, nothing as long as the sender waits."""

    status: int | None = 200
    delay_s: float = 0.0


class Endpoint(msgspec.Struct, frozen=True):
    """What a path is for: who may have signed for it, and what it answers."""

    secrets: Sequence[str]
    reply: Callable[[Receipt], Reply]


@asynccontextmanager
async def receiving(
    *,
    host: str,
    port: int,
    find: Callable[[str], Endpoint | None],
    on_request: Callable[[Receipt, Reply], None],
) -> AsyncIterator[str]:
    """Serve inside the block and yield the base URL; port 0 takes a free one.

    `find` gives the endpoint of a path (404 for None). `on_request` is called when a request has been read
    whole, before it is answered. Raises `OperatorError` where the address cannot be listened on.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        arrived_at = dt.datetime.now(dt.UTC)
        endpoint = find(request.path)
        if endpoint is None:
            return web.Response(status=404, text="nothing listens on this path\n")
        receipt = examine(
            method=request.method,
            path=request.path_qs,
            headers=tuple(request.headers.items()),
            body=body,
            secrets=endpoint.secrets,
            arrived_at=arrived_at,
        )
        reply = endpoint.reply(receipt)
        on_request(receipt, reply)
        await asyncio.sleep(reply.delay_s)
        if reply.status is None:
            await asyncio.Event().wait()  # until the sender gives up, which cancels this handler
        return web.Response(status=reply.status or 200)

    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GOODBYE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            raise OperatorError(f"cannot listen on {host}:{port}: {error}") from error
        bound_host, bound_port = runner.addresses[0][:2]
        yield (
            f"http://[{bound_host}]:{bound_port}"
            if ":" in bound_host
            else f"http://{bound_host}:{bound_port}"
        )
    finally:
        await runner.cleanup()
