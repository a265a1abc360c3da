"""How many requests a key may make: a fixed window of a minute for each, in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_S: Final = 60.0


class Allowance(msgspec.Struct, frozen=True):
    """What a key has left in its window."""

    limit: int
    remaining: int  # below 0: this request is one too many
    reset_s: int  # until the window ends, rounded up, at least 1

    @property
    def exceeded(self) -> bool:
        """Whether the request must be refused."""
        return self.remaining < 0

    def headers(self, now: float) -> dict[str, str]:
        """Give the headers that tell the client; `now` in Unix seconds."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(self.remaining, 0)),
            "X-RateLimit-Reset": str(math.ceil(now) + self.reset_s),
        }


class RateLimiter:
    """Counts the requests of each key; `clock` counts seconds and never goes back."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._limit = per_minute
        self._clock = clock
        self._windows: dict[int, tuple[float, int]] = {}  # by key, so bounded by how many keys there are

    def take(self, key_id: int) -> Allowance:
        """Count one request."""
        now = self._clock()
        started, used = self._windows.get(key_id, (now, 0))
        if now - started >= WINDOW_S:
            started, used = now, 0
        self._windows[key_id] = (started, used + 1)
        reset_s = max(1, math.ceil(started + WINDOW_S - now))
        return Allowance(self._limit, self._limit - used - 1, reset_s)
