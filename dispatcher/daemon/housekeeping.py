"""Keeps the months in order: makes partitions ahead, drops those that retention no longer needs."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Final

import structlog

from dispatcher.daemon.shared import Process
from dispatcher.store.transaction import transaction

_EVERY_S: Final = 3600.0
_DROP_S: Final = 1800.0

log = structlog.get_logger("housekeeping")


class Housekeeping:
    """What the leader does once an hour, beside everything else."""

    def __init__(self, process: Process, *, leading: Callable[[], bool]) -> None:
        self._link = process.database.link("housekeeping")
        self._retention = process.config.retention
        self._outage = process.outage
        self._partitions_end = process.metrics.partitions_end
        self._leading = leading

    async def run(self) -> None:
        """Look after the partitions until cancelled."""
        while True:
            if self._leading():
                await self._outage.patiently("housekeeping", self._partitions)
            await asyncio.sleep(_EVERY_S if self._leading() else 1.0)

    async def _partitions(self) -> None:
        row = await self._link.fetchrow("create_partitions", self._retention.months_ahead)
        if row is not None and row[0]:
            log.info("partitions made", count=row[0])
        end = await self._link.fetchrow("partitions_end")
        if end is not None and end[0] is not None:
            self._partitions_end.set(end[0].timestamp())
        days = self._retention.days
        before = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days)
        while True:
            # Slow is not away: it looks at every delivery of the month.
            async with transaction(self._link, timeout_s=_DROP_S) as dropping:
                # A clock that is far ahead, ours or the server's, must not drop what is to be kept.
                row = await dropping.fetchrow("drop_oldest_month", before, days)
            if row is None or row[0] is None:
                return
            log.info("a month was dropped by retention", month=row[0].isoformat()[:7])
