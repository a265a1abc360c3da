"""Takes spans to a collector by OTLP over HTTP; the only module that knows the OpenTelemetry packages.

They are an extra (`grillo-dispatcher[otel]`): `telemetry/tracing.py` imports this module where tracing is on.

How this works. The SDK gathers spans and sends them from a thread of its own. Its queue is bounded, and what
finds no room, or no collector, is lost: a trace is worth no alert. What it has to complain of joins our log.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from dispatcher import __version__
from dispatcher.core.trace import Span
from dispatcher.telemetry.traces import FinishedSpan

_SERVICE: Final = "grillo-dispatcher"
_TIMEOUT_S: Final = 5.0
_QUEUED_SPANS: Final = 8192
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FAILED: Final = Status(StatusCode.ERROR)


class _GivenIds(IdGenerator):
    """Hands out the ids of the span that is being made."""

    def __init__(self) -> None:
        self.span = Span(1, 1, sampled=True)

    def generate_trace_id(self) -> int:
        """Give the trace's id; asked for only where the span has no parent."""
        return self.span.trace_id

    def generate_span_id(self) -> int:
        """Give the span's id."""
        return self.span.span_id


class OtlpExporter:
    """Sends spans to one endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # only spans that are sampled come here
            resource=Resource.create({"service.name": _SERVICE, "service.version": __version__}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S),
                max_queue_size=_QUEUED_SPANS,
                schedule_delay_millis=1000,
                max_export_batch_size=512,
            )
        )
        self._tracer = self._provider.get_tracer(_SERVICE, __version__)

    def export(self, finished: FinishedSpan) -> None:
        """Put a span into the queue."""
        self._ids.span = finished.span
        parent = finished.parent
        made = self._tracer.start_span(
            finished.name,
            context=set_span_in_context(NonRecordingSpan(_context_of(parent))) if parent else None,
            kind=SpanKind.CLIENT if finished.client else SpanKind.CONSUMER,
            attributes=finished.attributes,
            start_time=_nanoseconds(finished.started_at),
        )
        if finished.failed:
            made.set_status(_FAILED)
        made.end(_nanoseconds(max(finished.started_at, finished.ended_at)))

    async def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        thread = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, _TIMEOUT_S)


def _context_of(span: Span) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if span.sampled else TraceFlags.DEFAULT)
    return SpanContext(span.trace_id, span.span_id, is_remote=True, trace_flags=flags)


def _nanoseconds(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000
