"""Lets a webhook have at most so many requests started in a second, where it asks for that.

How this works. Each such webhook has a bucket of tokens: a request takes one, and one comes back every
1 / rate seconds until the bucket is full. A full bucket holds a tenth of a second's worth, at least one
token: that many may leave at once. The bucket is one number, the time at which it will be full (the generic
cell rate algorithm of ITU-T I.371), in whole nanoseconds: nothing is rounded away, however long it runs.

Who finds no token sleeps until the next one comes; `Rates` knows who and until when. No loop, no clock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import Final

from dispatcher.core.ids import WebhookId

MIN_RATE_PER_S: Final = 0.1
MAX_RATE_PER_S: Final = 1000
NEVER_NS: Final = 1 << 63

_SECOND_NS: Final = 1_000_000_000
_BURST_S: Final = 0.1
_HELD_S: Final = 10  # what leaves in so long is held in memory; the rest waits in the database
_LEAST_HELD: Final = 16


class TokenBucket:
    """The tokens of one webhook; full at first."""

    __slots__ = ("_full_at_ns", "_interval_ns", "burst", "rate_per_s", "sleeps_until_ns", "webhook_id")

    def __init__(self, webhook_id: WebhookId, rate_per_s: float) -> None:
        self.webhook_id = webhook_id
        self.sleeps_until_ns: int | None = None
        self._full_at_ns = 0
        self._set(rate_per_s)

    def _set(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = max(1, int(rate_per_s * _BURST_S))
        self._interval_ns = math.ceil(_SECOND_NS / rate_per_s)

    @property
    def ready_at_ns(self) -> int:
        """Give the time since when, or at which, there is a token."""
        return self._full_at_ns - (self.burst - 1) * self._interval_ns

    @property
    def most_held(self) -> int:
        """Give how many deliveries of the webhook a lane may hold in memory."""
        return max(_LEAST_HELD, math.ceil(self.rate_per_s * _HELD_S))

    def take(self, now_ns: int) -> bool:
        """Take a token; false where there is none."""
        if self.ready_at_ns > now_ns:
            return False
        self._full_at_ns = max(self._full_at_ns, now_ns) + self._interval_ns
        return True

    def put_back(self) -> None:
        """Give a token back that was taken for a request which did not start."""
        self._full_at_ns -= self._interval_ns

    def change(self, rate_per_s: float, now_ns: int) -> None:
        """Go on at another rate, with the tokens that are there now and no more."""
        there = self.burst - max(0, self._full_at_ns - now_ns) / self._interval_ns
        self._set(rate_per_s)
        missing = self.burst - min(there, self.burst)
        self._full_at_ns = now_ns + math.ceil(missing * self._interval_ns)


class Rates:
    """The buckets of the webhooks that have a limit, and who sleeps until when."""

    def __init__(self) -> None:
        self.buckets: dict[WebhookId, TokenBucket] = {}
        self.next_ns = NEVER_NS  # when `awake` has somebody to give
        self._sleepers: list[tuple[int, WebhookId]] = []

    @property
    def asleep(self) -> int:
        """Count the webhooks that wait for a token."""
        return sum(bucket.sleeps_until_ns is not None for bucket in self.buckets.values())

    def take(self, bucket: TokenBucket, now_ns: int) -> bool:
        """Take a token; where there is none, its webhook sleeps until there is."""
        if bucket.take(now_ns):
            return True
        if bucket.sleeps_until_ns is None:
            bucket.sleeps_until_ns = bucket.ready_at_ns
            heapq.heappush(self._sleepers, (bucket.sleeps_until_ns, bucket.webhook_id))
            self.next_ns = self._sleepers[0][0]
        return False

    def awake(self, now_ns: int) -> list[WebhookId]:
        """Give those whose token has come."""
        awake = []
        while self._sleepers and self._sleepers[0][0] <= now_ns:
            until_ns, webhook_id = heapq.heappop(self._sleepers)
            bucket = self.buckets.get(webhook_id)
            if bucket is not None and bucket.sleeps_until_ns == until_ns:
                bucket.sleeps_until_ns = None
                awake.append(webhook_id)
        self.next_ns = self._sleepers[0][0] if self._sleepers else NEVER_NS
        return awake

    def change(self, rates: Mapping[WebhookId, float], now_ns: int) -> list[WebhookId]:
        """Let these limits hold and no others; give the webhooks whose own is another now."""
        changed = [webhook_id for webhook_id in self.buckets if webhook_id not in rates]
        for webhook_id in changed:
            del self.buckets[webhook_id]
        for webhook_id, rate_per_s in rates.items():
            bucket = self.buckets.get(webhook_id)
            if bucket is None:
                self.buckets[webhook_id] = TokenBucket(webhook_id, rate_per_s)
            elif bucket.rate_per_s != rate_per_s:
                bucket.change(rate_per_s, now_ns)
                bucket.sleeps_until_ns = None
            else:
                continue
            changed.append(webhook_id)
        return changed
