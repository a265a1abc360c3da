"""Whether the loops really make progress: what readiness and the watchdog ask before they say yes.

A loop reports after each step that did what it is for, not on each turn: a tail that spins on errors is
as late as one that hangs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Pulse:
    """One loop's progress."""

    __slots__ = ("_clock", "last_s", "limit_s", "name")

    def __init__(self, name: str, limit_s: float, clock: Callable[[], float]) -> None:
        self.name = name
        self.limit_s = limit_s
        self._clock = clock
        self.last_s = clock()

    def beat(self) -> None:
        """Say that a step succeeded just now."""
        self.last_s = self._clock()


class Health:
    """The pulses of all loops of a process; `clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pulses: dict[str, Pulse] = {}

    def pulse(self, name: str, limit_s: float) -> Pulse:
        """Watch a loop from now on: it is late when it makes no progress for `limit_s`."""
        return self._pulses.setdefault(name, Pulse(name, limit_s, self._clock))

    def forget(self, name: str) -> None:
        """Stop watching a loop that ended as it should."""
        self._pulses.pop(name, None)

    def clear(self) -> None:
        """Stop watching all loops: they ended together."""
        self._pulses.clear()

    def late(self) -> list[str]:
        """Give a sentence for each loop that is late; empty when all is well."""
        now_s = self._clock()
        return [
            f"{pulse.name}: no progress for {now_s - pulse.last_s:.1f} s"
            for pulse in self._pulses.values()
            if now_s - pulse.last_s > pulse.limit_s
        ]
