"""What the dispatcher costs others: producers' INSERT rate beside it, and CPU when nothing happens.

The rate is pgbench's: eight writers, one row and one commit each time, into the outbox and into a table of
the same columns without triggers. The dispatcher is busy with other events meanwhile, in both cases, and has
to read the outbox's rows as well. Writers and their sessions may use every core, as they may in life.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.child import pinned
from bench.feed import EVENT, Feed
from bench.figures import Figure
from bench.machine import cores
from bench.site import Site
from dispatcher.store.embedded.binaries import find_binaries

_WRITERS: Final = 8
_BUSY_AHEAD: Final = 2  # events: enough to keep the tail from going to sleep
_CAUGHT_UP_WITHIN_S: Final = 60.0
_BARE_TABLE: Final = """
create table bench_bare (
    id bigint generated always as identity primary key, type text not null, data json not null,
    occurred_at timestamptz not null default now(), network_id text, dedup_key text
)
"""
_SCRIPT: Final = """\\set n random(1, 1000000000)
insert into {table} (type, data) values ('event.detected', replace(:event, '{{n}}', (:n)::text)::json);
"""


class Upstream:
    """All rounds."""

    def __init__(self, site: Site, busy: Feed, seconds: float) -> None:
        self._site = site
        self._busy = busy
        self._seconds = seconds
        self._pgbench = _find_pgbench()
        self.outbox: list[float] = []
        self.bare: list[float] = []
        self.idle_dispatcher = self.idle_postgresql = 0.0  # cores

    async def prepare(self) -> None:
        """Make the table without triggers."""
        await self._site.producer.execute(_BARE_TABLE)

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
        if self._pgbench is None:
            return
        alone = os.sched_getaffinity(self._site.postmaster_pid)
        os.sched_setaffinity(self._site.postmaster_pid, set(cores()))  # new sessions inherit it
        async with self._busy.flowing(_BUSY_AHEAD):
            self.bare.append(await self._insert_rate("bench_bare"))
            self.outbox.append(await self._insert_rate("outbox"))
        os.sched_setaffinity(self._site.postmaster_pid, alone)
        await self._busy.drained()
        await self._caught_up()
        self._site.dispatcher.trim_log()

    async def _insert_rate(self, table: str) -> float:
        event = EVENT.replace("{network}", "nobody")
        with tempfile.NamedTemporaryFile("w", suffix=".sql", encoding="utf-8") as script:
            script.write(_SCRIPT.format(table=table))
            script.flush()
            process = await asyncio.create_subprocess_exec(
                *pinned(*cores()),
                *(str(self._pgbench), "--no-vacuum", "--protocol=prepared", f"--client={_WRITERS}"),
                *(
                    f"--time={max(1, round(self._seconds))}",
                    f"--define=event={event}",
                    f"--file={script.name}",
                ),
                self._site.database_url,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output = (await process.communicate())[0].decode()
        found = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
        if process.returncode != 0 or found is None:
            raise RuntimeError(f"pgbench failed:\n{output}")
        return float(found[1])

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
        return [idle, inserts]


def _find_pgbench() -> Path | None:
    beside = find_binaries().bin_dir / "pgbench"
    if beside.exists():
        return beside
    found = shutil.which("pgbench")
    return None if found is None else Path(found)
