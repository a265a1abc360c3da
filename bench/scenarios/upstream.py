"""What the dispatcher costs others: producers' INSERT rate beside it, and CPU when nothing happens.

The rate is pgbench's: eight writers, one row and one commit each time, into the outbox and into a table of
the same columns without triggers. The dispatcher is busy with other events meanwhile, in both cases, and has
to read the outbox's rows as well. Writers and their sessions may use every core, as they may in life.
Both again where a flush takes two milliseconds longer, as on most disks: writers wait for no core then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from bench.feed import Feed
from bench.figures import Figure
from bench.machine import cores
from bench.pgbench import Producers, find_pgbench, make_bare_table
from bench.site import Site

_BUSY_AHEAD: Final = 2  # events: enough to keep the tail from going to sleep
_CAUGHT_UP_WITHIN_S: Final = 60.0
# Whoever flushes waits for so long first, whether anybody else is about to commit or not.
_SLOW_FLUSH: Final = {"commit_delay": "2000", "commit_siblings": "0"}  # µs


class Upstream:
    """All rounds."""

    def __init__(self, site: Site, busy: Feed, seconds: float) -> None:
        self._site = site
        self._busy = busy
        self._seconds = seconds
        pgbench = find_pgbench()
        self._producers = None if pgbench is None else Producers(pgbench, site.database_url)
        self.outbox: list[float] = []
        self.bare: list[float] = []
        self.slow_outbox: list[float] = []
        self.slow_bare: list[float] = []
        self.idle_dispatcher = self.idle_postgresql = 0.0  # cores

    async def prepare(self) -> None:
        """Make the table without triggers."""
        await make_bare_table(self._site.producer)

    async def idle(self, seconds: float) -> None:
        """Measure the CPU of the dispatcher and of PostgreSQL while nothing happens."""
        await asyncio.sleep(seconds / 2)  # what happened before has to have settled
        site = self._site
        dispatcher, postgresql, started = site.dispatcher.cpu_s(), site.postgresql_cpu_s(), time.monotonic()
        await asyncio.sleep(seconds)
        elapsed_s = time.monotonic() - started
        self.idle_dispatcher = (site.dispatcher.cpu_s() - dispatcher) / elapsed_s
        self.idle_postgresql = (site.postgresql_cpu_s() - postgresql) / elapsed_s

    async def round(self) -> None:
        """Measure the table without triggers, then the outbox."""
        if self._producers is None:
            return
        alone = os.sched_getaffinity(self._site.postmaster_pid)
        os.sched_setaffinity(self._site.postmaster_pid, set(cores()))  # new sessions inherit it
        async with self._busy.flowing(_BUSY_AHEAD):
            await self._insert(self._producers, self.bare, self.outbox)
            async with self._slow_flush():
                await self._insert(self._producers, self.slow_bare, self.slow_outbox)
        os.sched_setaffinity(self._site.postmaster_pid, alone)
        await self._busy.drained()
        await self._caught_up()
        self._site.dispatcher.trim_log()

    async def _insert(self, producers: Producers, bare: list[float], outbox: list[float]) -> None:
        """Measure both tables, one after the other; adds to the rates."""
        bare.append((await producers.insert("bench_bare", self._seconds))[0])
        outbox.append((await producers.insert("outbox", self._seconds))[0])

    @contextlib.asynccontextmanager
    async def _slow_flush(self) -> AsyncIterator[None]:
        """Let every flush of the server's log take longer during the block."""
        connection = await asyncpg.connect(self._site.database_url, ssl=False)
        try:
            for name, value in _SLOW_FLUSH.items():
                await connection.execute(f"alter system set {name} = {value}")
            await connection.execute("select pg_reload_conf()")
            yield
        finally:
            for name in _SLOW_FLUSH:
                await connection.execute(f"alter system reset {name}")
            await connection.execute("select pg_reload_conf()")
            await connection.close()

    async def _caught_up(self) -> None:
        """Wait until the dispatcher has dealt with every row, so that the next measurement begins calm."""
        deadline = time.monotonic() + _CAUGHT_UP_WITHIN_S
        while await self._site.producer.fetchval(
            "select (select count(*) from outbox) <> (select count(*) from message)"
        ):
            if time.monotonic() > deadline:
                raise RuntimeError("the tail did not catch up")
            await asyncio.sleep(0.2)

    def figures(self) -> list[Figure]:
        """Give the rows of ARCHITECTURE.md's table and of its properties."""
        idle = Figure(
            name="CPU of dispatcher and PostgreSQL when idle ÷ one core",
            unit="cores",
            ours=[self.idle_dispatcher + self.idle_postgresql],
            beside=[1.0],
            bound="at most",
            goal=0.01,
        )
        if not self.bare:
            return [idle]
        inserts = Figure(
            name="producers' INSERTs/s into the outbox ÷ into a bare table (8 writers)",
            unit="/s",
            ours=self.outbox,
            beside=self.bare,
            bound="at least",
            goal=0.75,
        )
        slow = Figure(
            name="the same where a flush takes 2 ms longer",
            unit="/s",
            ours=self.slow_outbox,
            beside=self.slow_bare,
            bound="at least",
            goal=0.9,
        )
        return [idle, inserts, slow]
