"""Lets what is about the same earthquake or sensor leave in order, webhook by webhook.

How this works. Between the room that a delivery was given and its lane stands a *line* for each webhook and
subject. A delivery is *out* while it is queued, under way or unrecorded, and for as long as its retry is due
soon; a later one of the same line waits until nothing earlier is out. What arrives with a smaller id than
those that are out was overtaken already, and goes at once. Nothing here holds up another subject.

    subject  (the default) a later one waits while an earlier one is out, or due within `PATIENCE`; then it
             overtakes, rather than wait out a retry of half an hour
    strict   it waits until the earlier one has been delivered, has failed for good or was cancelled
    none     nothing waits

Tests, and what was asked for again by hand, stand in no line; recoveries stand in lines of their own,
and wait there as `subject` says. No loop, no clock: pure bookkeeping.
"""

from __future__ import annotations

import datetime as dt
import heapq
from bisect import insort
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from dispatcher.core.delivery import Trigger
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane, Pending

Ordering: TypeAlias = Literal["subject", "strict", "none"]

PATIENCE: Final = dt.timedelta(seconds=5)
_LATE: Final = dt.timedelta(seconds=5)  # a retry that was due and did not come by then is overtaken
_NEVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)

_Key: TypeAlias = tuple[WebhookId, str, bool]  # webhook, subject, whether it is recovered


class _Line:
    __slots__ = ("out", "waiting")

    def __init__(self) -> None:
        self.out: dict[
            OutboxId, dt.datetime | None
        ] = {}  # until when its retry is waited for; None: it is here
        self.waiting: list[Pending] = []

    def may_go(self, outbox_id: OutboxId) -> bool:
        """Say whether nothing earlier is out."""
        return not self.out or outbox_id <= min(self.out)


class Order:
    """The lines of everything that is held in memory."""

    def __init__(self, push: Callable[[Pending], None], ordering: Callable[[WebhookId], Ordering]) -> None:
        """Make it: `push` queues a delivery, `ordering` says what its webhook wants."""
        self._queue = push
        self._ordering = ordering
        # One that is alone in its line, as nearly all are, stands for the line: that costs a microsecond.
        self._lines: dict[_Key, _Line | Pending] = {}
        self._waiting: Counter[WebhookId] = Counter()
        self._expiries: list[tuple[dt.datetime, OutboxId, _Key]] = []
        # Whose retries were ever waited for without an end: their order may be another by now.
        self._endless: set[WebhookId] = set()

    def push(self, pending: Pending) -> None:
        """Queue what was admitted, or let it wait for its turn."""
        key = _key(pending)
        if key is None or self._ordering(pending.key.webhook_id) == "none":
            self._queue(pending)
            return
        if self._lines.setdefault(key, pending) is pending:
            self._queue(pending)
            return
        line = self._line(key)
        if line.may_go(pending.key.outbox_id):
            line.out[pending.key.outbox_id] = None
            self._queue(pending)
        else:
            insort(line.waiting, pending, key=_place)
            self._waiting[pending.key.webhook_id] += 1

    def settled(
        self, pending: Pending, due_at: dt.datetime | None, now: dt.datetime, *, postponed: bool = False
    ) -> bool:
        """Note that a delivery's fact is durable, and when it is due again; true where others go now.

        `postponed`: others wait until then, however long that is.
        """
        if due_at is None:
            return self.over(pending)
        key = _key(pending)
        if key is None:
            return False
        found = self._lines.get(key)
        outbox_id = pending.key.outbox_id
        if found is None or (found is not pending and outbox_id not in self._line(key).out):
            return False
        line = self._line(key)
        if self._ordering(pending.key.webhook_id) == "strict" and pending.lane is not Lane.RECOVERY:
            line.out[outbox_id] = _NEVER
            self._endless.add(pending.key.webhook_id)
        elif postponed or due_at - now <= PATIENCE:
            expires_at = max(due_at, now) + _LATE
            line.out[outbox_id] = expires_at
            heapq.heappush(self._expiries, (expires_at, outbox_id, key))
        else:
            del line.out[outbox_id]
        return self._release(key, line)

    def over(self, pending: Pending) -> bool:
        """Note that the fact is durable after which a delivery is not due again; true where others go now."""
        key = _key(pending)
        line = None if key is None else self._lines.get(key)
        if key is None or line is None:
            return False
        if line is pending:
            del self._lines[key]
            return False
        if not isinstance(line, _Line) or pending.key.outbox_id not in line.out:
            return False
        del line.out[pending.key.outbox_id]
        return self._release(key, line)

    def newest_behind(self, pending: Pending) -> OutboxId | None:
        """Give the newest delivery of the same type that waits for this one; None where there is none."""
        key = _key(pending)
        line = None if key is None else self._lines.get(key)
        if not isinstance(line, _Line):
            return None
        same = (one.key.outbox_id for one in line.waiting if one.payload.type == pending.payload.type)
        return max(same, default=None)

    def take_behind(self, pending: Pending, event_type: str) -> Pending | None:
        """Take the delivery that waits next out of the line, where it is of this type: it is not sent."""
        key = _key(pending)
        line = None if key is None else self._lines.get(key)
        if not isinstance(line, _Line) or not line.waiting or line.waiting[0].payload.type != event_type:
            return None
        return self._pop(line)

    def holds_back(self, webhook_id: WebhookId) -> bool:
        """Say whether something of a webhook waits here for something earlier, and perhaps without an end."""
        return webhook_id in self._waiting and webhook_id in self._endless

    def lets_go(self, webhook_id: WebhookId, subject: str | None, outbox_id: OutboxId) -> bool:
        """Say whether a retry would go at once: nothing earlier of its subject is out."""
        found = None if subject is None else self._lines.get((webhook_id, subject, False))
        if found is None:
            return True
        return found.may_go(outbox_id) if isinstance(found, _Line) else outbox_id <= found.key.outbox_id

    def expect(self, webhook_id: WebhookId, subject: str, outbox_id: OutboxId) -> None:
        """Note a retry to come of a webhook of strict order, which an earlier run put on the schedule."""
        self._line((webhook_id, subject, False)).out.setdefault(outbox_id, _NEVER)
        self._endless.add(webhook_id)

    def expire(self, now: dt.datetime) -> bool:
        """Stop waiting for retries that did not come in time; true where something was let go."""
        let_go = False
        while self._expiries and self._expiries[0][0] <= now:
            expires_at, outbox_id, key = heapq.heappop(self._expiries)
            line = self._lines.get(key)
            if isinstance(line, _Line) and line.out.get(outbox_id) == expires_at:
                del line.out[outbox_id]
                let_go = self._release(key, line) or let_go
        return let_go

    def forget(self, webhook_id: WebhookId) -> bool:
        """Wait for no retry of a webhook any more: they are closed with it; true where others go now."""
        released = False
        self._endless.discard(webhook_id)
        for key, line in list(self._lines.items()):
            if key[0] == webhook_id and isinstance(line, _Line):
                line.out = {outbox_id: until for outbox_id, until in line.out.items() if until is None}
                released = self._release(key, line) or released
        return released

    @property
    def next_expiry(self) -> dt.datetime | None:
        """Give the time at which `expire` is to be called."""
        return self._expiries[0][0] if self._expiries else None

    @property
    def waiting(self) -> int:
        """Count those that wait for their turn."""
        return self._waiting.total()

    def _line(self, key: _Key) -> _Line:
        found = self._lines.get(key)
        if isinstance(found, _Line):
            return found
        line = self._lines[key] = _Line()
        if found is not None:
            line.out[found.key.outbox_id] = None
        return line

    def _pop(self, line: _Line) -> Pending:
        pending = line.waiting.pop(0)
        webhook_id = pending.key.webhook_id
        self._waiting[webhook_id] -= 1
        if not self._waiting[webhook_id]:
            del self._waiting[webhook_id]
        return pending

    def _release(self, key: _Key, line: _Line) -> bool:
        released = False
        while line.waiting and line.may_go(line.waiting[0].key.outbox_id):
            pending = self._pop(line)
            line.out[pending.key.outbox_id] = None
            self._queue(pending)
            released = True
        if not line.out:
            del self._lines[key]
        return released


def _key(pending: Pending) -> _Key | None:
    """Name the line of a delivery; None where it stands in none."""
    payload = pending.payload
    subject = payload.subject
    if subject is None or payload.test or pending.trigger is Trigger.MANUAL:
        return None
    return pending.key.webhook_id, subject, pending.lane is Lane.RECOVERY


def _place(pending: Pending) -> OutboxId:
    return pending.key.outbox_id
