"""A small world that was conserved, without a process: what is committed, what arrived, what is recorded.

Its parts can be changed by hand, to see whether the judge of the fault tests notices.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from typing import Any, Final, NamedTuple

from dispatcher.core.delivery import STEP, Kind, State
from dispatcher.core.ids import DeliveryIds, DeliveryKey, OutboxId, WebhookId
from tests.acceptance.conservation import History, violations
from tests.acceptance.producer import Event
from tests.acceptance.subscriber import SECRET, Seen, Subscriber, prompt
from tests.receiver import Request

MOST_ATTEMPTS: Final = 4
NOW: Final = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
WEBHOOK: Final = WebhookId(7)
_RETRY_S: Final = 10.0


class Attempt(NamedTuple):
    """What is recorded of an attempt, and what its receiver saw."""

    kind: Kind
    status: int | None = None  # recorded
    arrived: bool = True
    answered: int | None = None  # by the receiver


OK: Final = Attempt(Kind.ATTEMPTED, 200, answered=200)
REFUSED: Final = Attempt(Kind.ATTEMPTED, 500, answered=500)
UNREACHED: Final = Attempt(Kind.ATTEMPTED, arrived=False)
TIMED_OUT: Final = Attempt(Kind.ATTEMPTED)
CUT_OFF: Final = Attempt(
    Kind.INTERRUPTED, answered=200
)  # the answer, or the record of it, was lost in a crash
NEVER_LEFT: Final = Attempt(Kind.INTERRUPTED, arrived=False)

# Event by event, the clean world: its attempts in order.
STORIES: Final = (
    (OK,),
    (REFUSED, OK),
    (CUT_OFF, NEVER_LEFT, OK),
    (REFUSED, CUT_OFF, REFUSED, TIMED_OUT, REFUSED),
    (UNREACHED, OK),
)
AT_ONCE, RETRIED, INTERRUPTED, FAILED, UNREACHABLE = range(5)


class World:
    """What three parties say about the stories: the producers, the receiver and the database."""

    def __init__(self) -> None:
        self.committed: dict[int, Event] = {}
        self.ids = DeliveryIds(bytes(16))
        self.bodies: dict[DeliveryKey, bytes] = {}
        self.facts: dict[DeliveryKey, list[dict[str, Any]]] = {}
        self.subscriber = Subscriber(["event.*"], prompt)
        self.subscriber.webhook_id = WEBHOOK
        for serial, story in enumerate(STORIES):
            self.commit(serial, "event.detected")
            self.schedule(serial)
            for attempt in story:
                self.attempt(serial, attempt)
        self.commit(len(STORIES), "sensor.offline")  # nobody asked for it

    def found(self) -> list[str]:
        """Ask the judge."""
        history = History(self.ids, self.bodies, self.facts)
        return violations(history, self.committed, [self.subscriber], MOST_ATTEMPTS)

    def commit(self, serial: int, event_type: str) -> None:
        """Let the producers know of an event."""
        self.committed[serial] = Event(serial, event_type, "{}", NOW)

    def key(self, serial: int, outbox_id: int = 0) -> DeliveryKey:
        """Give the delivery of an event."""
        return DeliveryKey(NOW.date(), OutboxId(outbox_id or serial + 100), WEBHOOK)

    def schedule(self, serial: int, outbox_id: int = 0) -> None:
        """Make a delivery of an event."""
        key = self.key(serial, outbox_id)
        self.bodies[key] = json.dumps({"data": {"serial": serial}}).encode()
        self.facts[key] = []

    def attempt(self, serial: int, attempt: Attempt) -> None:
        """Make the next attempt of a delivery, by the rules."""
        key = self.key(serial)
        facts = self.facts[key]
        number = len(facts) + 1
        failures = sum(fact["kind"] == Kind.ATTEMPTED for fact in facts) + (attempt.kind == Kind.ATTEMPTED)
        state = State.PENDING if failures < MOST_ATTEMPTS else State.FAILED
        if attempt.status == 200:
            state = State.DELIVERED
        due = NOW if state == State.PENDING and attempt.kind == Kind.ATTEMPTED else None
        facts.append(
            {
                "attempt_no": number,
                "step": STEP[attempt.kind],
                "kind": attempt.kind,
                "state": state,
                "next_attempt_at": due,
                "status_code": attempt.status,
            }
        )
        if attempt.arrived:
            self.arrive(serial, number, attempt.answered)

    def arrive(self, serial: int, number: int, answered: int | None) -> None:
        """Let the receiver see an attempt."""
        body = self.bodies[self.key(serial)]
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        began_at = number * _RETRY_S
        request = Request("POST", "/hook", "HTTP/1.1", [("X-Grillo-Signature", signature)], body, 1, began_at)
        seen = Seen(request, self.delivery(serial), number, serial, "", began_at, began_at + 1, answered)
        self.subscriber.seen.append(seen)
        if answered == 200:
            self.subscriber.delivered.add(serial)

    def delivery(self, serial: int) -> str:
        """Give its public id."""
        return self.ids.encode(self.key(serial))

    def seen(self, serial: int, number: int) -> Seen:
        """Give what the receiver saw of an attempt."""
        return next(one for one in self.subscriber.seen if (one.serial, one.attempt) == (serial, number))

    def fact(self, serial: int, number: int) -> dict[str, Any]:
        """Give what is recorded of an attempt."""
        return self.facts[self.key(serial)][number - 1]
