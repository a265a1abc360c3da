"""Notices that the wall clock was put back, and remembers by how much the schedule was written ahead of it.

How this works. Due times are wall-clock times, for they outlive the process. A fact that says that it was
written later than it is now was written by a clock that was ahead, and its due time is as much too late. How
far ahead is asked of the facts themselves, when a run begins and whenever the clock has been put back since:
no guess is needed about what happened while nobody looked. What was written since then is in nobody's future.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Final

import structlog

_NOTABLE: Final = dt.timedelta(seconds=1)  # less is what machines differ by
_REACH_EVERY_S: Final = 5.0  # it looks at everything that is due within what the clock was ahead

log = structlog.get_logger("retries")


class Setback:
    """How far ahead of the present clock the schedule was written."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()
        self._over_at = dt.datetime.max.replace(tzinfo=dt.UTC)
        self._offset: dt.timedelta | None = None  # of the wall clock from the monotonic one
        self._reached_at = 0.0

    def noticed(self, now: dt.datetime) -> bool:
        """Say whether the facts are to be asked: at first, and when the clock was put back."""
        offset = now - dt.datetime.min.replace(tzinfo=dt.UTC) - dt.timedelta(seconds=time.monotonic())
        before, self._offset = self._offset, offset
        return before is None or before - offset > _NOTABLE

    def measured(self, now: dt.datetime, ahead: dt.timedelta) -> None:
        """Note what the facts said."""
        self.ahead = ahead if ahead > _NOTABLE else dt.timedelta()
        self._over_at = now + self.ahead
        self._reached_at = 0.0
        if self.ahead:
            log.warning(
                "retries were set by a clock that was ahead; they come as if it had not been",
                ahead_s=round(self.ahead.total_seconds()),
            )

    def reach(self, now: dt.datetime) -> dt.timedelta:
        """Give how far beyond `now` to look for what was written ahead: 0, except every few seconds."""
        if now > self._over_at:
            self.ahead = dt.timedelta()
        waits = time.monotonic() - self._reached_at < _REACH_EVERY_S
        return dt.timedelta() if waits else self.ahead

    def reached(self) -> None:
        """Note that there was a look at everything so far ahead."""
        self._reached_at = time.monotonic()
