"""Traces: a span for each event that was fanned out, and one for each attempt, inside the event's trace.

This is all that the loops know of tracing; `telemetry/otlp.py` takes the spans to a collector. Where tracing
is off, there is no `Traces`. A span holds nothing that the log does not say too: of a URL, which may hold a
token, only scheme, host and port.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import structlog

from dispatcher.core.ids import DeliveryKey, OutboxId
from dispatcher.core.outcome import Answered, Outcome, error_class
from dispatcher.core.pending import Lane, Pending
from dispatcher.core.trace import EventTrace, Span, TraceIds

HEADER: Final = "traceparent"
_LANE_NAMES: Final = tuple(lane.name.lower() for lane in Lane)

log = structlog.get_logger("traces")


class FinishedSpan(NamedTuple):
    """One piece of work that is over."""

    name: str
    span: Span
    parent: Span | None
    client: bool  # a request to others
    started_at: dt.datetime
    ended_at: dt.datetime
    attributes: Mapping[str, str | int | float | bool]
    failed: bool


class Exporter(Protocol):
    """Takes spans away without blocking; may lose them."""

    def export(self, finished: FinishedSpan) -> None:
        """Take a span that is sampled."""


class Event(NamedTuple):
    """An event that was fanned out."""

    day: dt.date
    outbox_id: OutboxId
    type: str
    recorded_at: dt.datetime
    traceparent: str | None  # of the producer's span


class Receiver(NamedTuple):
    """Whom an attempt was made to."""

    delivery_id: str
    webhook_id: str  # the public one
    url: str


class Traces:
    """Makes the spans of a process."""

    def __init__(self, ids: TraceIds, exporter: Exporter, *, propagate: bool) -> None:
        self._ids = ids
        self._exporter = exporter
        self._propagate = propagate

    def headers(self, pending: Pending, others: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Give what an attempt's request carries beside `others`: a webhook's own `traceparent` stays."""
        if not self._propagate or any(name.lower() == HEADER for name, _ in others):
            return ()
        return ((HEADER, self._attempt(pending)[0].traceparent),)

    def fanned_out(self, event: Event, lane: Lane, deliveries: int, ended_at: dt.datetime) -> None:
        """Report an event, from its INSERT until its deliveries were durable."""
        with _spared():
            trace = self._ids.event(event.day, event.outbox_id, event.traceparent)
            if not trace.span.sampled:
                return
            self._exporter.export(
                FinishedSpan(
                    name=f"fan-out {event.type}",
                    span=trace.span,
                    parent=trace.parent,
                    client=False,
                    started_at=event.recorded_at,
                    ended_at=ended_at,
                    attributes={
                        "grillo.event.type": event.type,
                        "grillo.outbox_id": event.outbox_id,
                        "grillo.lane": _LANE_NAMES[lane],
                        "grillo.deliveries": deliveries,
                    },
                    failed=False,
                )
            )

    def attempted(
        self,
        pending: Pending,
        receiver: Receiver,
        started_at: dt.datetime,
        duration_s: float,
        outcome: Outcome,
    ) -> None:
        """Report an attempt and what came of it."""
        with _spared():
            span, event = self._attempt(pending)
            if not span.sampled:
                return
            self._exporter.export(
                FinishedSpan(
                    name=f"attempt {pending.payload.type}",
                    span=span,
                    parent=event.span,
                    client=True,
                    started_at=started_at,
                    ended_at=started_at + dt.timedelta(seconds=duration_s),
                    attributes=_of_attempt(pending, receiver, outcome),
                    failed=error_class(outcome) is not None,
                )
            )

    def _attempt(self, pending: Pending) -> tuple[Span, EventTrace]:
        key: DeliveryKey = pending.key
        event = self._ids.event(key.day, key.outbox_id, pending.payload.traceparent)
        return self._ids.attempt(event.span, key, pending.attempt_no), event


@contextmanager
def _spared() -> Iterator[None]:
    """Spare the caller what goes wrong: an attempt that was made must be recorded, not made again."""
    try:
        yield
    except Exception:
        log.exception("a span was lost")


def _of_attempt(
    pending: Pending, receiver: Receiver, outcome: Outcome
) -> dict[str, str | int | float | bool]:
    """Give an attempt's attributes: OpenTelemetry's names for HTTP clients, and our own."""
    url = urlsplit(receiver.url)
    error = error_class(outcome)
    found: dict[str, str | int | float | bool | None] = {
        "http.request.method": "POST",
        "http.request.resend_count": pending.attempt_no - 1,
        "http.response.status_code": outcome.status if isinstance(outcome, Answered) else None,
        "error.type": error,
        "url.scheme": url.scheme,
        "server.address": url.hostname,
        "server.port": url.port or (443 if url.scheme == "https" else 80),
        "network.peer.address": outcome.address,
        "grillo.event.type": pending.payload.type,
        "grillo.outbox_id": pending.key.outbox_id,
        "grillo.delivery_id": receiver.delivery_id,
        "grillo.webhook_id": receiver.webhook_id,
        "grillo.attempt": pending.attempt_no,
        "grillo.trigger": pending.trigger,
        "grillo.lane": _LANE_NAMES[pending.lane],
        "grillo.test": pending.payload.test,
        "grillo.dns_ms": outcome.timings.dns_ms,
        "grillo.connect_ms": outcome.timings.connect_ms,
        "grillo.tls_ms": outcome.timings.tls_ms,
        "grillo.first_byte_ms": outcome.timings.first_byte_ms,
    }
    return {name: value for name, value in found.items() if value is not None}
