"""Who holds a shard: a row that says so, renewed every few seconds, and an epoch for all that is written.

How this works. Taking a shard starts a *run*; its id fences every statement of the ledger. The database's
clock decides when a lease is over; the holder trusts itself for less: from the moment it *asked* for the
renewal, so that a slow but successful one cannot stretch the term, and by a clock that never goes back and
runs on while the process is frozen or the machine suspended. A holder on this machine that is provably dead
(same boot, same pid namespace, no process with that pid and start time) is followed at once; any other one
when its lease is over. A holder that stops gives the lease back.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Final

from dispatcher import __version__
from dispatcher.core.errors import LeaseLost
from dispatcher.core.ids import RunId
from dispatcher.core.sharing import Shard
from dispatcher.store.away import unavailable_when_away
from dispatcher.store.connection import Link
from dispatcher.store.queries import QUERIES

TERM_S: Final = 7.0  # takeover after a power loss: this, and what the next run takes to begin
RENEW_EVERY_S: Final = 2.0
_MARGIN_S: Final = 1.0  # the holder stops trusting itself this long before the database does
# A renewal takes a millisecond: after so long its connection may be dead, and there is time for another one.
_ANSWER_S: Final = 3.0
# `time.monotonic` stands still while the machine sleeps (clock_gettime(2)); the database's clock does not.
_clock_s: Final = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def process_identity() -> str:
    """Name this process so that another one on the same machine can tell whether it still lives."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - a magic link, not a file
    pid = os.getpid()
    return f"{socket.gethostname()} {boot} {namespace} {pid} {_start_time(pid)}"


def is_dead(owner: str) -> bool:
    """Say whether the process that `process_identity` named is provably gone; False where nobody can tell."""
    mine, theirs = process_identity().rsplit(" ", 4), owner.rsplit(" ", 4)
    if len(theirs) != len(mine) or mine[:3] != theirs[:3]:
        return False
    return _start_time(int(theirs[3])) != theirs[4]


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may hold anything; the 22nd is the start time.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


class ShardsChanged(Exception):
    """The webhooks are divided in another way than this process believes."""


class Lease:
    """One shard, as one process holds it or waits for it."""

    def __init__(self, link: Link, shard: Shard, *, taking: Link | None = None) -> None:
        """Make it; renewals do not wait for what is done on `taking`."""
        self.shard = shard
        self._link = link
        self._taking = taking or link
        self._owner = process_identity()
        self._trusted_until = 0.0
        self.run_id: RunId | None = None

    def may_send(self) -> bool:
        """Say whether this process may send now: it holds the shard, and knows that nobody else can."""
        return _clock_s() < self._trusted_until

    @property
    def trust_left_s(self) -> float:
        """For how many seconds more this process may send unless it renews; 0 or less when it may not."""
        return self._trusted_until - _clock_s()

    async def take(self) -> RunId | None:
        """Take the shard if it is free; give the new run, or None while somebody else holds it.

        Raises `ShardsChanged` when there is another number of shards by now.
        """
        asked = _clock_s()
        async with self._taking.use() as connection, connection.transaction():
            await connection.execute(QUERIES["hold_shards"])
            if await connection.fetchval(QUERIES["shard_count"]) != self.shard.count:
                raise ShardsChanged
            row = await connection.fetchrow(QUERIES["lease_row"], self.shard.number)
            if row is not None and not row["expired"] and self._held_elsewhere(row["owner"]):
                return None
            run_id: RunId = await connection.fetchval(
                QUERIES["run_begin"], self._owner, __version__, self.shard.number
            )
            await connection.execute(QUERIES["lease_set"], run_id, self._owner, TERM_S, self.shard.number)
        self.run_id = run_id
        self._trusted_until = asked + TERM_S - _MARGIN_S
        return run_id

    def _held_elsewhere(self, owner: str) -> bool:
        """Say whether a lease that runs may be somebody's; one of ours is of a run that has ended."""
        return owner != self._owner and not is_dead(owner)

    async def renew(self) -> None:
        """Hold the shard for another term; raises `LeaseLost` if another run has it."""
        asked = _clock_s()
        # Once nothing is left to lose, a slow answer is worth waiting for.
        patience_s = _ANSWER_S if self.may_send() else None
        with unavailable_when_away():
            async with asyncio.timeout(patience_s):
                row = await self._link.fetchrow("lease_renew", self.run_id, TERM_S)
        if row is None:
            self._trusted_until = 0.0
            raise LeaseLost("another run leads")
        self._trusted_until = asked + TERM_S - _MARGIN_S

    async def release(self) -> None:
        """Give the shard back."""
        self._trusted_until = 0.0
        await self._link.execute("lease_release", self.run_id)
