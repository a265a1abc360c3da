"""What waits to be sent: an attempt to be made, the bytes of its event, and its lane."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any, Final

import msgspec

from dispatcher.core.delivery import State, Trigger
from dispatcher.core.ids import DeliveryKey


class Lane(enum.IntEnum):
    """In the order in which they go."""

    ALERT = 0
    EVENT = 1
    ROUTINE = 2
    RETRY = 3
    RECOVERY = 4


TAILED: Final = (Lane.ALERT, Lane.EVENT, Lane.ROUTINE)


class _Subject(msgspec.Struct):
    event_id: Any = None
    sensor_id: Any = None


class _About(msgspec.Struct):
    data: _Subject


_ABOUT: Final = msgspec.json.Decoder(_About)


class Payload:
    """The bytes of one event, shared by all its deliveries in memory."""

    __slots__ = ("body", "occurred_at", "recorded_at", "subject", "test", "traceparent", "type")

    def __init__(
        self,
        event_type: str,
        body: bytes,
        recorded_at: dt.datetime,
        traceparent: str | None = None,  # of the producer's span
        *,
        test: bool,
    ) -> None:
        self.type = event_type
        self.traceparent = traceparent
        self.body = body
        self.recorded_at = recorded_at
        self.test = test
        self.subject = _subject_of(body)  # the earthquake or sensor that it is about
        # As the envelope has it (core/body.py): {"type":"…","timestamp":"…",
        self.occurred_at = body[:200].partition(b'"timestamp":"')[2].partition(b'"')[0].decode()


def _subject_of(body: bytes) -> str | None:
    try:
        about = _ABOUT.decode(body).data
    except msgspec.DecodeError:
        return None  # halves of surrogate pairs, which msgspec does not read, or nothing of the kind
    # An empty name names nothing: what have one would all be about the same.
    if about.event_id and isinstance(about.event_id, str):
        return f"event {about.event_id}"
    return f"sensor {about.sensor_id}" if about.sensor_id and isinstance(about.sensor_id, str) else None


class Pending:
    """One attempt that is to be made."""

    __slots__ = (
        *(
            "asked",
            "attempt_no",
            "batch",
            "due_at",
            "failures",
            "in_flight",
            "key",
            "lane",
            "payload",
            "state",
        ),
        "public_id",
        "trigger",
    )

    def __init__(
        self,
        key: DeliveryKey,
        lane: Lane,
        payload: Payload,
        *,
        attempt_no: int = 1,
        trigger: Trigger = Trigger.FIRST,
        state: State = State.PENDING,
        failures: int = 0,
        batch: int | None = None,
    ) -> None:
        self.key = key
        self.lane = lane
        self.payload = payload
        self.attempt_no = attempt_no
        self.trigger = trigger
        self.state = state
        self.failures = failures
        self.in_flight = False
        self.public_id: str | None = None  # where it was made ahead, with many others
        self.due_at = payload.recorded_at  # a retry has one of its own
        self.asked = False  # for by somebody, be it as a retry
        self.batch = batch  # of the fan-out that brought it here; None when it was read back

    @property
    def told_trigger(self) -> Trigger:
        """Why the attempt is made, as the history tells it."""
        return Trigger.TEST if self.payload.test else self.trigger
