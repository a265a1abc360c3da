"""What one connection's silence says about the others: what was last heard of before it may be dead too."""

from __future__ import annotations

import math


class Silence:
    """When the latest statement was asked that nobody answered in time; shared by a process's connections.

    A network that comes back after it died without a word does not bring its old connections back, and each
    would be waited for as long as a statement may take. Making one anew takes milliseconds.
    """

    def __init__(self) -> None:
        self._asked_at = -math.inf

    def kept(self, asked_at: float) -> None:
        """Note that a statement asked then, by the monotonic clock, was given up."""
        self._asked_at = max(self._asked_at, asked_at)

    def covers(self, heard_at: float) -> bool:
        """Say whether a connection that was last heard of then has not been since."""
        return heard_at < self._asked_at
