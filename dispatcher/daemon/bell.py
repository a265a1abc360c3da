"""One lane's bell: armed, its producers ring; disarmed, the lane is polled. Says when to look again.

How this works. A NOTIFY makes commits serial, so a bell that rings too often is disarmed until a quiet
moment. While it is armed there is nothing to look for but a connection that died without a word. One
exception: a transaction that had inserted before the bell was armed does not ring when it commits. So for as
long as one that was open at that moment still is, the lane is looked at as if nobody rang: fast at first,
then every `tail.idle_poll_ms`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from dispatcher.config import Tail
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import Snapshot
from dispatcher.daemon.outage import Outage
from dispatcher.store.wakeup import Wakeup

_LINGER_S: Final = 1.0  # transactions that last longer than this are not expected to end at any moment
_AT_EASE_S: Final = 0.25  # everybody rings
_WITHOUT_BELL_S: Final = 0.01  # idle poll where producers may not ring
_MOST_RINGS: Final = 64  # within a second; more would hold up the producers' commits


class Bell:
    """The bell of one lane; all times are seconds of one clock that never goes back."""

    def __init__(self, lane: Lane, config: Tail) -> None:
        self.lane = lane
        self.woken = asyncio.Event()
        self.armed = False
        self.awaited = False  # the lane's tail waits to be woken
        self.next_look = 0.0
        self.seen = (0, "")
        self._busy_poll_s = config.busy_poll_ms / 1000
        self._idle_poll_s = config.idle_poll_ms / 1000
        self._idle_after_s = config.idle_after_ms / 1000
        self._rung: deque[float] = deque(maxlen=_MOST_RINGS)
        self._busy_until = 0.0
        self._unrung: frozenset[int] | None = None  # open since before it was armed; None: not known yet
        self._linger_until = 0.0

    def rung(self, now: float) -> bool:
        """Count a ring; true when there have been too many."""
        often = len(self._rung) == _MOST_RINGS and now - self._rung[0] < 1.0
        self._rung.append(now)
        if often:
            self._busy_until = now + self._idle_after_s
            self.next_look = now
        return often

    def found(self, now: float) -> None:
        """Rows were found; where nothing rings, look again soon."""
        if not self.armed:
            self._busy_until = now + self._idle_after_s

    async def turn(
        self, wakeup: Wakeup, outage: Outage, snapshot: str, now: float, *, may_ring: bool
    ) -> float:
        """Arm or disarm the bell; give in how many seconds the lane is to be looked at again."""
        # A lost connection lost the lock.
        self.armed = self.armed and (wakeup.armed(self.lane) or not may_ring)
        if now < self._busy_until:
            if self.armed:
                await outage.patiently("doorbell", lambda: wakeup.disarm(self.lane))
                self.armed = False
            return self._busy_poll_s
        if not self.armed:
            self.armed = not may_ring or await outage.patiently("doorbell", lambda: wakeup.arm(self.lane))
            self._unrung = None
            return 0.0 if self.armed else self._busy_poll_s  # look once more, now that they ring
        if not may_ring:
            return min(_WITHOUT_BELL_S, self._idle_poll_s)
        if self._unrung is None:
            # A transaction has its id before it tests the lock: who did not ring is in this list.
            self._unrung = Snapshot.parse(snapshot).open_xids
            self._linger_until = now + _LINGER_S
        elif self._unrung:
            self._unrung &= Snapshot.parse(snapshot).open_xids
        if self._unrung:
            return self._busy_poll_s if now < self._linger_until else self._idle_poll_s
        return max(_AT_EASE_S, self._idle_poll_s)
