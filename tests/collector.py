"""An OTLP/HTTP collector on a socket: takes what a real exporter sends, decoded by OpenTelemetry's schema."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Collected(NamedTuple):
    """One span as it arrived; ids in hexadecimal, as in a `traceparent`."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str  # empty: none
    kind: int
    status: int
    started_ns: int
    ended_ns: int
    attributes: dict[str, Any]

    @property
    def attempt(self) -> int | None:
        """The number of the attempt; None for an event's span."""
        number: int | None = self.attributes.get("grillo.attempt")
        return number


class Collector:
    """Everything that arrived so far."""

    def __init__(self) -> None:
        self.spans: list[Collected] = []
        self.resource: dict[str, Any] = {}
        self.text = ""  # of all of it, to look for what must not be there
        self.endpoint = ""

    async def take(self, request: web.Request) -> web.Response:
        """Answer POST /v1/traces."""
        batch = ExportTraceServiceRequest.FromString(await request.read())
        self.text += str(batch)
        for resource in batch.resource_spans:
            self.resource = _values(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_collected(span) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def has(self, count: int) -> list[Collected]:
        """Wait until so many spans have come, and give all."""
        await wait_for(lambda: len(self.spans) >= count, f"{count} spans came", 30)
        return self.spans


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def _collected(span: Any) -> Collected:
    return Collected(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.status.code,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
    )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Listen on a free port for the block."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
        yield collector
    finally:
        await runner.cleanup()
