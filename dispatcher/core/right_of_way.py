"""The right of way: nothing but alerts starts while one is on its way from the outbox to its lane.

How this works. In a storm of sensors the loop, PostgreSQL and the disk are busy with what matters less, and
an alert waits for its turn with each of them. So whoever learns of one takes the way, and what is under way
ends; as soon as the alert stands in its lane the way is given back. It is never kept for long: an alert that
PostgreSQL holds up does not stop everything else. No loop, no clock: pure bookkeeping.
"""

from __future__ import annotations

from typing import Final

_LONGEST_NS: Final = 50_000_000


class RightOfWay:
    """Whether alerts have it; times are nanoseconds of a clock that never goes back."""

    __slots__ = ("_taken", "until_ns")

    def __init__(self) -> None:
        self.until_ns = 0  # alerts alone may start before that
        self._taken = False

    def take(self, now_ns: int) -> None:
        """Clear the way, unless somebody has: an alert that is late clears it once."""
        if not self._taken:
            self._taken = True
            self.until_ns = now_ns + _LONGEST_NS

    def give_back(self) -> bool:
        """Let everybody go on; true where the way had been taken."""
        taken, self._taken = self._taken, False
        self.until_ns = 0
        return taken
