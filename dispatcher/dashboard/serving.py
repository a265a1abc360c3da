"""Serves a page: who asks, may they, was the form ours; and every failure becomes a page of its own.

request ─▶ session ─▶ (POST: same site ─▶ form ─▶ CSRF token) ─▶ scope ─▶ handler ─▶ security headers
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

import structlog
from aiohttp import web

from dispatcher.core.errors import DatabaseUnavailable
from dispatcher.dashboard import entrance
from dispatcher.dashboard.language import chosen
from dispatcher.dashboard.visit import Visit

if TYPE_CHECKING:
    from dispatcher.core.access import Scope
    from dispatcher.dashboard.context import DashboardContext
    from dispatcher.dashboard.pages import Pages

Handler: TypeAlias = Callable[[Visit], Awaitable[web.StreamResponse]]
Served: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_log: Final = structlog.get_logger("dashboard")


@dataclass(frozen=True)
class Route:
    """One method of one path; `scope` None: no key is needed."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None = "read:webhooks"


def serve(route: Route, context: DashboardContext, pages: Pages) -> Served:
    """Make the handler that aiohttp calls."""

    async def served(request: web.Request) -> web.StreamResponse:
        language = chosen(
            request.cookies.get(entrance.LANGUAGE_COOKIE), request.headers.get("Accept-Language")
        )
        visit = Visit(request, context, pages, pages.speeches[language], {})
        try:
            response = await _answer(route, visit)
        except web.HTTPRequestEntityTooLarge:
            response = visit.page("problem.html", 413, problem="too_large")
        except DatabaseUnavailable as error:
            _log.warning("dashboard.unavailable", path=request.path, error=str(error))
            response = visit.page("problem.html", 503, problem="unavailable")
            response.headers["Retry-After"] = "5"
        except Exception:  # noqa: BLE001 - a bug of ours must not take the connection down, nor go unheard
            _log.exception("dashboard.error", method=request.method, path=request.path)
            response = visit.page("problem.html", 500, problem="error")
        if not response.prepared:
            response.headers.update(SECURITY)
            if isinstance(response, web.Response) and response.content_type == "text/html":
                response.headers["Content-Language"] = language
                response.headers["Vary"] = "Cookie, Accept-Language"
                response.enable_compression()
        return response

    return served


async def _answer(route: Route, visit: Visit) -> web.StreamResponse:
    request, context = visit.request, visit.context
    if any("\0" in value for value in (*request.match_info.values(), *request.query.values())):
        return visit.not_found()  # no name holds U+0000, and PostgreSQL could not look for one
    token = entrance.token_of(request)
    session = await entrance.current(context.database, request)
    csrf = entrance.csrf_of(token) if token and session else ""
    form: dict[str, list[str]] = {}
    if request.method == "POST":
        if not entrance.same_site(request):
            return visit.page("problem.html", 403, problem="foreign")
        form = await _form(request)
    visit = Visit(request, context, visit.pages, visit.speech, form, session, csrf)
    if route.scope is None:
        return await route.handler(visit)
    if session is None:
        back = request.path_qs if request.method == "GET" else ""
        return visit.go(f"{entrance.LOGIN}?next={quote(back, safe='')}" if back else entrance.LOGIN)
    if problem := _refusal(visit, route.scope):
        return visit.page("problem.html", 403, problem=problem)
    return await route.handler(visit)


def _refusal(visit: Visit, scope: Scope) -> str | None:
    """Say why a visitor who is logged in may not do this."""
    given = visit.field("csrf").encode()
    if visit.request.method == "POST" and not hmac.compare_digest(visit.csrf.encode(), given):
        return "stale"
    return None if visit.key.allows(scope) else "scope"


async def _form(request: web.Request) -> dict[str, list[str]]:
    """Read a form; U+0000, which PostgreSQL's text cannot hold, becomes U+FFFD, which no rule accepts."""
    if request.content_type != "application/x-www-form-urlencoded":
        return {}
    given = await request.post()
    form: dict[str, list[str]] = {}
    for name, value in given.items():
        if isinstance(value, str):
            form.setdefault(name, []).append(value.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    return form
