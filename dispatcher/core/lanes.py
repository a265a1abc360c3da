"""The lanes: what is in memory, and whose turn it is.

How this works. Every delivery in memory is *held*: first *queued*, then *in flight*, then *unrecorded* until
its fact is durable. Room is counted from the first to the last of these (`core/room.py`), so memory is
bounded by settings whatever the backlog; what finds no room stays in the database (`daemon/waiting.py`
reads it back).

    admit ──▶ push ──▶ take ──▶ landed ──▶ settled
    (room)   (queued)  (slot)   (slot free) (room free)

Lanes go in order: alerts, other events, routine, retries, recoveries; a lower lane never takes the last slots
of all or of one webhook, and starts nothing while an alert is about to come (`core/right_of_way.py`). Where
those above have taken what it may fill, it has a few slots of its own. Inside a lane webhooks take turns, so
one with a long queue delays nobody; a webhook has at most `max_in_flight_per_webhook` requests under way,
over all lanes. Slots are shared as room is: a webhook may have half of what is free, a host eight times that.

A webhook with a rate limit needs a token besides (`core/rate.py`). While it has none it stands in no turns
and takes no slot; when one comes it goes to the first lane in which something of it waits.

No loop, no clock: pure bookkeeping.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Final

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.pending import TAILED, Lane, Pending
from dispatcher.core.rate import Rates
from dispatcher.core.right_of_way import RightOfWay
from dispatcher.core.room import RESERVE, SHARE, Limits, Room
from dispatcher.core.turns import Hosts, PutOff, Queue

_ORDER: Final = tuple(Lane)  # iterating over an enumeration costs a microsecond
_ALERTS: Final = (Lane.ALERT,)


class Admission(enum.Enum):
    """The answer to a request for room."""

    ADMITTED = enum.auto()
    FULL = enum.auto()  # it stays in the database
    HELD = enum.auto()  # this attempt is in memory already
    BUSY = enum.auto()  # an earlier attempt of the delivery is


class Lanes:
    """Everything that is held in memory."""

    def __init__(self, limits: Limits, host_of: Callable[[WebhookId], Hashable] = lambda one: one) -> None:
        """Make it; `host_of` names where a webhook leads to."""
        self.hosts = Hosts(host_of)
        self._queues: tuple[dict[WebhookId, Queue], ...] = tuple({} for _ in Lane)
        self._turns: tuple[deque[Queue], ...] = tuple(deque() for _ in Lane)
        self._put_off = PutOff()
        self.rates = Rates()
        self.room = Room(limits, self.rates)
        self.bound(limits)
        self._attempts: dict[tuple[OutboxId, WebhookId], int] = {}  # the attempt that is held
        self._flying: dict[WebhookId, int] = {}
        self.right_of_way = RightOfWay()
        self.in_flight = 0
        self.settled_count = 0  # of webhooks without a rate limit
        self.queued_in = [0] * len(Lane)
        self.in_flight_in = [0] * len(Lane)

    def bound(self, limits: Limits) -> None:
        """Set the bounds, now or later; what is held beyond lower ones stays until it is settled."""
        self._most_of_one = limits.max_in_flight_per_webhook
        self._slots = [int(limits.max_in_flight * SHARE[lane]) or 1 for lane in Lane]
        self._slots_of_one = [round(self._most_of_one * SHARE[lane]) or 1 for lane in Lane]
        self._reserve = [int(limits.max_in_flight * RESERVE[lane]) for lane in Lane]
        self.room.bound(limits)

    def admit(
        self, lane: Lane, key: DeliveryKey, body_bytes: int, attempt_no: int = 1, *, awaited: bool = False
    ) -> Admission:
        """Reserve room for an attempt; what was admitted is either pushed or given up.

        `awaited`: what is held waits for it, so it finds room beyond the bounds, one of a webhook at a time.
        """
        webhook_id = key.webhook_id
        held_attempt = self._attempts.get((key.outbox_id, webhook_id))
        if held_attempt is not None:
            return Admission.HELD if held_attempt == attempt_no else Admission.BUSY
        queue = self._queues[lane].get(webhook_id)
        host = self.hosts.of(webhook_id) if queue is None else queue.host
        if not self.room.fits(lane, webhook_id, queue, host, body_bytes):
            if not (awaited and self.room.may_exceed(webhook_id)):
                return Admission.FULL
            self.room.exceed(webhook_id, key.outbox_id)
        if queue is None:
            queue = self._queues[lane][webhook_id] = Queue(webhook_id, host, self._turns[lane])
        self.hosts.hold(host, body_bytes)
        self.room.hold(lane, queue, body_bytes)
        self._attempts[key.outbox_id, webhook_id] = attempt_no
        return Admission.ADMITTED

    def give_up(self, lane: Lane, key: DeliveryKey, body_bytes: int) -> None:
        """Free the room of something admitted that was neither pushed nor sent."""
        del self._attempts[key.outbox_id, key.webhook_id]
        queue = self._queues[lane][key.webhook_id]
        self.room.release(lane, queue, body_bytes)
        self.room.no_longer_beyond(key.webhook_id, key.outbox_id)
        self.hosts.release(queue.host, body_bytes)
        if not queue.held:
            del self._queues[lane][key.webhook_id]

    def push(self, pending: Pending) -> None:
        """Queue what was admitted."""
        webhook_id = pending.key.webhook_id
        queue = self._queues[pending.lane][webhook_id]
        queue.items.append(pending)
        self.queued_in[pending.lane] += 1
        if not queue.listed and self._flying.get(webhook_id, 0) < self._most_of_one:
            queue.list()

    def take(self, now_ns: int) -> Pending | None:
        """Take the next delivery whose turn it is and give it a slot; None when none may go now.

        `now_ns` is of a clock that never goes back, the one that `limit_rates` is told.
        """
        if now_ns >= self.room.windows.ends_ns:
            self.room.windows.go_on(now_ns)
        if now_ns >= self.rates.next_ns:
            for webhook_id in self.rates.awake(now_ns):
                self._list(webhook_id)
        for lane in _ORDER if now_ns >= self.right_of_way.until_ns else _ALERTS:
            free = self._free_slots(lane)
            if free <= 0:
                continue
            turns, put_off = self._turns[lane], self._put_off.of_hosts[lane]
            while turns or (put_off and self._put_off.list_of_a_host(lane, free)):
                queue = turns.popleft()
                if not self._may_go(lane, queue, free, now_ns):
                    queue.listed = False
                    continue
                pending = queue.items.popleft()
                if queue.items:
                    turns.append(queue)
                else:
                    queue.listed = False
                webhook_id = queue.webhook_id
                self._flying[webhook_id] = self._flying.get(webhook_id, 0) + 1
                queue.host.in_flight += 1
                self.in_flight += 1
                self.in_flight_in[lane] += 1
                self.queued_in[lane] -= 1
                pending.in_flight = True
                return pending
        return None

    def _free_slots(self, lane: Lane) -> int:
        """Give how many slots a lane may take: of all, or of its reserve where there are none."""
        free = self._slots[lane] - self.in_flight
        if free > 0 or not self._reserve[lane]:
            return free
        return min(self._reserve[lane] - self.in_flight_in[lane], self._slots[Lane.ALERT] - self.in_flight)

    def _may_go(self, lane: Lane, queue: Queue, free: int, now_ns: int) -> bool:
        """Say whether a webhook may have a slot, and take its token; it is listed again when that changes."""
        if not queue.items:
            return False
        flying = self._flying.get(queue.webhook_id, 0)
        if flying >= self._slots_of_one[lane]:
            return False  # until one of them has landed
        if flying >= (free + 1) >> 1:
            self._put_off.by_webhook(queue)
            return False
        if not queue.host.may_send(free):
            self._put_off.by_host(lane, queue)
            return False
        bucket = self.rates.buckets.get(queue.webhook_id)
        return bucket is None or self.rates.take(bucket, now_ns)  # or it sleeps until it has one

    def landed(self, pending: Pending, *, sent: bool = True) -> None:
        """Free the slot of a request that is over; its room is freed when its fact is durable.

        Not `sent`: no request was made after all, and its token goes back.
        """
        webhook_id = pending.key.webhook_id
        pending.in_flight = False
        self._queues[pending.lane][webhook_id].host.in_flight -= 1
        self.in_flight -= 1
        self.in_flight_in[pending.lane] -= 1
        flying = self._flying[webhook_id] - 1
        if flying:
            self._flying[webhook_id] = flying
        else:
            del self._flying[webhook_id]
        if not sent and (bucket := self.rates.buckets.get(webhook_id)) is not None:
            bucket.put_back()
        self._list(webhook_id)
        self._put_off.landed()  # somebody else may have this slot
        if any(self._put_off.of_hosts):
            for lane in _ORDER:
                self._put_off.list_of_the_next_host(lane, self._free_slots(lane))

    def _list(self, webhook_id: WebhookId) -> None:
        """Let a webhook stand in the turns of every lane in which something of it waits."""
        for queues in self._queues:
            queue = queues.get(webhook_id)
            if queue is not None and not queue.listed:
                queue.list()

    def moved(self, webhook_id: WebhookId) -> None:
        """Count what is held of a webhook for the host that it leads to by now, whatever that was before."""
        queues = [
            (lane, queues[webhook_id]) for lane, queues in enumerate(self._queues) if webhook_id in queues
        ]
        if not queues:
            return
        before, now = queues[0][1].host, self.hosts.of(webhook_id)
        if now is before:
            return
        for lane, queue in queues:
            self._put_off.forget_host(Lane(lane), queue)
            self.hosts.hold(now, queue.held_bytes, queue.held)
            self.hosts.release(before, queue.held_bytes, queue.held)
            queue.host = now
        flying = self._flying.get(webhook_id, 0)
        before.in_flight -= flying
        now.in_flight += flying
        self._list(webhook_id)

    def limit_rates(self, rates: Mapping[WebhookId, float], now_ns: int) -> bool:
        """Let webhooks start at most so many requests a second, and all others any number.

        True where somebody's limit changed: perhaps something may go now.
        """
        changed = self.rates.change(rates, now_ns)
        if not changed:
            return False
        self.room.limited(
            queue
            for webhook_id in rates
            for queues in self._queues
            if (queue := queues.get(webhook_id)) is not None
        )
        for webhook_id in changed:
            self._list(webhook_id)
        return True

    def settled(self, pending: Pending, *, answered: bool = True) -> None:
        """Free the room of a delivery whose fact is durable; `answered`: the receiver did, well or not."""
        webhook_id = pending.key.webhook_id
        if answered:
            self.room.windows.answered(webhook_id)
        if webhook_id not in self.rates.buckets:
            self.settled_count += 1
        self.give_up(pending.lane, pending.key, len(pending.payload.body))

    def held_for(self, webhook_id: WebhookId) -> list[OutboxId]:
        """Give the events that are in memory for a webhook."""
        return [outbox_id for outbox_id, one in self._attempts if one == webhook_id]

    def unattempted(self) -> Iterator[tuple[Lane, WebhookId, OutboxId]]:
        """Give for each tailed lane and webhook the earliest event of a first attempt that is in memory."""
        first: dict[WebhookId, OutboxId] = {}
        for (outbox_id, webhook_id), attempt_no in self._attempts.items():
            if attempt_no == 1:
                first[webhook_id] = min(outbox_id, first.get(webhook_id, outbox_id))
        for lane in TAILED:
            yield from ((lane, one, first[one]) for one in self._queues[lane] if one in first)

    def room_for(self, lane: Lane, webhook_id: WebhookId) -> int:
        """Give how many more deliveries of a webhook may be admitted to a lane."""
        queue = self._queues[lane].get(webhook_id)
        return self.room.of_one(lane, webhook_id, queue, self.hosts.of(webhook_id))

    def moves(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Say whether something of a webhook has its turn in a lane or is under way: room will come free."""
        queue = self._queues[lane].get(webhook_id)
        return queue is not None and (bool(queue.items) or webhook_id in self._flying)

    def is_host_full(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Say whether all webhooks of a webhook's host together have the room that they may have."""
        return self.room.is_host_full(lane, self.hosts.of(webhook_id))

    def page_for(self, lane: Lane, webhook_id: WebhookId, most: int) -> int:
        """Give how many deliveries of a webhook to read back at once; 0: wait for more room.

        One at a time, as each is settled, would cost some statements each: it waits until half of what the
        webhook may hold is free.
        """
        queue = self._queues[lane].get(webhook_id)
        room = self.room_for(lane, webhook_id)
        return min(most, room) if queue is None or room >= queue.held else 0

    def due_since(self, lane: Lane) -> dt.datetime | None:
        """Give since when that queued attempt is due which has waited longest though its webhook has a slot.

        None where there is no such one. Looks at each webhook whose turn it may be: not for the hot path.
        """
        return min(
            (
                queue.items[0].due_at
                for queue in self._turns[lane]
                if queue.items and self._flying.get(queue.webhook_id, 0) < self._most_of_one
            ),
            default=None,
        )
