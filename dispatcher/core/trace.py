"""The trace of an event (W3C Trace Context, level 1): the producer's, continued, or one that begins here.

    producer's span ──▶ event ──▶ attempt 1
      (traceparent)         ├───▶ attempt 2, after a crash or by another process
                            └───▶ …

How this works. Ids are derived, not drawn: of the event's place in the outbox, the delivery and the attempt's
number, under the installation's key. So nothing is stored but what the producer wrote, every attempt finds
the event's trace again whatever happened in between, and ids tell nobody how many events there were.
"""

from __future__ import annotations

import datetime as dt
import re
from hashlib import blake2b
from typing import Final, NamedTuple

from dispatcher.core.ids import DeliveryKey, OutboxId

_TRACEPARENT: Final = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-[!-~]{1,200})?"
)
_RATIO_BITS: Final = (1 << 64) - 1  # of the trace id, as OpenTelemetry's TraceIdRatioBased reads it


class Span(NamedTuple):
    """What others need to know of a span to continue its trace."""

    trace_id: int  # 128 bits
    span_id: int  # 64 bits
    sampled: bool

    @property
    def traceparent(self) -> str:
        """Give the header's value, in version 00."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


class EventTrace(NamedTuple):
    """Where an event stands in its trace."""

    span: Span
    parent: Span | None  # the producer's


def read_traceparent(value: str) -> Span | None:
    """Read what the outbox accepts, of later versions what version 00 knows; None for anything else."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    trace_id, span_id, flags = (int(field, 16) for field in found.groups())
    return Span(trace_id, span_id, sampled=bool(flags & 1))


class TraceIds:
    """Derives ids under the installation's key; of traces that begin here, a part is sampled."""

    def __init__(self, key: bytes, sample_ratio: float) -> None:
        self._key = key
        self._sampled_below = round(sample_ratio * (_RATIO_BITS + 1))

    def event(self, day: dt.date, outbox_id: OutboxId, traceparent: str | None) -> EventTrace:
        """Give an event's trace. Whether a producer's is sampled was decided by the producer."""
        digest = self._digest(b"event", day.toordinal(), outbox_id)
        span_id = int.from_bytes(digest[16:24]) or 1
        parent = None if traceparent is None else read_traceparent(traceparent)
        if parent is not None:
            return EventTrace(Span(parent.trace_id, span_id, parent.sampled), parent)
        trace_id = int.from_bytes(digest[:16]) or 1
        sampled = trace_id & _RATIO_BITS < self._sampled_below
        return EventTrace(Span(trace_id, span_id, sampled), None)

    def attempt(self, event: Span, key: DeliveryKey, attempt_no: int) -> Span:
        """Give the span of an attempt; an attempt's number is never given twice."""
        digest = self._digest(b"attempt", key.day.toordinal(), key.outbox_id, key.webhook_id, attempt_no)
        return Span(event.trace_id, int.from_bytes(digest[:8]) or 1, event.sampled)

    def _digest(self, what: bytes, *numbers: int) -> bytes:
        content = b"".join([number.to_bytes(8) for number in numbers])
        return blake2b(content, digest_size=24, key=self._key, person=what).digest()
