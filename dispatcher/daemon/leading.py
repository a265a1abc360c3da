"""What feeds the shard that leads: the outbox itself, read for all shards, and the bells that say when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from dispatcher.core.pending import TAILED, Lane
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.tailer import Tailer
from dispatcher.store.connection import INDEXED
from dispatcher.store.following import Bellringer
from dispatcher.store.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dispatcher.daemon.intake import Downstream
    from dispatcher.daemon.shared import Shared
    from dispatcher.store.connection import Link

log = structlog.get_logger("run")


class Leading:
    """The tails of all lanes, in one run."""

    def __init__(self, shared: Shared, link: Callable[..., Link], downstream: Downstream) -> None:
        """Make it; `link` gives a link of the run by its name and settings."""
        self._outage = shared.outage
        self._setting = shared.process.config.database.doorbell
        self._under_way = shared.process.under_way
        self._doorbell = Doorbell(shared)
        self._wakeup = Wakeup(link("doorbell"), self._doorbell.heard, self._doorbell.lost)
        self._bellringer = None if shared.shard.alone else Bellringer(link("followers"))
        if self._bellringer is not None:
            downstream = downstream.telling(self._bellringer.ring)
        self._tailers = {
            lane: Tailer(shared, lane, link(f"tail {lane.name.lower()}", INDEXED), self._doorbell, downstream)
            for lane in TAILED
        }
        self._may_ring = False

    @property
    def due(self) -> asyncio.Event:
        """Set when somebody appended a fact that is due."""
        return self._doorbell.due

    async def begin(self, _clean: Mapping[Lane, int] | None) -> Mapping[Lane, int]:
        """Find where the last run left each lane; give its last batches.

        Raises `OperatorError` after a restore into another server or database.
        """
        last_batches = {Lane.ALERT: await self._tailers[Lane.ALERT].begin()}
        async with asyncio.TaskGroup() as group:
            ringing = group.create_task(self._producers_may_ring())
            begun = {
                lane: group.create_task(self._tailers[lane].begin()) for lane in (Lane.EVENT, Lane.ROUTINE)
            }
        self._may_ring = ringing.result()
        return last_batches | {lane: one.result() for lane, one in begun.items()}

    async def run(self) -> None:
        """Follow the outbox until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._doorbell.run(self._wakeup, may_ring=self._may_ring))
            for tailer in self._tailers.values():
                group.create_task(tailer.run())
            if self._bellringer is not None:
                group.create_task(self._tell(self._bellringer))
            await self._under_way.wait()
            self._doorbell.look()  # and rehearse, now that nothing waits for PostgreSQL

    async def _producers_may_ring(self) -> bool:
        if self._setting != "auto":
            return self._setting == "on"
        two_phase = await self._outage.patiently("doorbell", self._wakeup.two_phase)
        if two_phase:
            log.info("polling instead of being rung: prepared transactions are enabled on the server")
        return not two_phase

    async def _tell(self, bellringer: Bellringer) -> None:
        while True:
            await bellringer.wait()
            await self._outage.patiently("followers", bellringer.tell)
