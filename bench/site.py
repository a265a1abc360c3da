"""Everything that a measurement needs, running: PostgreSQL, the dispatcher, the receiver, the baseline.

How this works. The dispatcher and the baseline's client share one core and take turns on it; PostgreSQL,
the receiver and the bench itself have the other. PostgreSQL is the embedded one as it comes, on a disk, with
fsync on. The webhooks of each series subscribe to a network of their own, so one dispatcher serves them all.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from bench.child import Child, running_child
from bench.dispatcher_process import RETRY_DELAYS_S, ROOT, Dispatcher, running_dispatcher
from bench.machine import cores, cpu_s, family_cpu_s
from dispatcher.config import Database as DatabaseConfig
from dispatcher.store import webhooks
from dispatcher.store.connection import Database
from dispatcher.store.embedded import EmbeddedServer
from dispatcher.store.embedded.home import find_home
from dispatcher.store.schema import migrate
from dispatcher.store.vault import Vault


class Site:
    """What runs, and how to speak to it."""

    def __init__(
        self,
        *,
        database_url: str,
        postmaster_pid: int,
        producer: asyncpg.Connection,
        sink: Child,
        baseline: Child,
        directory: Path,
        core: int,
    ) -> None:
        self.database_url: Final = database_url
        self.postmaster_pid: Final = postmaster_pid
        self.producer: Final = producer
        self.sink: Final = sink
        self.baseline: Final = baseline
        self.directory: Final = directory
        self._core = core
        self.sink_url = ""
        self.secret: Final = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.vault_key: Final = secrets.token_bytes(32)
        self.dispatcher: Dispatcher

    async def subscribe(
        self, plan: Mapping[str, int], *, network: str | None = None, events: tuple[str, ...] = ("event.*",)
    ) -> None:
        """Make the webhooks: for each series, how many; of the network of that name, or of the one given."""
        self.sink_url = f"http://127.0.0.1:{await self.sink.ask('port')}"
        organization: int = await self.producer.fetchval("select id from organization")
        database, vault = Database(self.database_url, DatabaseConfig()), Vault(self.vault_key)
        for series, count in plan.items():
            for number in range(count):
                fields = webhooks.WebhookFields(
                    url=f"{self.sink_url}/{series}/{number}", events=events, network_ids=(network or series,)
                )
                await webhooks.create(
                    database, vault, organization, fields, secret=self.secret, actor="bench"
                )
        await database.close()

    def serving(
        self, checkout: Path | None = None, *, retry_delays_s: Sequence[float] = RETRY_DELAYS_S
    ) -> contextlib.AbstractAsyncContextManager[Dispatcher]:
        """Run a dispatcher for a block, this checkout's or that of another one."""
        return running_dispatcher(
            self.directory,
            core=self._core,
            database_url=self.database_url,
            vault_key=self.vault_key,
            checkout=checkout or ROOT,
            retry_delays_s=retry_delays_s,
        )

    def postgresql_cpu_s(self) -> float:
        """Give the CPU time that PostgreSQL has used, but for the session that inserts events."""
        return family_cpu_s(self.postmaster_pid) - cpu_s(self.producer.get_server_pid())

    async def recorded(self, series: str) -> tuple[int, int]:
        """Count a series' deliveries in the database, and the attempts of it that answered 2xx."""
        row = await self.producer.fetchrow(
            """
            select count(*), count(e.status_code)
              from delivery d
              join webhook w on w.id = d.webhook_id and $1 = any (w.network_ids)
              left join delivery_event e
                on (e.day, e.outbox_id, e.webhook_id) = (d.day, d.outbox_id, d.webhook_id)
               and e.status_code between 200 and 299
            """,
            series,
        )
        return row[0], row[1]


@contextlib.asynccontextmanager
async def running_site(plan: Mapping[str, int], *, serve: bool = True) -> AsyncIterator[Site]:
    """Run everything for the block, with `plan` webhooks for each series; leaves nothing behind.

    Without `serve` there is no dispatcher yet.
    """
    measured, other = cores()
    os.sched_setaffinity(0, {other})  # of ourselves, and so of PostgreSQL
    async with _directory() as directory, _postgresql(directory / "var") as (url, postmaster_pid):
        await migrate(url, DatabaseConfig())
        producer = await asyncpg.connect(url, ssl=False)
        try:
            async with (
                running_child("bench.sink", other) as sink,
                running_child("bench.baseline", measured) as baseline,
            ):
                site = Site(
                    database_url=url,
                    postmaster_pid=postmaster_pid,
                    producer=producer,
                    sink=sink,
                    baseline=baseline,
                    directory=directory,
                    core=measured,
                )
                await site.subscribe(plan)
                if serve:
                    async with site.serving() as site.dispatcher:
                        yield site
                else:
                    yield site
        finally:
            await producer.close()


@contextlib.asynccontextmanager
async def _directory() -> AsyncIterator[Path]:
    directory = _make_directory()
    try:
        yield directory
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _make_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="grillo-bench-"))
    directory.chmod(0o711)  # PostgreSQL refuses root: another user runs it then, and has to get there
    return directory


@contextlib.asynccontextmanager
async def _postgresql(data_dir: Path) -> AsyncIterator[tuple[str, int]]:
    """Run a server of its own; give its URL and the number of its first process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    server = EmbeddedServer(data_dir, log=structlog.get_logger())
    url = await server.start()
    home = await asyncio.to_thread(find_home, data_dir)
    try:
        first_line = await asyncio.to_thread((home.cluster / "postmaster.pid").read_text)
        yield url, int(first_line.split()[0])
    finally:
        await server.stop()
        # As root under a directory that PostgreSQL's user cannot enter, the cluster stands elsewhere.
        await asyncio.to_thread(shutil.rmtree, home.path, ignore_errors=True)
