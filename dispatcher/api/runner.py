"""Runs an application, and answers what is not HTTP, or too long for it, in our words and in one log line.

aiohttp answers such a request by itself, before any middleware: as plain text, with a traceback in the log.
Every answer names the program, not the versions of what it is made of.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiohttp import http_exceptions, web

from dispatcher.api.problems import invalid_request_line
from dispatcher.core.ids import public_id

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

_SERVER: Final = "grillo-dispatcher"

_log = structlog.get_logger("http")


class Runner(web.AppRunner):
    """An `AppRunner` whose connections answer in envelopes."""

    __slots__ = ()

    async def setup(self) -> None:
        """Prepare everything but the sockets."""
        self.app.on_response_prepare.append(_name_program)
        await super().setup()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


async def _name_program(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _SERVER


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
            headers={"X-Request-Id": request_id, "Cache-Control": "no-store", "Server": _SERVER},
        )
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what was not expected; the rest of a body that its sender encoded wrongly is no such thing."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            _log.info("unreadable body", error=str(kw["exc_info"]))
        else:
            super().log_exception(*args, **kw)
