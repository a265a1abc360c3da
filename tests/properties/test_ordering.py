"""The order's invariants, whatever is pushed and settled in whatever order."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.ordering import Order, Ordering
from dispatcher.core.pending import Lane, Payload, Pending

START = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
SUBJECTS = [Payload("x.y", b'{"data":{"event_id":"%d"}}' % number, START, test=False) for number in range(3)]


class OrderMachine(RuleBasedStateMachine):
    """Does at random what the loops do, with a clock that only goes on."""

    @initialize(ordering=st.sampled_from(["subject", "strict", "none"]))
    def start(self, ordering: Ordering) -> None:
        """Begin with empty lines."""
        self.ordering = ordering
        self.now = START
        self.number = 0
        self.out: list[Pending] = []
        self.waits: dict[Pending, tuple[dt.datetime, dt.datetime]] = {}  # retries: due, and no longer than
        self.pushed: list[Pending] = []
        self.order = Order(self._queued, lambda _: self.ordering)

    def _queued(self, pending: Pending) -> None:
        assert pending in self.pushed, "let go once"
        self.pushed.remove(pending)
        if self.ordering != "none":
            same = [one for one in [*self.out, *self.waits] if one.payload is pending.payload]
            assert all(one.key.outbox_id >= pending.key.outbox_id for one in same), "nothing earlier is out"
        self.out.append(pending)

    @rule(subject=st.sampled_from(SUBJECTS))
    def push(self, subject: Payload) -> None:
        """Push a new event."""
        self.number += 1
        key = DeliveryKey(START.date(), OutboxId(self.number), WebhookId(1))
        self._push(Pending(key, Lane.EVENT, subject))

    def _push(self, pending: Pending) -> None:
        self.pushed.append(pending)
        self.order.push(pending)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 50), retry_s=st.none() | st.integers(0, 20))
    def settle(self, which: int, retry_s: int | None) -> None:
        """End an attempt: for good, or with a retry."""
        pending = self.out.pop(which % len(self.out))
        due_at = None if retry_s is None else self.now + dt.timedelta(seconds=retry_s)
        if due_at is not None:
            patient = self.ordering == "strict" or (self.ordering == "subject" and (retry_s or 0) <= 5)
            longest = dt.timedelta(days=9999) if self.ordering == "strict" else dt.timedelta(seconds=5)
            if patient:
                self.waits[pending] = (due_at, due_at + longest)
        self.order.settled(pending, due_at, self.now)

    @precondition(lambda self: self.waits)
    @rule(which=st.integers(0, 50))
    def retry(self, which: int) -> None:
        """Bring back a retry that is due."""
        pending = list(self.waits)[which % len(self.waits)]
        self.now = max(self.now, self.waits.pop(pending)[0])
        self._expire()
        self._push(pending)

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        """Time goes by."""
        self.now += dt.timedelta(seconds=seconds)
        self._expire()

    def _expire(self) -> None:
        self.waits = {one: times for one, times in self.waits.items() if times[1] > self.now}
        self.order.expire(self.now)

    @invariant()
    def who_waits_has_a_reason(self) -> None:
        """Somebody earlier of the same subject is out, or waited for; and none is forgotten."""
        if not hasattr(self, "order"):
            return
        assert len(self.pushed) == self.order.waiting
        out: dict[Payload, list[int]] = defaultdict(list)
        for one in [*self.out, *self.waits]:
            out[one.payload].append(one.key.outbox_id)
        for pending in self.pushed:
            assert self.ordering != "none"
            earlier = [
                *out[pending.payload],
                *(
                    one.key.outbox_id
                    for one in self.pushed
                    if one.payload is pending.payload and one is not pending
                ),
            ]
            assert any(number < pending.key.outbox_id for number in earlier)
            assert out[pending.payload]


TestOrder = OrderMachine.TestCase
