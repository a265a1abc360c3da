"""Takes the lead, works until it is lost or the process stops, and stands by while another one has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from dispatcher.core.errors import LeaseLost
from dispatcher.core.ids import RunId
from dispatcher.daemon.outage import Outage
from dispatcher.daemon.run import Run
from dispatcher.store.lease import Lease
from dispatcher.telemetry.health import Health
from dispatcher.telemetry.metrics import Metrics

_ASK_EVERY_S: Final = 0.5  # while another process leads

log = structlog.get_logger("leadership")


class Leadership:
    """The process's part in who leads."""

    def __init__(
        self,
        lease: Lease,
        make_run: Callable[[RunId], Run],
        outage: Outage,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._lease = lease
        self._make_run = make_run
        self._outage = outage
        self._metrics = metrics
        self._health = health
        self.leading = False

    async def work(self, stop: asyncio.Event) -> None:
        """Lead whenever possible until `stop` is set, and drain then."""
        while not stop.is_set():
            run_id = await self._take(stop)
            if run_id is None:
                return
            self._lead(True)
            try:
                await self._make_run(run_id).work(stop)
            except LeaseLost as lost:
                log.warning("lead lost", reason=str(lost))
            finally:
                self._lead(False)
                self._health.clear()

    def _lead(self, leading: bool) -> None:  # noqa: FBT001 - it is the one thing that is set
        self.leading = leading
        self._metrics.lease_held.set(leading)

    async def _take(self, stop: asyncio.Event) -> RunId | None:
        standing_by = False
        while not stop.is_set():
            asking = asyncio.ensure_future(self._outage.patiently("lease", self._lease.take))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                return None
            run_id = asking.result()
            if run_id is not None:
                return run_id
            if not standing_by:
                standing_by = True
                log.info("standing by: another process leads")
            try:
                async with asyncio.timeout(_ASK_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue
        return None
