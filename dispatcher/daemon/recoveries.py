"""Sends a webhook's past again, behind live traffic: asks for attempts page by page as there is room.

How this works. A recovery is a row; how far it has come is the newest row of its progress, written in the
statement that asks for a page's attempts, so a restart goes on where the last run stopped and asks for
nothing twice. What is asked for becomes due at once, and the schedule brings it back into the last lane
(`daemon/retries.py`). A page is asked for only where its webhook has room in that lane and nothing that was
asked for before still waits for some: a big recovery fills neither memory nor the schedule, and waits for no
receiver of others' that hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from dispatcher.core.ids import WebhookId
from dispatcher.core.pending import Lane
from dispatcher.daemon.shared import Shared
from dispatcher.store.recoveries import Recovery
from dispatcher.store.recovering import MOST_OPEN, RecoveryLedger

_PAGE: Final = 100  # deliveries
_LEAST_PAGE: Final = 10  # where there is room for one at a time, the schedule brings them one by one
_LOOK_EVERY_S: Final = 10.0  # whatever rang
_PAUSE_S: Final = 0.1  # between pages: what was asked for is in memory by then
_FRUITLESS_PAGES: Final = 20  # are looked at in one go
_ENDED: Final = frozenset({"completed", "stopped"})

log = structlog.get_logger("recovery")


class Recoveries:
    """The recoveries of one run."""

    def __init__(
        self,
        shared: Shared,
        ledger: RecoveryLedger,
        requested: Callable[[], None],
        waits: Callable[[WebhookId], bool],
    ) -> None:
        """Make them; `requested` is told of attempts that are due, `waits` says whose found no room."""
        self._ledger = ledger
        self._lanes = shared.lanes
        self._outage = shared.outage
        self._requested = requested
        self._waits = waits
        self._wake = asyncio.Event()

    def ring(self) -> None:
        """Somebody may have asked for a recovery: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        after = 0  # of very many, the oldest may be those that cannot go on
        while True:
            self._wake.clear()
            jobs = await self._outage.patiently("recoveries", partial(self._ledger.open, after))
            for job in jobs:
                await self._outage.patiently("recoveries", partial(self._go_on, job))
            some = jobs or after
            after = jobs[-1].id if len(jobs) == MOST_OPEN else 0
            try:
                async with asyncio.timeout(_PAUSE_S if some else _LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _go_on(self, job: Recovery) -> None:
        """Ask for the next page of a recovery, if there is room for it."""
        webhook_id = job.window.webhook_id
        room = self._lanes.page_for(Lane.RECOVERY, webhook_id, _PAGE)
        if self._waits(webhook_id) or room == 0:
            return
        room = max(room, _LEAST_PAGE)
        walk = await self._ledger.walk(job)
        if walk.why_inactive is not None:
            await self._ledger.stop(job, walk.why_inactive)
            log.warning("recovery stopped", recovery=job.public_id, reason=walk.why_inactive)
            return
        found = await walk.page(job.place, room)
        for _ in range(_FRUITLESS_PAGES):
            if found.counts.total or found.following.phase in _ENDED:
                break
            found = await walk.page(found.following, room)
        await self._ledger.request(job, found)
        if found.counts.total:
            self._requested()
        if found.following.phase in _ENDED:
            log.info("recovery completed", recovery=job.public_id)
