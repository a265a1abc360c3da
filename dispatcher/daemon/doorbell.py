"""Wakes the tails: lets producers ring while events are few, and polls while they are many.

How this works. A wake-up is a hint, never a message: a tail that is woken reads, and finds something or not.
Each lane has a bell of its own. While it is *armed* (a lock is held that every INSERT tests), an INSERT
rings; one snapshot ten times a second stands behind all bells, whatever happens: an unchanged snapshot means
that nothing was committed anywhere. A NOTIFY makes commits serial, so a lane that rings too often is disarmed
and polled every 2 ms instead, until a quiet moment: a storm of sensors neither slows its producers down nor
takes the bell from the alerts. A transaction that had inserted before the bell was armed does not ring when
it commits: so polling stays fast while transactions of that moment are open, up to a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from dispatcher.core.pending import TAILED, Lane
from dispatcher.core.snapshot import Snapshot
from dispatcher.daemon.outage import Outage
from dispatcher.daemon.shared import Shared
from dispatcher.store.wakeup import Wakeup

_LATE_S: Final = 10.0  # without a snapshot for this long, the loop is not well
_LINGER_S: Final = 1.0  # for transactions that were open when the bell was armed
_WITHOUT_BELL_S: Final = 0.01  # idle poll where producers may not ring
_MOST_RINGS: Final = 64  # within a second; more would hold up the producers' commits


class _Bell:
    """One lane's bell: whether it is armed, and when the lane is to look again."""

    def __init__(self, lane: Lane, busy_poll_s: float, idle_poll_s: float, idle_after_s: float) -> None:
        self.lane = lane
        self.woken = asyncio.Event()
        self.armed = False
        self.next_look = 0.0
        self.seen = (0, "")
        self._busy_poll_s = busy_poll_s
        self._idle_poll_s = idle_poll_s
        self._idle_after_s = idle_after_s
        self._rung: deque[float] = deque(maxlen=_MOST_RINGS)
        self._busy_until = 0.0
        self._open_then: frozenset[int] | None = None
        self._linger_until = 0.0

    def rung(self) -> bool:
        """Count a ring; true when there have been too many."""
        now = time.monotonic()
        often = len(self._rung) == _MOST_RINGS and now - self._rung[0] < 1.0
        self._rung.append(now)
        if often:
            self._busy_until = now + self._idle_after_s
            self.next_look = now
        return often

    def found(self) -> None:
        """Rows were found; where nothing rings, look again soon."""
        if not self.armed:
            self._busy_until = time.monotonic() + self._idle_after_s

    async def turn(self, wakeup: Wakeup, outage: Outage, snapshot: str, *, may_ring: bool) -> float:
        """Arm or disarm the bell; give in how many seconds the lane is to be looked at again."""
        self.armed = self.armed and (
            wakeup.armed(self.lane) or not may_ring
        )  # a lost connection lost the lock
        now = time.monotonic()
        if now < self._busy_until:
            if self.armed:
                await outage.patiently("doorbell", lambda: wakeup.disarm(self.lane))
                self.armed = False
            return self._busy_poll_s
        if not self.armed:
            self.armed = not may_ring or await outage.patiently("doorbell", lambda: wakeup.arm(self.lane))
            self._open_then = None
            return 0.0 if self.armed else self._busy_poll_s  # look once more, now that they ring
        if self._open_then is None:
            # A transaction has its id before it tests the lock: who did not ring is in this list.
            self._open_then = Snapshot.parse(snapshot).open_xids
            self._linger_until = now + _LINGER_S
        if self._open_then and now < self._linger_until:
            if self._open_then & Snapshot.parse(snapshot).open_xids:
                return self._busy_poll_s
            self._open_then = frozenset()
        return self._idle_poll_s if may_ring else min(_WITHOUT_BELL_S, self._idle_poll_s)


class Doorbell:
    """The wake-up of all lanes."""

    def __init__(self, shared: Shared) -> None:
        config = shared.process.config.tail
        milliseconds = (config.busy_poll_ms, config.idle_poll_ms, config.idle_after_ms)
        self._bells = tuple(_Bell(lane, *(one / 1000 for one in milliseconds)) for lane in TAILED)
        self._outage = shared.outage
        self._wakeups = shared.metrics.wakeups
        self._pulse = shared.pulse("doorbell", _LATE_S)
        self._look = asyncio.Event()
        self.due = asyncio.Event()  # somebody appended a fact that is due
        self.count = 0  # wake-ups so far

    def heard(self, payload: str) -> None:
        """Take a notification: a lane's number, or `due`."""
        if payload == "due":
            self.due.set()
        elif payload in {"0", "1", "2"}:
            bell = self._bells[int(payload)]
            self._wakeups["doorbell"].inc()
            self._wake(bell)
            if bell.rung():
                self._look.set()

    def found(self, lane: Lane) -> None:
        """Note that a lane found rows."""
        self._bells[lane].found()

    def polled(self, lane: Lane) -> bool:
        """Say whether a lane has so many events that it is polled."""
        return not self._bells[lane].armed

    async def rings(self, lane: Lane, seen: int) -> None:
        """Wait until a lane should look again; at once if anything happened since `count` was `seen`."""
        woken = self._bells[lane].woken
        if seen == self.count:
            await woken.wait()
        woken.clear()

    def _wake(self, bell: _Bell) -> None:
        self.count += 1
        bell.woken.set()

    async def run(self, wakeup: Wakeup, *, may_ring: bool) -> None:
        """Watch until cancelled; `may_ring` is false where a producer that rings would break."""
        loop = asyncio.get_running_loop()
        while True:
            self._look.clear()
            text = await self._outage.patiently("doorbell", wakeup.snapshot)
            self._pulse.beat()
            # After a crash of the server the same text may stand for other transactions (decision 9).
            present = (wakeup.sessions, text)
            now = time.monotonic()
            for bell in self._bells:
                if bell.next_look > now:
                    continue
                if bell.seen != present:
                    self._wakeups["idle_poll" if bell.armed else "busy_poll"].inc()
                    bell.seen = present
                    self._wake(bell)
                bell.next_look = now + await bell.turn(wakeup, self._outage, text, may_ring=may_ring)
            # A timer that rings costs a third of a timeout that cancels, and this turns ten times a second.
            until_s = min(bell.next_look for bell in self._bells) - time.monotonic()
            if until_s > 0:
                timer = loop.call_later(until_s, self._look.set)
                await self._look.wait()
                timer.cancel()
