"""The embedded PostgreSQL server: started, watched, restarted, stopped.

How this works. `start` takes the directory's lock, makes what is missing and returns when the server
answers. `supervise` runs beside the rest of the program and starts it again, on the same port, whenever
it ends. `stop` ends it and releases the lock. If this process is killed, the kernel asks PostgreSQL to
shut down (see `child`), and the next start waits for that (see `leftovers`).
"""

from __future__ import annotations

import asyncio
import shlex
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import asyncpg

from dispatcher.store.embedded.binaries import Binaries, find_binaries
from dispatcher.store.embedded.cluster import bring_within_reach, create_cluster
from dispatcher.store.embedded.errors import EmbeddedError, unusable
from dispatcher.store.embedded.home import ADDRESS, DATABASE, USER, Home, find_home
from dispatcher.store.embedded.leftovers import clear_leftovers
from dispatcher.store.embedded.lock import OwnerLock, Role
from dispatcher.store.embedded.process import Child, Output

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

LAUNCH_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0)  # after each failed launch, then it is an error
RELAUNCH_PAUSE_S: Final = 5.0  # between two rounds of launches while supervised
READY_POLL_S: Final = 0.02
SLOW_START_S: Final = 10.0  # recovery takes as long as it takes; a line each time this passes
# On the command line, so that no configuration file weakens them.
INVARIANTS: Final = {
    "listen_addresses": ADDRESS,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "logging_collector": "off",
    "log_destination": "stderr",
}


class EmbeddedServer:
    """One cluster of our own. `settings` override PostgreSQL's for this run: tests trade safety for speed."""

    def __init__(
        self,
        data_dir: Path,
        *,
        bin_dir: str = "",
        port: int = 0,
        log: FilteringBoundLogger,
        role: Role = "daemon",
        lock_wait_s: float = 60.0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._bin_dir = bin_dir
        self._configured_port = port
        self._log = log
        self._role: Role = role
        self._lock_wait_s = lock_wait_s
        self._settings = dict(settings or {})
        self._home: Home | None = None
        self._child: Child | None = None
        self._held = ExitStack()  # the lock and the log file, while started
        self._stopping = False
        self.port = 0  # known once started, then constant

    async def start(self) -> str:
        """Start, in the main thread, and return the URL; raises `EmbeddedError`, leaving nothing running."""
        self._stopping = False
        try:
            return await self._start()
        except OSError as error:
            await self.stop()
            raise unusable(self._data_dir, error) from error
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> str:
        home = self._home = await asyncio.to_thread(find_home, self._data_dir)
        lock = OwnerLock(home.lock)
        await lock.take(self._role, self._lock_wait_s, self._log)
        self._held.callback(lock.release)
        output = self._held.enter_context(Output(home.path / "postgres.log"))
        if not home.cluster.exists():
            await create_cluster(home, await self._programs(home), self._settings, self._log)
        await clear_leftovers(home.cluster, self._log)
        self.port = home.choose_port(self._configured_port)
        self._child = await self._launch(home, output)
        await _ensure_database(home, self.port)
        return home.url(self.port)

    async def supervise(self) -> None:
        """Start PostgreSQL again whenever it ends; to be cancelled before `stop`."""
        while self._child is not None and self._home is not None:
            status = await self._child.ended()
            if self._stopping:
                return
            self._log.error("postgresql_ended", status=status)
            try:
                self._child = await self._launch(self._home, self._child.output)
            except (EmbeddedError, OSError) as error:
                self._log.error("postgresql_cannot_start", reason=str(error))
                await asyncio.sleep(RELAUNCH_PAUSE_S)

    async def stop(self) -> None:
        """End the server and release the directory; harmless when nothing runs."""
        self._stopping = True
        with self._held:
            if self._child is not None:
                await self._child.stop()
                self._child = None

    def psql_line(self) -> str:
        """Return a shell command that opens a session, for the user that runs the dispatcher."""
        if self._home is None:
            raise EmbeddedError("not started")
        address = f"postgresql://{USER}@{ADDRESS}:{self.port}/{DATABASE}"
        return f"PGPASSFILE={shlex.quote(str(self._home.pgpass))} psql {address}"

    async def _programs(self, home: Home) -> Binaries:
        """Find the programs that run this cluster, where PostgreSQL's user can execute them."""
        found = await asyncio.to_thread(find_binaries, self._bin_dir, major=home.cluster_major())
        return await asyncio.to_thread(bring_within_reach, found, home, self._log)

    async def _launch(self, home: Home, output: Output) -> Child:
        """Start the server and return when it answers; tries again while something is still in the way."""
        binaries = await self._programs(home)
        settings = {**self._settings, **INVARIANTS, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [binaries.postgres, "-D", home.cluster, *options]
        for pause_s in LAUNCH_PAUSES_S:
            await clear_leftovers(home.cluster, self._log)
            child = Child(command, home.identity, output, death_signal=signal.SIGINT)
            try:
                if await self._answers(home, child):
                    self._log.info("postgresql_ready", port=self.port, version=str(binaries))
                    return child
            except BaseException:
                await child.stop()
                raise
            self._log.warning("postgresql_did_not_start", reason=output.tail())
            await asyncio.sleep(pause_s)
        raise EmbeddedError(f"PostgreSQL does not start; {output.path} ends with: {output.tail()}")

    async def _answers(self, home: Home, child: Child) -> bool:
        """Whether `child` takes a login; False once it has ended."""
        loop = asyncio.get_running_loop()
        slow = loop.time() + SLOW_START_S
        while child.running:
            try:
                connection = await asyncpg.connect(home.url(self.port, "postgres"), ssl=False, timeout=5.0)
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
                if loop.time() > slow:
                    self._log.info("postgresql_recovering", port=self.port)
                    slow += SLOW_START_S
                await asyncio.sleep(READY_POLL_S)
            except asyncpg.InvalidPasswordError as error:
                raise EmbeddedError(f"the password in {home.pgpass} is not that of {home.cluster}") from error
            else:
                await connection.close()
                return True
        return False


async def _ensure_database(home: Home, port: int) -> None:
    connection = await asyncpg.connect(home.url(port, "postgres"), ssl=False, timeout=10.0)
    try:
        if not await connection.fetchval("select true from pg_database where datname = $1", DATABASE):
            await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()
