"""Writes down, now and then, up to where everything was attempted, so that a restart searches little."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Final

from dispatcher.core.pending import TAILED, Lane
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.shared import Shared
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.ledger import Ledger

_EVERY_S: Final = 5.0
_RETRIES_EVERY: Final = dt.timedelta(minutes=1)  # the time goes on even when nothing happens


class Checkpoints:
    """The checkpoints of one run; none is written before the rescue is over."""

    def __init__(
        self,
        shared: Shared,
        ledger: Ledger,
        *,
        progress: Progress,
        waiting: Waiting,
        retries: Retries,
        recorder: Recorder,
    ) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self._progress = progress
        self._waiting = waiting
        self._retries = retries
        self._outage = shared.outage
        self._lanes = shared.lanes
        self._shard = shared.shard
        self._written: dict[Lane, object] = {}

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._outage.patiently("checkpoints", self.write)

    async def write(self, *, last: bool = False) -> None:
        """Write what changed since the last time.

        The `last` one of a run that leads names every webhook of which something was never attempted, so that
        the next run lets nothing pass it. Those who follow read what is left in its order anyway.
        """
        last = last and self._shard.leads
        if last:
            for lane, webhook_id, outbox_id in list(self._lanes.unattempted()):
                self._waiting.mark(lane, webhook_id, outbox_id)
        for lane in TAILED:
            # A batch that closes while the statement runs only makes this older than it could be.
            batch = self._progress.reached(lane) if last else self._progress.low(lane)
            state = (batch, sorted(self._waiting.positions(lane)))
            if self._written.get(lane) != state:
                await self._ledger.checkpoint(lane, *state)
                self._written[lane] = state
        # A restart looks for the claims of a run that died from this time on, those of both readers, and for
        # what is due: also by facts that are still on their way.
        low = min(self._retries.low(), self._waiting.claimed_since(), self._recorder.due_since())
        written = self._written.get(Lane.RETRY)
        if not isinstance(written, dt.datetime) or not written <= low <= written + _RETRIES_EVERY:
            await self._recorder.search_from(low)
            self._written[Lane.RETRY] = low
