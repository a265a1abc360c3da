"""Takes the lead, works until it is lost or the process stops, and stands by while another one has it."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from dispatcher.core.errors import LeaseLost
from dispatcher.core.ids import RunId
from dispatcher.daemon.run import Run
from dispatcher.daemon.shared import Process

_ASK_EVERY_S: Final = 0.5  # while another process leads

log = structlog.get_logger("leadership")


class Leadership:
    """The process's part in who leads."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.leading = False

    async def work(self, stop: asyncio.Event) -> None:
        """Lead whenever possible until `stop` is set, and drain then."""
        while not stop.is_set():
            run_id = await self._take(stop)
            if run_id is None:
                return
            self._lead(True)
            try:
                await Run(self._process, run_id).work(stop)
            except LeaseLost as lost:
                log.warning("lead lost", reason=str(lost))
            finally:
                self._lead(False)
                self._process.health.clear()

    def _lead(self, leading: bool) -> None:  # noqa: FBT001 - it is the one thing that is set
        self.leading = leading
        self._process.metrics.lease_held.set(leading)

    async def _take(self, stop: asyncio.Event) -> RunId | None:
        process, standing_by = self._process, False
        while not stop.is_set():
            run_id = await process.outage.patiently_until(stop, "lease", process.lease.take)
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
