"""Everything that a measurement needs, running: PostgreSQL, the dispatcher, the receiver, the baseline.

How this works. The dispatcher and the baseline's client share one core and take turns on it; PostgreSQL,
the receiver and the bench itself have the other. PostgreSQL is the embedded one as it comes, on a disk, with
fsync on. The webhooks of each series subscribe to a network of their own, so one dispatcher serves them all.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from bench.child import Child, pinned, running_child
from bench.machine import cores, cpu_s, family_cpu_s
from dispatcher.config import Database as DatabaseConfig
from dispatcher.store import webhooks
from dispatcher.store.connection import Database
from dispatcher.store.embedded import EmbeddedServer
from dispatcher.store.embedded.home import find_home
from dispatcher.store.schema import migrate
from dispatcher.store.vault import Vault

_ROOT: Final = Path(__file__).parents[1]
_READY_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 45.0
_RUN: Final = os.environ.get("BENCH_RUN", "-m dispatcher").split()
_MEMORY: Final = Path("/dev/shm")
_CONFIG: Final = """\
[database]
url = {url}
[api]
listen = "127.0.0.1:0"
[ops]
listen = "127.0.0.1:{ops_port}"
[delivery]
require_https = false
allowed_networks = ["127.0.0.0/8"]
[log]
format = "json"
[secrets]
encryption_key = {key}
"""


class Site:
    """What runs, and how to speak to it."""

    def __init__(self, database_url: str, postmaster_pid: int, sink: Child, baseline: Child) -> None:
        self.database_url: Final = database_url
        self.postmaster_pid: Final = postmaster_pid
        self.sink: Final = sink
        self.baseline: Final = baseline
        self.sink_url = ""
        self.secret: Final = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.dispatcher_pid = 0
        self.producer: asyncpg.Connection
        self._vault_key: Final = secrets.token_bytes(32)
        self._ops_port = _free_port()
        self._log_path: Path

    async def begin(self, plan: Mapping[str, int]) -> None:
        """Make the schema and the webhooks: for each series, how many."""
        self.sink_url = f"http://127.0.0.1:{await self.sink.ask('port')}"
        await migrate(self.database_url, DatabaseConfig())
        self.producer = await asyncpg.connect(self.database_url, ssl=False)
        organization: int = await self.producer.fetchval("select id from organization")
        database = Database(self.database_url, DatabaseConfig())
        vault = Vault(self._vault_key)
        for series, count in plan.items():
            for number in range(count):
                fields = webhooks.WebhookFields(
                    url=f"{self.sink_url}/{series}/{number}", events=("event.*",), network_ids=(series,)
                )
                await webhooks.create(
                    database, vault, organization, fields, secret=self.secret, actor="bench"
                )
        await database.close()

    @contextlib.asynccontextmanager
    async def dispatcher(self, directory: Path, core: int) -> AsyncIterator[None]:
        """Run `dispatcher serve` on a core; its log goes to a file in memory, as to a journal."""
        config = directory / "bench.toml"
        key = base64.b64encode(self._vault_key).decode()
        config.write_text(
            _CONFIG.format(url=json.dumps(self.database_url), ops_port=self._ops_port, key=json.dumps(key)),
            encoding="utf-8",
        )
        memory = _MEMORY if os.access(_MEMORY, os.W_OK) else directory
        descriptor, name = tempfile.mkstemp(prefix="grillo-bench-", suffix=".log", dir=memory)
        self._log_path = Path(name)
        process = await asyncio.create_subprocess_exec(
            *pinned(core),
            *(sys.executable, *_RUN, "serve", "--config", str(config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=_ROOT,
        )
        os.close(descriptor)
        self.dispatcher_pid = process.pid
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._ended(process))
                async with asyncio.timeout(_READY_WITHIN_S):
                    await self._until_ready()
                yield
                watch.cancel()
        finally:
            await _stop(process)
            self._log_path.unlink()

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        """Raise what the dispatcher said last, when it ends before it is told to."""
        status = await process.wait()
        words = "\n".join(self._log_path.read_text(errors="replace").splitlines()[-10:])
        raise RuntimeError(f"the dispatcher ended with status {status}; it said last:\n{words}")

    def dispatcher_cpu_s(self) -> float:
        """Give the CPU time that the dispatcher has used."""
        return cpu_s(self.dispatcher_pid)

    def postgresql_cpu_s(self) -> float:
        """Give the CPU time that PostgreSQL has used, but for the session that inserts events."""
        return family_cpu_s(self.postmaster_pid) - cpu_s(self.producer.get_server_pid())

    def trim_log(self) -> None:
        """Empty the log, which is kept in memory."""
        os.truncate(self._log_path, 0)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ops_port}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    async def _until_ready(self) -> None:
        while True:
            if await asyncio.to_thread(self._ready):
                return
            await asyncio.sleep(0.05)

    def _ready(self) -> bool:
        try:
            self._get("/readyz")
        except OSError:
            return False
        return True

    async def metric(self, name: str) -> float:
        """Read one of the dispatcher's metrics: the sum of its series."""
        page = await asyncio.to_thread(self._get, "/metrics")
        return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)))

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
async def running_site(plan: Mapping[str, int]) -> AsyncIterator[Site]:
    """Run everything for the block, with `plan` webhooks for each series; leaves nothing behind."""
    measured, other = cores()
    directory = _make_directory()
    data_dir = directory / "var"
    os.sched_setaffinity(0, {other})  # of ourselves, and so of PostgreSQL
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    server = EmbeddedServer(data_dir, log=structlog.get_logger())
    try:
        database_url = await server.start()
        postmaster = int((find_home(data_dir).cluster / "postmaster.pid").read_text().split()[0])
        async with (
            running_child("bench.sink", other) as sink,
            running_child("bench.baseline", measured) as baseline,
        ):
            site = Site(database_url, postmaster, sink, baseline)
            await site.begin(plan)
            try:
                async with site.dispatcher(directory, measured):
                    yield site
            finally:
                await site.producer.close()
    finally:
        await server.stop()
        if data_dir.exists():
            await asyncio.to_thread(shutil.rmtree, find_home(data_dir).path, ignore_errors=True)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _make_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="grillo-bench-"))
    directory.chmod(0o711)  # PostgreSQL refuses root: another user runs it then, and has to get there
    return directory


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
