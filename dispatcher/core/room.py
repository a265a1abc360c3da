"""How much is held in memory, how much of it by whom, and who may hold more.

How this works. Room is shared as switches share their buffers: a webhook may have half of what is free, so
however many hang, the next one finds some (n that take all they can leave two shares of n + 2). Once half of
the room is taken it may have no more than it can use, either: about what it answers in ten seconds
(`core/window.py`). All webhooks of one host together may have eight times what is free, so thousands of them
that hang leave a ninth to all others. A webhook with a rate limit holds a few seconds' worth of room, and
what it holds makes no lane crowded: others do not wait for it.

A lower lane never takes the last room. Where those above have taken what it may fill, it has a *reserve*, and
in that each webhook finds room for one: retries, and what somebody asked for, go on beside receivers that
hang with a backlog of what is new.

Room can be full of what waits for a retry, where order is strict (`core/ordering.py`). So a retry that is
awaited is admitted beyond the bounds: one of a webhook at a time, a twentieth of the room for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.core.rate import Rates
from dispatcher.core.turns import Host, Queue
from dispatcher.core.window import Windows

# The share of slots and of room up to which a lane may fill them,
SHARE: Final = {
    Lane.ALERT: 1.0,
    Lane.EVENT: 0.95,
    Lane.ROUTINE: 0.85,
    Lane.RETRY: 0.7,
    Lane.RECOVERY: 0.5,
}
# and what it may have where these are full. All together fill less than alerts may.
RESERVE: Final = {Lane.ALERT: 0.0, Lane.EVENT: 0.0, Lane.ROUTINE: 0.0, Lane.RETRY: 0.02, Lane.RECOVERY: 0.01}

# What is held at least for a webhook that does not answer, while others need the room: so many times the
# requests that it may have under way.
_LEAST_ROUNDS: Final = 4
_BEYOND: Final = 20  # what is awaited may exceed the bounds by the room divided by this,
_LEAST_BEYOND: Final = 16  # and by so many


class Limits(msgspec.Struct, frozen=True):
    """The bounds; all are counts but `max_bytes`."""

    max_in_flight: int
    max_in_flight_per_webhook: int
    max_held: int
    max_bytes: int  # of bodies


class Room:
    """What is held, counted, and its bounds."""

    def __init__(self, limits: Limits, rates: Rates) -> None:
        """Make it; what webhooks with a rate limit hold is counted apart."""
        self.windows = Windows()
        self.bound(limits)
        self._rates = rates
        self._beyond: dict[WebhookId, OutboxId] = {}  # admitted beyond the bounds
        self._held_in = [0] * len(Lane)
        self._bytes_in = [0] * len(Lane)
        self._held_by_limited = 0
        self._bytes_by_limited = 0
        self.held = 0
        self.held_bytes = 0

    def bound(self, limits: Limits) -> None:
        """Set the bounds, now or later; what is held beyond lower ones stays until it is settled."""
        self._limits = limits
        self._room = [int(limits.max_held * SHARE[lane]) or 1 for lane in Lane]
        self._bytes_room = [int(limits.max_bytes * SHARE[lane]) for lane in Lane]
        self._reserve = [int(limits.max_held * RESERVE[lane]) for lane in Lane]
        self._bytes_reserve = [int(limits.max_bytes * RESERVE[lane]) for lane in Lane]
        self.windows.least = _LEAST_ROUNDS * limits.max_in_flight_per_webhook

    def fits(
        self, lane: Lane, webhook_id: WebhookId, queue: Queue | None, host: Host, body_bytes: int
    ) -> bool:
        """Say whether another delivery of a webhook finds room; `queue`: what it holds in the lane."""
        free, free_bytes = self._room[lane] - self.held, self._bytes_room[lane] - self.held_bytes
        # One delivery always fits, or a body larger than the bound would wait for ever.
        if self.held and (free <= 0 or body_bytes > free_bytes):
            return queue is None and self._fits_reserve(lane, host, body_bytes)
        if not host.may_hold(free, free_bytes, body_bytes):
            return False
        return queue is None or (
            queue.held < self._share(lane, webhook_id, free)
            and queue.held_bytes + body_bytes <= free_bytes // 2
        )

    def _fits_reserve(self, lane: Lane, host: Host, body_bytes: int = 0) -> bool:
        held, held_bytes = self._held_in[lane], self._bytes_in[lane]
        free = min(self._reserve[lane] - held, self._limits.max_held - self.held)
        return (
            free > 0
            and (not held or held_bytes + body_bytes <= self._bytes_reserve[lane])
            and host.room(free) > 0
        )

    def _share(self, lane: Lane, webhook_id: WebhookId, free: int) -> int:
        """Give how many a webhook may hold in a lane: half of what is free, but no more than it can use."""
        share = max(1, free // 2)
        if self.held * 2 > self._room[lane]:
            share = min(share, self.windows.of(webhook_id))
        bucket = self._rates.buckets.get(webhook_id)
        return share if bucket is None else min(share, bucket.most_held)

    def of_one(self, lane: Lane, webhook_id: WebhookId, queue: Queue | None, host: Host) -> int:
        """Give how many more deliveries of a webhook find room, if they are small."""
        free = self._room[lane] - self.held
        if free <= 0:
            return int(queue is None and self._fits_reserve(lane, host))
        own = self._share(lane, webhook_id, free) - (queue.held if queue else 0)
        return max(0, min(own, free, host.room(free)))

    def is_host_full(self, lane: Lane, host: Host) -> bool:
        """Say whether all webhooks of a host together have the room that they may have."""
        return host.room(self._room[lane] - self.held) <= 0

    def hold(self, lane: Lane, queue: Queue, body_bytes: int) -> None:
        """Count a delivery in."""
        queue.held += 1
        queue.held_bytes += body_bytes
        self._held_in[lane] += 1
        self._bytes_in[lane] += body_bytes
        self.held += 1
        self.held_bytes += body_bytes
        if queue.webhook_id in self._rates.buckets:
            self._held_by_limited += 1
            self._bytes_by_limited += body_bytes

    def release(self, lane: Lane, queue: Queue, body_bytes: int) -> None:
        """Count a delivery out."""
        queue.held -= 1
        queue.held_bytes -= body_bytes
        self._held_in[lane] -= 1
        self._bytes_in[lane] -= body_bytes
        self.held -= 1
        self.held_bytes -= body_bytes
        if queue.webhook_id in self._rates.buckets:
            self._held_by_limited -= 1
            self._bytes_by_limited -= body_bytes

    def limited(self, queues: Iterable[Queue]) -> None:
        """Count anew what is held of webhooks with a rate limit: these, by now."""
        held = [(queue.held, queue.held_bytes) for queue in queues]
        self._held_by_limited = sum(count for count, _ in held)
        self._bytes_by_limited = sum(body_bytes for _, body_bytes in held)

    def may_exceed(self, webhook_id: WebhookId) -> bool:
        """Say whether one of a webhook may be admitted beyond the bounds now."""
        most = max(_LEAST_BEYOND, self._limits.max_held // _BEYOND)
        return webhook_id not in self._beyond and len(self._beyond) < most

    def exceed(self, webhook_id: WebhookId, outbox_id: OutboxId) -> None:
        """Note that one is admitted beyond the bounds."""
        self._beyond[webhook_id] = outbox_id

    def no_longer_beyond(self, webhook_id: WebhookId, outbox_id: OutboxId) -> None:
        """Note that a delivery is gone, in case that it was admitted beyond the bounds."""
        if self._beyond and self._beyond.get(webhook_id) == outbox_id:
            del self._beyond[webhook_id]

    def is_free(self, lane: Lane) -> bool:
        """Say whether a lane may hold more, whoever it is for."""
        return self.held < self._room[lane]

    def is_crowded(self, lane: Lane) -> bool:
        """Say whether webhooks without a rate limit take more than half of the room that a lane may fill."""
        held, held_bytes = self.held - self._held_by_limited, self.held_bytes - self._bytes_by_limited
        return held * 2 > self._room[lane] or held_bytes * 2 > self._bytes_room[lane]
