"""Serves a route: authenticates, limits, reads the request, calls the handler and wraps its answer.

request ─▶ envelope (request id, every failure becomes an envelope)
           └▶ serve: key ─▶ rate limit ─▶ scope ─▶ query and body ─▶ (once) handler ─▶ {"data", "meta"}
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiohttp import web

from dispatcher.api import idempotency
from dispatcher.api.auth import authenticate
from dispatcher.api.form import Form, NoFields, read_json
from dispatcher.api.problems import (
    BODY,
    Detail,
    Problem,
    forbidden,
    internal_error,
    invalid_request,
    method_not_allowed,
    not_found,
    payload_too_large,
    rate_limit_exceeded,
    unavailable,
    unsupported_media_type,
)
from dispatcher.api.routing import Answer, Call
from dispatcher.core.errors import DatabaseUnavailable
from dispatcher.core.ids import public_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dispatcher.api.context import ApiContext
    from dispatcher.api.limits import RateLimiter
    from dispatcher.api.routing import Route
    from dispatcher.store.accounts import Key

    Served = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REQUEST_ID: Final = web.RequestKey("request_id", str)
_ALLOWANCE: Final = web.RequestKey("allowance", dict[str, str])
_log: Final = structlog.get_logger()


def serve(route: Route, context: ApiContext, limiter: RateLimiter) -> Served:
    """Make the handler that aiohttp calls."""

    async def served(request: web.Request) -> web.StreamResponse:
        answer = await _answer(route, context, limiter, request)
        if isinstance(answer, Problem):
            return _refusal(request, answer)
        return _success(request, answer)

    return served


async def _answer(
    route: Route, context: ApiContext, limiter: RateLimiter, request: web.Request
) -> Answer | Problem:
    key = await _admit(route, context, limiter, request)
    if isinstance(key, Problem):
        return key
    if any("\0" in value for value in request.match_info.values()):
        return not_found("path")  # no name holds U+0000, and PostgreSQL could not look for one
    given = await _read_body(request) if route.body else {}
    if isinstance(given, Problem):
        return given
    query, body = Form(route.query, dict(request.query), strict=False), Form(route.body or NoFields, given)
    for name in {name for name in request.query if len(request.query.getall(name)) > 1}:
        query.refuse(name, "is given more than once")
    for form, fields in ((query, route.query), (body, route.body)):
        if fields is NoFields and isinstance(unknown := form.read(), Problem):
            return unknown
    call = Call(context, key, request.match_info, query, body, request.headers.get("If-Match"))
    idempotency_key = request.headers.get(idempotency.HEADER)
    if route.method != "POST" or idempotency_key is None:
        return await route.handler(call)
    fingerprint = f"{request.path_qs}\n".encode() + await request.read()
    return await idempotency.once(call, idempotency_key, fingerprint, route.handler)


async def _admit(
    route: Route, context: ApiContext, limiter: RateLimiter, request: web.Request
) -> Key | Problem:
    """Give the key of a request that may go on."""
    key = await authenticate(context.database, request.headers.get("Authorization"))
    if isinstance(key, Problem):
        return key
    allowance = limiter.take(key.id)
    request[_ALLOWANCE] = allowance.headers(time.time())
    if allowance.exceeded:
        return rate_limit_exceeded(allowance.reset_s)
    return key if key.allows(route.scope) else forbidden(route.scope)


async def _read_body(request: web.Request) -> dict[str, Any] | Problem:
    try:
        body = await request.read()
    except web.RequestPayloadError as error:  # the client's own Content-Encoding or framing is wrong
        return invalid_request([Detail(BODY, f"cannot be read: {error}")])
    if body and not _is_json(request):
        return unsupported_media_type()
    return read_json(body)


def _is_json(request: web.Request) -> bool:
    charset = (request.charset or "utf-8").lower()
    return request.content_type == "application/json" and charset in {"utf-8", "utf8", "us-ascii"}


@web.middleware
async def envelope(request: web.Request, handler: Served) -> web.StreamResponse:
    """Name the request, and turn every failure into an envelope."""
    request_id = request[_REQUEST_ID] = public_id("req", secrets.token_bytes(16))
    try:
        response = await handler(request)
    except web.HTTPException as error:
        return _refusal(request, _translated(error, request))
    except DatabaseUnavailable as error:
        _log.warning("api.unavailable", request_id=request_id, path=request.path, error=str(error))
        return _refusal(request, unavailable())
    except Exception:  # noqa: BLE001 - a bug of ours must not take the connection down, nor go unheard
        _log.exception("api.internal_error", request_id=request_id, method=request.method, path=request.path)
        return _refusal(request, internal_error(request_id))
    response.headers["X-Request-Id"] = request_id
    return response


def _translated(error: web.HTTPException, request: web.Request) -> Problem:
    """Say in our words what aiohttp found out by itself."""
    match error:
        case web.HTTPNotFound():
            return not_found("path")
        case web.HTTPMethodNotAllowed():
            return method_not_allowed(sorted(error.allowed_methods))
        case web.HTTPRequestEntityTooLarge():
            return payload_too_large(request.client_max_size)
        case _:
            return Problem(error.status, error.reason.lower().replace(" ", "_"), f"{error.reason}.")


def _success(request: web.Request, answer: Answer) -> web.Response:
    if answer.data is None:
        return _response(request, answer.status, None, answer.headers)
    envelope: dict[str, Any] = {"data": answer.data}
    if answer.pagination is not None:
        envelope["pagination"] = answer.pagination
    envelope["meta"] = {"request_id": request[_REQUEST_ID], "timestamp": dt.datetime.now(dt.UTC)}
    return _response(request, answer.status, envelope, answer.headers)


def _refusal(request: web.Request, problem: Problem) -> web.Response:
    error = {"code": problem.code, "message": problem.message, "details": problem.details}
    envelope = {"error": error, "meta": {"request_id": request[_REQUEST_ID]}}
    return _response(request, problem.status, envelope, problem.headers)


def _response(
    request: web.Request, status: int, envelope: Mapping[str, Any] | None, headers: Mapping[str, str]
) -> web.Response:
    response = web.Response(
        status=status,
        headers={
            "X-Request-Id": request[_REQUEST_ID],
            "Cache-Control": "no-store",  # answers may hold a secret
            "X-Content-Type-Options": "nosniff",
            **request.get(_ALLOWANCE, {}),
            **headers,
        },
    )
    if envelope is not None:
        response.content_type = "application/json"
        response.body = msgspec.json.encode(envelope)
    return response
