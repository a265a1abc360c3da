"""What the daemon writes for a recovery: page by page, with how far it has come, as long as it leads."""

from __future__ import annotations

from typing import Final

import asyncpg

from dispatcher.core.errors import LeaseLost
from dispatcher.core.ids import RunId
from dispatcher.core.sharing import Shard
from dispatcher.store.ledger import MonthGone, month_gone
from dispatcher.store.recoveries import Found, Place, Recovery, Walk, recovery
from dispatcher.store.transaction import Statements

MOST_OPEN: Final = 1_000


class RecoveryLedger:
    """The statements of one run."""

    def __init__(self, link: Statements, run_id: RunId, shard: Shard) -> None:
        self._link = link
        self._run_id = run_id
        self._shard = shard

    async def open(self, after: int = 0) -> list[Recovery]:
        """Give recoveries of the shard's webhooks that have not ended, the oldest after this one first.

        At most `MOST_OPEN`.
        """
        rows = await self._link.fetch(
            "open_recoveries", self._shard.count, self._shard.number, after, MOST_OPEN
        )
        return [recovery(row) for row in rows]

    async def walk(self, job: Recovery) -> Walk:
        """Prepare to go on with a recovery."""
        return await Walk.of(self._link, job.window, with_bodies=True)

    async def stop(self, job: Recovery, reason: str) -> None:
        """Note that a recovery ends before its window does."""
        await self.request(job, Found((), (), Place("stopped"), 0), reason)

    async def request(self, job: Recovery, found: Found, reason: str | None = None) -> None:
        """Ask for the attempts of a page and note how far the recovery has come, all or nothing.

        Doing a page twice changes nothing: what was requested is no longer failed, cancelled or missing,
        and each step of a recovery is written once.
        """
        following = found.following
        try:
            with month_gone():
                row = await self._link.fetchrow(
                    "recover",
                    self._run_id,
                    job.id,
                    job.step + 1,
                    following.phase,
                    following.day,
                    following.outbox_id,
                    reason,
                    [one.day for one in found.closed],
                    [one.outbox_id for one in found.closed],
                    [one.day for one in found.missing],
                    [one.outbox_id for one in found.missing],
                    [one.lane for one in found.missing],
                    [one.body for one in found.missing],
                )
        except asyncpg.UniqueViolationError:
            return  # the answer to an earlier try was lost; the step is written
        except MonthGone:
            return  # retention dropped it since the page was read: read again, it holds nothing of that month
        if row is None:
            raise LeaseLost("another run leads")
