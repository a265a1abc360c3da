"""Tells open pages that something has happened, by server-sent events; the page then fetches itself again.

How this works: while a page is open its stream looks at a pulse, a text that changes with the webhook, its
deliveries, attempts and recoveries, once a second, by a few probes of indexes. Only the change is told, never
the content, so a page has one template whether it is loaded or refreshed. How many streams there are is
bounded; a page that gets none stays as it was loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from dispatcher.core.errors import DatabaseUnavailable
from dispatcher.dashboard import entrance, finding
from dispatcher.store import pulse

if TYPE_CHECKING:
    from dispatcher.dashboard.visit import Visit

_EVERY_S: Final = 1.0
_LIST_EVERY_S: Final = 2.0


class Streams:
    """The streams that are open, by API key, and whether they are to end.

    `recheck`: looks after which a stream asks whether its session still is, and shows that it lives.
    """

    def __init__(self, *, most: int = 200, most_of_key: int = 20, recheck: int = 15) -> None:
        self.ending: Final = asyncio.Event()
        self.recheck: Final = recheck
        self._most: Final = most
        self._most_of_key: Final = most_of_key
        self._open: dict[int, int] = {}

    @property
    def open(self) -> int:
        """How many there are."""
        return sum(self._open.values())

    def enter(self, key_id: int) -> bool:
        """Take a place; false where there is none."""
        if self.ending.is_set() or self.open >= self._most:
            return False
        if self._open.get(key_id, 0) >= self._most_of_key:
            return False
        self._open[key_id] = self._open.get(key_id, 0) + 1
        return True

    def leave(self, key_id: int) -> None:
        """Give the place back."""
        self._open[key_id] -= 1
        if not self._open[key_id]:
            del self._open[key_id]


STREAMS: Final = web.AppKey("streams", Streams)


async def end_streams(app: web.Application) -> None:
    """End every stream, so that the listener can close."""
    app[STREAMS].ending.set()


async def follow_list(visit: Visit) -> web.StreamResponse:
    """Follow the organization's webhooks."""
    organization_id = visit.key.organization_id

    async def look() -> str:
        return await pulse.of_organization(visit.context.database, organization_id)

    return await _follow(visit, look, _LIST_EVERY_S)


async def follow_webhook(visit: Visit) -> web.StreamResponse:
    """Follow one webhook, or one of its deliveries."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    database = visit.context.database
    key = visit.context.ids.decode(visit.query("delivery")) if visit.query("delivery") else None
    if key is not None and key.webhook_id != webhook.id:
        return visit.not_found()

    async def look() -> str:
        if key is not None:
            return await pulse.of_delivery(database, key)
        return await pulse.of_webhook(database, webhook.id)

    return await _follow(visit, look, _EVERY_S)


HANDLERS: Final = frozenset({follow_list, follow_webhook})


async def _follow(visit: Visit, look: Callable[[], Awaitable[str]], every_s: float) -> web.StreamResponse:
    request, streams, key_id = visit.request, visit.request.app[STREAMS], visit.key.id
    if not streams.enter(key_id):
        return web.Response(status=204)  # tells the browser not to ask again
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Content-Type-Options": "nosniff",
        }
    )
    try:
        await response.prepare(request)
        last, looks = await look(), 0
        await response.write(f"retry: 5000\n\nevent: ready\ndata: {last}\n\n".encode())
        while not await _pause(streams.ending, every_s):
            if request.transport is None or request.transport.is_closing():
                break  # the browser left, and nothing is written that would tell
            looks += 1
            now = await look()
            if now != last:
                last = now
                await response.write(f"event: changed\ndata: {now}\n\n".encode())
            if looks % streams.recheck == 0:
                if await entrance.current(visit.context.database, request) is None:
                    break
                await response.write(b": still here\n\n")
    except (ConnectionResetError, DatabaseUnavailable):
        pass  # the browser left, or will come back by itself once the database does
    finally:
        streams.leave(key_id)
    return response


async def _pause(ending: asyncio.Event, for_s: float) -> bool:
    """Wait; true where everything ends."""
    try:
        async with asyncio.timeout(for_s):
            await ending.wait()
    except TimeoutError:
        return False
    return True
