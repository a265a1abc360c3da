"""How long the tail of a lane has been at its step, and how old what it read is: true also while it hangs.

A gauge that a loop sets once a step keeps its last value when the loop stands still, just when it matters;
these are reckoned when they are asked for.
"""

from __future__ import annotations

import datetime as dt
import time


class TailClock:
    """One lane's."""

    __slots__ = ("_oldest", "_step_since_s")

    def __init__(self) -> None:
        self._step_since_s: float | None = None
        self._oldest: dt.datetime | None = None

    def begins(self) -> None:
        """Say that a step begins: it reads, matches and writes."""
        self._step_since_s = time.monotonic()

    def found(self, oldest: dt.datetime) -> None:
        """Say when the oldest row was recorded that this step read and has not written yet."""
        self._oldest = oldest

    def rests(self) -> None:
        """Say that the step is done: everything that it read is written, or there was nothing."""
        self._step_since_s = self._oldest = None

    def step_age_s(self) -> float:
        """Give how long the present step has taken so far; 0 between steps."""
        return 0.0 if self._step_since_s is None else time.monotonic() - self._step_since_s

    def lag_s(self) -> float:
        """Give the age of the oldest row that was read and is not written; 0 where there is none."""
        return since_s(self._oldest)


def since_s(moment: dt.datetime | None) -> float:
    """Give the seconds since a moment, none if it is to come; 0 where there is no moment."""
    return 0.0 if moment is None else max(0.0, (dt.datetime.now(dt.UTC) - moment).total_seconds())
