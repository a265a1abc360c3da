"""After a restart: finds what the last run left open, says so in the history, and lets it go on.

How this works. A run that ended without saying so may have sent anything that it had in memory: deliveries
written as taken by it, and claims. Each of those without a fact gets one, `interrupted`, which is due at once
and uses up no attempt. Everything else that was never attempted goes on waiting. The search starts at the
last checkpoint of each lane, so it does not depend on the length of the history; new events are tailed
meanwhile.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from dispatcher.core.ids import RunId
from dispatcher.core.pending import TAILED, Lane
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.shared import BEGINNING, Shared, utc_now
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.backlog import Backlog, MessageRef

_PAGE_MESSAGES: Final = 1_000
_PAGE_DELIVERIES: Final = 5_000
_CLOCKS_DIFFER: Final = dt.timedelta(minutes=10)  # at most, between the database's and ours

log = structlog.get_logger("rescue")


class Rescuer:
    """The search that a run begins with."""

    def __init__(
        self, shared: Shared, backlog: Backlog, waiting: Waiting, retries: Retries, recorder: Recorder
    ) -> None:
        self._backlog = backlog
        self._waiting = waiting
        self._retries = retries
        self._recorder = recorder
        self._outage = shared.outage
        self._shard = shared.shard
        self._run_id = shared.run_id
        self._dead: list[RunId] = []
        self.interrupted = asyncio.Event()  # what dead runs may have sent is written down
        self._begun: dict[Lane, int] = {}  # the batches of the checkpoints

    async def begin(self) -> dict[Lane, int] | None:
        """After an ordered end, let what was left open wait before anything new comes, so that order is kept.

        Gives each lane's batch from which on more may be open; None after a crash: then that is looked for
        while new events go on.
        """
        self._dead = await self._outage.patiently("rescue", lambda: self._backlog.dead_runs(self._run_id))
        if self._dead:
            return None
        return {lane: await self._restore(lane) for lane in TAILED}

    async def _restore(self, lane: Lane) -> int:
        batch, positions = await self._outage.patiently("rescue", lambda: self._backlog.checkpoint(lane))
        self._waiting.restore(lane, (one for one in positions if self._shard.owns(one[0])))
        self._begun[lane] = batch
        return batch

    async def interrupt(self, last_batches: Mapping[Lane, int]) -> None:
        """Write down what dead runs may have sent of batches up to those given; `begin` came before.

        Nothing is read back before: it would be sent by the number of its first attempt, and a dead run may
        have used that number. From then on retries may come.
        """
        dead = self._dead
        if dead:
            since = max(BEGINNING, await self._low() - _CLOCKS_DIFFER)
            await self._interrupt_all(dead, since, last_batches)
        self.interrupted.set()
        self._retries.begin(await self._low())

    async def _interrupt_all(
        self, dead: Sequence[RunId], since: dt.datetime, last_batches: Mapping[Lane, int]
    ) -> None:
        now = await self._now()
        await self._outage.patiently(
            "rescue", lambda: self._backlog.interrupt_claims(self._run_id, dead, since, now)
        )
        for lane in TAILED:
            batch, _ = await self._outage.patiently("rescue", partial(self._backlog.checkpoint, lane))
            async for page in self._pages(lane, batch, last_batches[lane]):
                await self._outage.patiently("rescue", partial(self._interrupt, page))

    async def _interrupt(self, page: Sequence[MessageRef]) -> None:
        await self._backlog.interrupt_deliveries(self._run_id, self._dead, page, await self._now())

    async def _now(self) -> dt.datetime:
        """Give the time from which on something is due; our clock may have been set back since we began."""
        now = utc_now()
        await self._recorder.reach_back(now)
        return now

    async def low(self) -> dt.datetime:
        """Give the time up to which everything that was due had been attempted, by the last run's clock."""
        low_us, _ = await self._outage.patiently("rescue", lambda: self._backlog.checkpoint(Lane.RETRY))
        return BEGINNING + dt.timedelta(microseconds=low_us)

    async def _low(self) -> dt.datetime:
        """Give the same; a clock that was set back since must not hide what becomes due now."""
        return min(await self.low(), utc_now())

    async def run(self, last_batches: Mapping[Lane, int]) -> None:
        """Let everything wait that is open in batches up to those given; `interrupt` came before."""
        dead = self._dead
        for lane in TAILED:
            await self._lane(lane, last_batches[lane])
        if dead:
            await self._outage.patiently(
                "rescue", lambda: self._backlog.runs_ended(self._run_id, dead, "rescued")
            )
            log.warning("a run ended without saying so; what it had in memory is sent again", runs=dead)

    async def _lane(self, lane: Lane, last_batch: int) -> None:
        if lane not in self._begun:
            await self._restore(lane)
        found = 0
        async for page in self._pages(lane, self._begun[lane], last_batch):
            found += await self._outage.patiently("rescue", partial(self._open, lane, page))
        if found:
            log.info("deliveries wait to be attempted", lane=lane.name.lower(), count=found)

    async def _pages(self, lane: Lane, batch: int, last_batch: int) -> AsyncIterator[list[MessageRef]]:
        """Give the messages after those of `batch`, up to those of `last_batch`."""
        after = (batch, 2**63 - 1)  # after everything in that batch
        while page := await self._outage.patiently("rescue", partial(self._page, lane, after, last_batch)):
            yield page
            after = (page[-1].batch, page[-1].outbox_id)

    async def _page(self, lane: Lane, after: tuple[int, int], last_batch: int) -> list[MessageRef]:
        """Give the next messages, as many as have a bounded number of deliveries, at least one."""
        page: list[MessageRef] = []
        deliveries = 0
        for message in await self._backlog.messages_after(lane, *after, _PAGE_MESSAGES):
            deliveries += message.fan_out
            if message.batch > last_batch or (page and deliveries > _PAGE_DELIVERIES):
                break
            page.append(message)
        return page

    async def _open(self, lane: Lane, page: Sequence[MessageRef]) -> int:
        """Let wait what of a page was never attempted; give how much that is."""
        rows = await self._backlog.unattempted(self._run_id, page)
        for row in rows:
            self._waiting.mark(lane, row.key.webhook_id, row.key.outbox_id)
        return len(rows)
