"""Puts the dashboard together and adds it to the application that also serves the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from dispatcher.dashboard import (
    acting,
    assets,
    checking,
    delivering,
    editing,
    entrance,
    listing,
    live,
    recovering,
    showing,
)
from dispatcher.dashboard.pages import Pages
from dispatcher.dashboard.serving import Route, serve
from dispatcher.dashboard.visit import BASE, Visit

if TYPE_CHECKING:
    from dispatcher.dashboard.context import DashboardContext

_WEBHOOK: Final = BASE + "/{webhook_id:whk_[0-9a-z]+}"
_DELIVERY: Final = _WEBHOOK + "/deliveries/{delivery_id:dlv_[0-9a-z]+}"
_WRITE: Final = "write:webhooks"


async def _home(visit: Visit) -> web.Response:
    return visit.go(BASE)


async def _nowhere(visit: Visit) -> web.Response:
    return visit.not_found()


ROUTES: Final = (
    Route("GET", "/", _home, None),
    Route("GET", "/settings", _home, None),
    Route("GET", "/settings/", _home, None),
    Route("GET", "/settings/notifications", _home, None),
    Route("GET", "/settings/notifications/", _home, None),
    Route("GET", f"{BASE}/", _home, None),
    Route("GET", entrance.LOGIN, entrance.show_login, None),
    Route("POST", entrance.LOGIN, entrance.log_in, None),
    Route("POST", "/settings/logout", entrance.log_out),
    Route("POST", "/settings/preferences", entrance.prefer, None),
    Route("GET", BASE, listing.show),
    Route("POST", BASE, editing.create, _WRITE),
    Route("GET", f"{BASE}/new", editing.new, _WRITE),
    Route("GET", f"{BASE}/live", live.follow_list),
    Route("GET", _WEBHOOK, showing.show),
    Route("GET", f"{_WEBHOOK}/live", live.follow_webhook),
    Route("GET", f"{_WEBHOOK}/check", checking.show),
    Route("GET", f"{_WEBHOOK}/edit", editing.edit, _WRITE),
    Route("POST", f"{_WEBHOOK}/edit", editing.update, _WRITE),
    Route("POST", f"{_WEBHOOK}/pause", acting.pause, _WRITE),
    Route("POST", f"{_WEBHOOK}/resume", acting.resume, _WRITE),
    Route("POST", f"{_WEBHOOK}/test", acting.test, _WRITE),
    Route("GET", f"{_WEBHOOK}/rotate", acting.ask_rotate, _WRITE),
    Route("POST", f"{_WEBHOOK}/rotate", acting.rotate, _WRITE),
    Route("GET", f"{_WEBHOOK}/delete", acting.ask_delete, _WRITE),
    Route("POST", f"{_WEBHOOK}/delete", acting.delete, _WRITE),
    Route("GET", f"{_WEBHOOK}/recover", recovering.show),
    Route("POST", f"{_WEBHOOK}/recover", recovering.recover, _WRITE),
    Route("GET", f"{_WEBHOOK}/deliveries", delivering.history_page),
    Route("GET", _DELIVERY, delivering.show),
    Route("GET", f"{_DELIVERY}/payload", delivering.payload),
    Route("POST", f"{_DELIVERY}/redeliver", delivering.redeliver, _WRITE),
    Route("*", "/settings/{tail:.*}", _nowhere),
)


class Dashboard:
    """Every page, over one context."""

    def __init__(self, context: DashboardContext, streams: live.Streams | None = None) -> None:
        self._context = context
        self._streams = streams or live.Streams()

    def add_to(self, app: web.Application) -> None:
        """Serve the pages; streams to browsers end when the application does."""
        files = assets.Assets()
        pages = Pages(files)
        app[live.STREAMS] = self._streams
        app.on_shutdown.append(live.end_streams)
        app.router.add_get(f"{assets.PREFIX}/{{version}}/{{name}}", files.serve)
        for route in ROUTES:
            served = serve(route, self._context, pages)
            app.router.add_route(route.method, route.path, served)
            if route.method == "GET" and route.handler not in live.HANDLERS:
                app.router.add_route("HEAD", route.path, served)  # RFC 9110, 9.1
