"""Keeps a run's shard its own: renews the lease, stops sending when that fails, gives it back at the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from dispatcher.store.lease import RENEW_EVERY_S

if TYPE_CHECKING:
    from dispatcher.daemon.attempts import Attempts
    from dispatcher.daemon.shared import Shared

_WATCH_TRUST_S: Final = 0.25  # well below the second by which we trust ourselves for less
_GIVE_BACK_S: Final = 2.0  # at shutdown, while PostgreSQL is away

log = structlog.get_logger("run")


class Tenure:
    """The lease of one run."""

    def __init__(self, shared: Shared, attempts: Attempts) -> None:
        self._lease = shared.lease
        self._lanes = shared.lanes
        self._outage = shared.outage
        self._attempts = attempts

    async def run(self) -> None:
        """Hold the shard until cancelled; raises `LeaseLost` when another run took it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew())
            group.create_task(self._watch_trust())

    async def give_back(self) -> None:
        """Let another process take the shard at once; without an answer it does when the lease is over."""
        try:
            async with asyncio.timeout(_GIVE_BACK_S):
                await self._outage.patiently("lease", self._lease.release)
        except TimeoutError:
            log.warning("the lead could not be given back")

    async def _watch_trust(self) -> None:
        """Cut requests off when the lease could not be renewed in time, and go on when it could."""
        trusted = True
        while True:
            await asyncio.sleep(max(_WATCH_TRUST_S, self._lease.trust_left_s))
            if trusted and not self._lease.may_send():
                log.warning("the lead could not be confirmed in time", in_flight=self._lanes.in_flight)
                self._attempts.cut_off("the lead could not be confirmed in time")
            trusted = self._lease.may_send()

    async def _renew(self) -> None:
        while True:
            # After an answer that took longer than the lease is trusted, the next one is wanted at once.
            await asyncio.sleep(RENEW_EVERY_S if self._lease.may_send() else 0)
            await self._outage.patiently("lease", self._lease.renew)
            self._attempts.pump()  # sending stops while the lease cannot be trusted
