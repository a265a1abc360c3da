"""The way in and out: a session's cookie, log in with an API key, log out, language and theme.

A session's token is drawn when the key was right, never before and never by the visitor, so none can be fixed
beforehand. The CSRF token of its forms is derived from it and tells nothing about it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from aiohttp import web

from dispatcher.dashboard.language import LANGUAGES
from dispatcher.dashboard.visit import BASE, THEME_COOKIE, THEMES, Visit
from dispatcher.store import accounts, sessions

if TYPE_CHECKING:
    from dispatcher.store.connection import Database

LOGIN: Final = "/settings/login"
LANGUAGE_COOKIE: Final = "grillo_language"
_SESSION_COOKIE: Final = "grillo_session"
_LONGEST_KEY: Final = 200
_YEAR_S: Final = 365 * 86_400


def secure(request: web.Request) -> bool:
    """Say whether the visitor's side is https, as a proxy tells; whoever lies changes their own cookie."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"


def _cookie(request: web.Request) -> str:
    """Name the cookie; over https no other host of the domain can set it (RFC 6265bis, 4.1.3)."""
    return f"__Host-{_SESSION_COOKIE}" if secure(request) else _SESSION_COOKIE


def token_of(request: web.Request) -> str | None:
    """Give the token that a request carries."""
    return request.cookies.get(_cookie(request))


async def current(database: Database, request: web.Request) -> sessions.Session | None:
    """Give the session of a request, if it is valid now."""
    token = token_of(request)
    return await sessions.find(database, token) if token else None


def csrf_of(token: str) -> str:
    """Give the token that the forms of a session carry."""
    return hmac.new(token.encode(errors="surrogateescape"), b"csrf", hashlib.sha256).hexdigest()


def same_site(request: web.Request) -> bool:
    """Say whether a form came from a page of ours, as the browser tells (Fetch Metadata, Origin)."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.host


def local(path: str) -> str:
    """Give a path to go on with, if it is one of ours; never another host."""
    return path if path.startswith("/settings/") and "\\" not in path and path.isprintable() else BASE


async def show_login(visit: Visit) -> web.Response:
    """Ask for an API key."""
    if visit.session is not None:
        return visit.go(local(visit.query("next")))
    return visit.page("login.html", next=local(visit.query("next")), wrong=False)


async def log_in(visit: Visit) -> web.Response:
    """Open a session for a key that is valid and may read."""
    given, after = visit.field("key"), local(visit.field("next"))
    database = visit.context.database
    key = await accounts.authenticate(database, given) if 0 < len(given) <= _LONGEST_KEY else None
    if key is None or not key.allows("read:webhooks"):
        return visit.page("login.html", 401, next=after, wrong=True)
    before = token_of(visit.request)
    if before is not None:
        await sessions.close(database, before)
    token = await sessions.open_session(database, key)
    response = visit.go(after)
    response.set_cookie(
        _cookie(visit.request),
        token,
        max_age=sessions.LONGEST_S,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=secure(visit.request),
    )
    return response


async def log_out(visit: Visit) -> web.Response:
    """End the session."""
    token = token_of(visit.request)
    if token is not None:
        await sessions.close(visit.context.database, token)
    response = visit.go(LOGIN)
    response.del_cookie(
        _cookie(visit.request), path="/", httponly=True, samesite="Lax", secure=secure(visit.request)
    )
    return response


async def prefer(visit: Visit) -> web.Response:
    """Remember a language or a theme, in the browser."""
    response = visit.go(local(visit.field("next")) if visit.session else LOGIN)
    choices = ((LANGUAGE_COOKIE, "language", tuple(LANGUAGES)), (THEME_COOKIE, "theme", THEMES))
    for cookie, name, allowed in choices:
        value = visit.field(name)
        if value in allowed:
            response.set_cookie(
                cookie,
                value,
                max_age=_YEAR_S,
                path="/",
                httponly=True,
                samesite="Lax",
                secure=secure(visit.request),
            )
    return response
