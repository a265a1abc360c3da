"""What needs no key: the OpenAPI document, for programs and as a page for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from dispatcher.api import openapi, reading
from dispatcher.store import event_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dispatcher.api.context import ApiContext
    from dispatcher.api.routing import Route

PAGE: Final = "/docs"


class Public:
    """The two documents; written anew when the event types change."""

    def __init__(self, routes: Sequence[Route], context: ApiContext) -> None:
        self._routes = routes
        self._database = context.database
        self._types: list[event_types.EventType] = []
        self._document: dict[str, Any] = {}

    def add_to(self, app: web.Application) -> None:
        """Serve both."""
        app.router.add_get(openapi.PATH, self._json)
        app.router.add_get(PAGE, self._html)

    async def _read(self) -> dict[str, Any]:
        types = await event_types.all_of_them(self._database)
        if types != self._types or not self._document:
            self._document, self._types = openapi.document(self._routes, types), types
        return self._document

    async def _json(self, _: web.Request) -> web.Response:
        return web.Response(
            body=msgspec.json.encode(await self._read()),
            content_type="application/json",
            headers={"X-Content-Type-Options": "nosniff"},
        )

    async def _html(self, _: web.Request) -> web.Response:
        return web.Response(
            text=reading.page(await self._read()), content_type="text/html", headers=reading.HEADERS
        )
