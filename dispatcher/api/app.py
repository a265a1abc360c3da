"""Puts the management API together: every route, behind one middleware."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from dispatcher.api import deliveries, event_types, events, recoveries, webhooks
from dispatcher.api.limits import RateLimiter
from dispatcher.api.public import Public
from dispatcher.api.serving import envelope, serve

if TYPE_CHECKING:
    from dispatcher.api.context import ApiContext
    from dispatcher.api.routing import Route

ROUTES: Final[tuple[Route, ...]] = (
    *webhooks.ROUTES,
    *deliveries.ROUTES,
    *recoveries.ROUTES,
    *events.ROUTES,
    *event_types.ROUTES,
)


def create_app(context: ApiContext) -> web.Application:
    """Make the application that answers under `/v1`."""
    api = context.config.api
    app = web.Application(middlewares=[envelope], client_max_size=api.max_body_bytes)
    limiter = RateLimiter(api.rate_limit_per_minute, time.monotonic)
    for route in ROUTES:
        served = serve(route, context, limiter)
        app.router.add_route(route.method, route.path, served)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, served)  # RFC 9110, 9.1
    Public(ROUTES, context).add_to(app)
    return app
