"""Wakes the tails: lets producers ring while events are few, and polls while they are many.

How this works. A wake-up is a hint, never a message: a tail that is woken reads, and finds something or not.
Each lane has a bell of its own (`daemon/bell.py`). While it is *armed* (a lock is held that every INSERT
tests), an INSERT rings; one snapshot four times a second stands behind all bells, whatever happens: an
unchanged snapshot means that nothing was committed anywhere. A lane that rings too often is disarmed and
polled every 2 ms instead, until a quiet moment: a storm of sensors neither slows its producers down nor takes
the bell from the alerts. Nobody polls for a tail that is at work: it reads on until it finds nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from dispatcher.core.pending import TAILED, Lane
from dispatcher.daemon.bell import Bell
from dispatcher.daemon.shared import Shared
from dispatcher.store.wakeup import CHANGED, Wakeup

_AT_WORK_S: Final = 0.1  # between looks at a lane that is polled, while nobody waits for it
_LATE_S: Final = 10.0  # without a snapshot for this long, the loop is not well


class Doorbell:
    """The wake-up of all lanes."""

    def __init__(self, shared: Shared) -> None:
        self._bells = tuple(Bell(lane, shared.process.config.tail) for lane in TAILED)
        self._outage = shared.outage
        self._right_of_way = shared.lanes.right_of_way
        self._wakeups = shared.metrics.wakeups
        self._pulse = shared.pulse("doorbell", _LATE_S)
        self._look = asyncio.Event()
        self.due = asyncio.Event()  # somebody appended a fact that is due
        self.count = 0  # wake-ups so far

    def heard(self, payload: str) -> None:
        """Take a notification: a lane's number, `due`, or that webhooks were changed, which tails learn."""
        if payload == "due":
            self.due.set()
        elif payload == CHANGED:
            self.look()
        elif payload in {"0", "1", "2"}:
            bell = self._bells[int(payload)]
            self._wakeups["doorbell"].inc()
            if bell.lane is Lane.ALERT:
                self._right_of_way.take(time.monotonic_ns())
            self._wake(bell)
            if bell.rung(time.monotonic()):
                self._look.set()

    def lost(self) -> None:
        """Take it that the session which holds the locks has ended: nobody rings."""
        self._look.set()

    def look(self) -> None:
        """Let every tail look once."""
        for bell in self._bells:
            self._wake(bell)

    def found(self, lane: Lane) -> None:
        """Note that a lane found rows."""
        self._bells[lane].found(time.monotonic())

    def polled(self, lane: Lane) -> bool:
        """Say whether a lane has so many events that it is polled."""
        return not self._bells[lane].armed

    async def rings(self, lane: Lane, seen: int) -> None:
        """Wait until a lane should look again; at once if anything happened since `count` was `seen`."""
        bell = self._bells[lane]
        if seen == self.count and not bell.woken.is_set():
            bell.awaited = True
            if not bell.armed:
                bell.next_look = 0.0
                self._look.set()
            try:
                await bell.woken.wait()
            finally:
                bell.awaited = False
        bell.woken.clear()

    def _wake(self, bell: Bell) -> None:
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
                if bell.next_look > now and bell.seen[0] == wakeup.sessions:
                    continue  # another session has no locks: nobody rings until all bells are armed anew
                if bell.seen != present:
                    self._wakeups["idle_poll" if bell.armed else "busy_poll"].inc()
                    bell.seen = present
                    self._wake(bell)
                pause_s = await bell.turn(wakeup, self._outage, text, time.monotonic(), may_ring=may_ring)
                # Whose tail is at work needs no look: it reads on by itself until it finds nothing.
                bell.next_look = now + (pause_s if bell.armed or bell.awaited else max(pause_s, _AT_WORK_S))
            # A timer that rings costs a third of a timeout that cancels, and this turns all night.
            until_s = min(bell.next_look for bell in self._bells) - time.monotonic()
            if until_s > 0:
                timer = loop.call_later(until_s, self._look.set)
                await self._look.wait()
                timer.cancel()
