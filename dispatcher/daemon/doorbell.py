"""Wakes the tails: polls one snapshot for all lanes while rows arrive, and lets producers ring otherwise.

How this works. A wake-up is a hint, never a message: a tail that is woken reads, and finds something or not.
While rows arrive the loop polls every 2 ms; an unchanged snapshot means that nothing was committed anywhere,
and wakes nobody. After a quiet moment it takes a lock that makes every INSERT ring, looks once more, and then
waits for the bell, polling ten times a second whatever happens. A transaction that had inserted before the
lock was taken does not ring when it commits: so polling stays fast while transactions of that moment are
open, up to a second.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from dispatcher.core.lanes import TAILED, Lane
from dispatcher.core.snapshot import Snapshot
from dispatcher.daemon.shared import Shared
from dispatcher.store.wakeup import Wakeup

_LATE_S: Final = 10.0  # without a snapshot for this long, the loop is not well
_LINGER_S: Final = 1.0  # for transactions that were open when we went to sleep
_AFTER_A_RING_S: Final = 0.005
_WITHOUT_BELL_S: Final = 0.01  # idle poll where producers may not ring

log = structlog.get_logger("tail")


class Doorbell:
    """The wake-up of all lanes."""

    def __init__(self, shared: Shared) -> None:
        config = shared.process.config.tail
        self._busy_poll_s = config.busy_poll_ms / 1000
        self._idle_poll_s = config.idle_poll_ms / 1000
        self._idle_after_s = config.idle_after_ms / 1000
        self._outage = shared.outage
        self._wakeups = shared.metrics.wakeups
        self._pulse = shared.process.health.pulse("doorbell", _LATE_S)
        self._lanes = tuple(asyncio.Event() for _ in TAILED)
        self._ring = asyncio.Event()
        self._busy_until = 0.0
        self.due = asyncio.Event()  # somebody appended a fact that is due
        self.count = 0  # wake-ups so far

    def heard(self, payload: str) -> None:
        """Take a notification: a lane's number, or `due`."""
        if payload == "due":
            self.due.set()
        elif payload in {"0", "1", "2"}:
            self._wakeups["doorbell"].inc()
            self._wake(TAILED[int(payload)])
            # The lane that rang has PostgreSQL and this loop for itself for a moment.
            asyncio.get_running_loop().call_later(_AFTER_A_RING_S, self.busy)

    def busy(self) -> None:
        """Rows are arriving: poll fast for a while."""
        self._busy_until = time.monotonic() + self._idle_after_s
        self._ring.set()

    async def rings(self, lane: Lane, seen: int) -> None:
        """Wait until a lane should look again; at once if anything happened since `count` was `seen`."""
        event = self._lanes[lane]
        if seen == self.count:
            await event.wait()
        event.clear()

    def _wake(self, *lanes: Lane) -> None:
        self.count += 1
        for lane in lanes:
            self._lanes[lane].set()

    async def run(self, wakeup: Wakeup, *, may_ring: bool) -> None:
        """Watch until cancelled; `may_ring` is false where a producer that rings would break."""
        loop = asyncio.get_running_loop()
        last = (0, "")
        asleep = False
        open_then: frozenset[int] | None = None
        linger_until = 0.0
        while True:
            self._ring.clear()
            text = await self._outage.patiently("doorbell", wakeup.snapshot)
            self._pulse.beat()
            now = time.monotonic()
            # After a crash of the server the same text may stand for other transactions (decision 5).
            if (wakeup.sessions, text) != last:
                self._wakeups["idle_poll" if asleep else "busy_poll"].inc()
                self._wake(*TAILED)
                last = (wakeup.sessions, text)
            asleep = asleep and (wakeup.asleep or not may_ring)  # a lost connection lost the lock
            if now < self._busy_until:
                if asleep:
                    await self._outage.patiently("doorbell", wakeup.wake)
                    asleep = False
                pause_s = self._busy_poll_s
            elif not asleep:
                asleep = not may_ring or await self._outage.patiently("doorbell", wakeup.sleep)
                open_then = None
                pause_s = self._busy_poll_s if not asleep else 0.0  # look once more, now that they ring
            elif open_then is None:
                # A transaction has its id before it tests the lock: who did not ring is in this list.
                open_then = Snapshot.parse(text).open_xids
                linger_until = now + _LINGER_S
                pause_s = self._busy_poll_s if open_then else self._idle_s(may_ring=may_ring)
            elif now < linger_until and open_then & Snapshot.parse(text).open_xids:
                pause_s = self._busy_poll_s
            else:
                pause_s = self._idle_s(may_ring=may_ring)
            # A timer that rings costs a third of a timeout that cancels, and this turns ten times a second.
            timer = loop.call_later(pause_s, self._ring.set)
            await self._ring.wait()
            timer.cancel()

    def _idle_s(self, *, may_ring: bool) -> float:
        return self._idle_poll_s if may_ring else min(_WITHOUT_BELL_S, self._idle_poll_s)
