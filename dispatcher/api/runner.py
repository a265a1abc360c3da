"""Runs an application, and answers what is not HTTP, or too long for it, in our words and in one log line.

aiohttp answers such a request by itself, before any middleware: as plain text, with a traceback in the log.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiohttp import http_exceptions, web

from dispatcher.api.problems import invalid_request_line
from dispatcher.core.ids import public_id

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

_log = structlog.get_logger("http")


class Runner(web.AppRunner):
    """An `AppRunner` whose connections answer in envelopes."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be read; whatever else went wrong is aiohttp's to say."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        too_long = isinstance(exc, http_exceptions.LineTooLong)
        problem = invalid_request_line(too_long=too_long)
        request_id = public_id("req", secrets.token_bytes(16))
        _log.info("not HTTP", remote=request.remote, too_long=too_long, request_id=request_id)
        error: dict[str, Any] = {
            "code": problem.code,
            "message": problem.message,
            "details": problem.details,
        }
        answer = web.Response(
            status=problem.status,
            body=msgspec.json.encode({"error": error, "meta": {"request_id": request_id}}),
            content_type="application/json",
            headers={"X-Request-Id": request_id, "Cache-Control": "no-store"},
        )
        answer.force_close()
        return answer
