"""The lanes: what is in memory, whose turn it is, and how much room is left.

How this works. Every delivery in memory is *held*: first *queued*, then *in flight*, then *unrecorded* until
its fact is durable. Room is counted from the first to the last of these, so memory is bounded by settings
whatever the backlog; what finds no room stays in the database (`daemon/waiting.py` reads it back).

    admit ──▶ push ──▶ take ──▶ landed ──▶ settled
    (room)   (queued)  (slot)   (slot free) (room free)

Lanes go in order: alerts, other events, routine, retries, recoveries; a lower lane never takes the last slots
or the last room, of all or of one webhook, and starts nothing while an alert is about to come
(`core/right_of_way.py`). Inside a lane webhooks take turns, so one with a long queue delays
nobody; a webhook has at most `max_in_flight_per_webhook` requests under way, over all lanes.

Slots and room are shared as switches share their buffers: a webhook may have half of what is free, so however
many hang, the next one finds some (n that take all they can leave two shares of n + 2). Once half of the room
is taken it may have no more than it can use, either: about what it answers in ten seconds
(`core/window.py`). All webhooks of one host together may have eight times what is free, so thousands of them
that hang leave a ninth to all others.

A webhook with a rate limit needs a token besides (`core/rate.py`). While it has none it stands in no turns
and takes no slot; when one comes it goes to the first lane in which something of it waits. It holds a few
seconds' worth of room, and what it holds makes no lane crowded: others do not wait for it.

Room can be full of what waits for a retry, where order is strict (`core/ordering.py`). So a retry that is
awaited is admitted beyond the bounds: one of a webhook at a time, a twentieth of the room for all of them.
So is what somebody asked for, within half of that: receivers that hang may leave no room to the last lane.

No loop, no clock: pure bookkeeping.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Final

import msgspec

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.pending import TAILED, Lane, Pending
from dispatcher.core.rate import Rates
from dispatcher.core.right_of_way import RightOfWay
from dispatcher.core.turns import Host, Hosts, PutOff, Queue
from dispatcher.core.window import Windows

_ORDER: Final = tuple(Lane)  # iterating over an enumeration costs a microsecond
_ALERTS: Final = (Lane.ALERT,)

# The share of slots and of room up to which a lane may fill them.
_SHARE: Final = {
    Lane.ALERT: 1.0,
    Lane.EVENT: 0.95,
    Lane.ROUTINE: 0.85,
    Lane.RETRY: 0.7,
    Lane.RECOVERY: 0.5,
}

# What is held at least for a webhook that does not answer, while others need the room: so many times the
# requests that it may have under way.
_LEAST_ROUNDS: Final = 4
_BEYOND: Final = 20  # what is awaited may exceed the bounds by the room divided by this,
_LEAST_BEYOND: Final = 16  # and by so many


class Admission(enum.Enum):
    """The answer to a request for room."""

    ADMITTED = enum.auto()
    FULL = enum.auto()  # it stays in the database
    HELD = enum.auto()  # this attempt is in memory already
    BUSY = enum.auto()  # an earlier attempt of the delivery is


class Limits(msgspec.Struct, frozen=True):
    """The bounds; all are counts but `max_bytes`."""

    max_in_flight: int
    max_in_flight_per_webhook: int
    max_held: int
    max_bytes: int  # of bodies


class Lanes:
    """Everything that is held in memory."""

    def __init__(self, limits: Limits, host_of: Callable[[WebhookId], Hashable] = lambda one: one) -> None:
        """Make it; `host_of` names where a webhook leads to."""
        self.hosts = Hosts(host_of)
        self._queues: tuple[dict[WebhookId, Queue], ...] = tuple({} for _ in Lane)
        self._turns: tuple[deque[Queue], ...] = tuple(deque() for _ in Lane)
        self._put_off = PutOff()
        self.windows = Windows()
        self.bound(limits)
        self._attempts: dict[tuple[OutboxId, WebhookId], int] = {}  # the attempt that is held
        self._beyond: dict[WebhookId, OutboxId] = {}  # admitted beyond the bounds
        self._flying: dict[WebhookId, int] = {}
        self.rates = Rates()
        self.right_of_way = RightOfWay()
        self._held_by_limited = 0
        self._bytes_by_limited = 0
        self.held = 0
        self.held_bytes = 0
        self.in_flight = 0
        self.settled_count = 0  # of webhooks without a rate limit
        self.queued_in = [0] * len(Lane)
        self.in_flight_in = [0] * len(Lane)

    def bound(self, limits: Limits) -> None:
        """Set the bounds, now or later; what is held beyond lower ones stays until it is settled."""
        self._limits = limits
        self._slots = [int(limits.max_in_flight * _SHARE[lane]) or 1 for lane in Lane]
        self._slots_of_one = [round(limits.max_in_flight_per_webhook * _SHARE[lane]) or 1 for lane in Lane]
        self._room = [int(limits.max_held * _SHARE[lane]) or 1 for lane in Lane]
        self._bytes_room = [int(limits.max_bytes * _SHARE[lane]) for lane in Lane]
        self.windows.least = _LEAST_ROUNDS * limits.max_in_flight_per_webhook

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
        if not self._has_room_for(lane, webhook_id, host, body_bytes):
            if not (awaited and self.may_exceed(webhook_id)):
                return Admission.FULL
            self._beyond[webhook_id] = key.outbox_id
        if queue is None:
            queue = self._queues[lane][webhook_id] = Queue(webhook_id, host, self._turns[lane])
        self.hosts.hold(host, body_bytes)
        queue.held += 1
        queue.held_bytes += body_bytes
        self.held += 1
        self.held_bytes += body_bytes
        if webhook_id in self.rates.buckets:
            self._held_by_limited += 1
            self._bytes_by_limited += body_bytes
        self._attempts[key.outbox_id, webhook_id] = attempt_no
        return Admission.ADMITTED

    def _has_room_for(self, lane: Lane, webhook_id: WebhookId, host: Host, body_bytes: int) -> bool:
        free, free_bytes = self._room[lane] - self.held, self._bytes_room[lane] - self.held_bytes
        # One delivery always fits, or a body larger than the bound would wait for ever.
        if self.held and (free <= 0 or body_bytes > free_bytes):
            return False
        if not host.may_hold(free, free_bytes, body_bytes):
            return False
        queue = self._queues[lane].get(webhook_id)
        return queue is None or (
            queue.held < self._share_of_room(lane, webhook_id)
            and queue.held_bytes + body_bytes <= free_bytes // 2
        )

    def give_up(self, lane: Lane, key: DeliveryKey, body_bytes: int) -> None:
        """Free the room of something admitted that was neither pushed nor sent."""
        del self._attempts[key.outbox_id, key.webhook_id]
        if self._beyond and self._beyond.get(key.webhook_id) == key.outbox_id:
            del self._beyond[key.webhook_id]
        queue = self._queues[lane][key.webhook_id]
        queue.held -= 1
        queue.held_bytes -= body_bytes
        if not queue.held:
            del self._queues[lane][key.webhook_id]
        self.hosts.release(queue.host, body_bytes)
        self.held -= 1
        self.held_bytes -= body_bytes
        if key.webhook_id in self.rates.buckets:
            self._held_by_limited -= 1
            self._bytes_by_limited -= body_bytes

    def push(self, pending: Pending) -> None:
        """Queue what was admitted."""
        webhook_id = pending.key.webhook_id
        queue = self._queues[pending.lane][webhook_id]
        queue.items.append(pending)
        self.queued_in[pending.lane] += 1
        if not queue.listed and self._flying.get(webhook_id, 0) < self._limits.max_in_flight_per_webhook:
            queue.list()

    def take(self, now_ns: int) -> Pending | None:
        """Take the next delivery whose turn it is and give it a slot; None when none may go now.

        `now_ns` is of a clock that never goes back, the one that `limit_rates` is told.
        """
        if now_ns >= self.windows.ends_ns:
            self.windows.go_on(now_ns)
        if now_ns >= self.rates.next_ns:
            for webhook_id in self.rates.awake(now_ns):
                self._list(webhook_id)
        for lane in _ORDER if now_ns >= self.right_of_way.until_ns else _ALERTS:
            free = self._slots[lane] - self.in_flight
            if free <= 0:
                return None  # the lanes after this one may fill less
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
                self._put_off.list_of_the_next_host(lane, self._slots[lane] - self.in_flight)

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
        limited = [
            queue
            for webhook_id in rates
            for queues in self._queues
            if (queue := queues.get(webhook_id)) is not None
        ]
        self._held_by_limited = sum(queue.held for queue in limited)
        self._bytes_by_limited = sum(queue.held_bytes for queue in limited)
        for webhook_id in changed:
            self._list(webhook_id)
        return True

    def settled(self, pending: Pending, *, answered: bool = True) -> None:
        """Free the room of a delivery whose fact is durable; `answered`: the receiver did, well or not."""
        webhook_id = pending.key.webhook_id
        if answered:
            self.windows.answered(webhook_id)
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
        own = self._share_of_room(lane, webhook_id) - (queue.held if queue else 0)
        free = self._room[lane] - self.held
        return max(0, min(own, free, self.hosts.of(webhook_id).room(free)))

    def may_exceed(self, webhook_id: WebhookId, *, sparing: bool = False) -> bool:
        """Say whether one of a webhook may be admitted beyond the bounds now.

        `sparing`: half of what is beyond them is left to those without whom nothing would go on.
        """
        most = max(_LEAST_BEYOND, self._limits.max_held // _BEYOND)
        return webhook_id not in self._beyond and len(self._beyond) < (most // 2 if sparing else most)

    def moves(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Say whether something of a webhook has its turn in a lane or is under way: room will come free."""
        queue = self._queues[lane].get(webhook_id)
        return queue is not None and (bool(queue.items) or webhook_id in self._flying)

    def is_host_full(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Say whether all webhooks of a webhook's host together have the room that they may have."""
        return self.hosts.of(webhook_id).room(self._room[lane] - self.held) <= 0

    def page_for(self, lane: Lane, webhook_id: WebhookId, most: int) -> int:
        """Give how many deliveries of a webhook to read back at once; 0: wait for more room.

        One at a time, as each is settled, would cost some statements each: it waits until half of what the
        webhook may hold is free.
        """
        queue = self._queues[lane].get(webhook_id)
        room = self.room_for(lane, webhook_id)
        return min(most, room) if queue is None or room >= queue.held else 0

    def has_room(self, lane: Lane) -> bool:
        """Say whether a lane may hold more, whoever it is for."""
        return self.held < self._room[lane]

    def _share_of_room(self, lane: Lane, webhook_id: WebhookId) -> int:
        """Give how many a webhook may hold in a lane: half of what is free, but no more than it can use."""
        room = self._room[lane]
        share = max(1, (room - self.held) // 2)
        if self.held * 2 > room:
            share = min(share, self.windows.of(webhook_id))
        bucket = self.rates.buckets.get(webhook_id)
        return share if bucket is None else min(share, bucket.most_held)

    def due_since(self, lane: Lane) -> dt.datetime | None:
        """Give since when that queued attempt is due which has waited longest though its webhook has a slot.

        None where there is no such one. Looks at each webhook whose turn it may be: not for the hot path.
        """
        most = self._limits.max_in_flight_per_webhook
        return min(
            (
                queue.items[0].due_at
                for queue in self._turns[lane]
                if queue.items and self._flying.get(queue.webhook_id, 0) < most
            ),
            default=None,
        )

    def crowded(self, lane: Lane) -> bool:
        """Say whether webhooks without a rate limit take more than half of the room that a lane may fill."""
        held, held_bytes = self.held - self._held_by_limited, self.held_bytes - self._bytes_by_limited
        return held * 2 > self._room[lane] or held_bytes * 2 > self._bytes_room[lane]
