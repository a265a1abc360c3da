"""A PostgreSQL server of a test's own, to be stopped, frozen and filled up under the daemon."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from dispatcher.store.embedded.home import find_home
from dispatcher.store.embedded.leftovers import processes_in
from dispatcher.store.schema import migrate
from tests.embedded import UNSYNCED, postmaster, server_in
from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROLE: Final = "daemon_of_the_test"  # as operators run it: no superuser, so that limits hold
PASSWORD: Final = "a password"


class Server:
    """One server; not supervised: what is stopped stays stopped until `start`."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self._data_dir = data_dir
        self._server = server_in(data_dir, settings={**UNSYNCED, **settings})
        self.two_phase = settings.get("max_prepared_transactions", "0") != "0"
        self.url = ""

    async def start(self) -> None:
        """Start it, on the same port each time; recovers what an immediate stop has left."""
        self.url = await self._server.start()

    async def stop(self) -> None:
        """End it in order."""
        await self._server.stop()

    async def crash(self) -> None:
        """Stop it as `pg_ctl stop -m immediate` does: every session is cut, no checkpoint, no goodbye."""
        cluster = find_home(self._data_dir).cluster
        os.kill(postmaster(self._data_dir), signal.SIGQUIT)
        await wait_for(lambda: not processes_in(cluster), "every process of PostgreSQL has ended")
        await self._server.stop()

    def freeze(self) -> None:
        """Stop the clock for all of its processes: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in processes_in(find_home(self._data_dir).cluster):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)

    async def prepare(self) -> None:
        """Make the schema, and the role that the daemon logs in as."""
        await migrate(self.url)
        await self.execute(f"create role {ROLE} login password '{PASSWORD}' in role dispatcher_daemon")

    @property
    def daemon_url(self) -> str:
        """The way in for the daemon."""
        return f"postgresql://{ROLE}:{PASSWORD.replace(' ', '%20')}@{self.url.partition('@')[2]}"

    async def execute(self, statement: str) -> None:
        """Run one statement as the superuser."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def terminate_backends(self) -> None:
        """End every other session of the database."""
        await self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    @asynccontextmanager
    async def no_room(self) -> AsyncIterator[None]:
        """Leave no connection for the daemon's role while the block runs."""
        await self.execute(f"alter role {ROLE} connection limit 0")
        yield
        await self.execute(f"alter role {ROLE} connection limit -1")


@asynccontextmanager
async def own_server(data_dir: Path, **settings: str) -> AsyncIterator[Server]:
    """Run a server, with the schema, for the duration of the block; `settings` are PostgreSQL's."""
    server = Server(data_dir, **settings)
    await server.start()
    try:
        await server.prepare()
        yield server
    finally:
        server.thaw()
        await server.stop()
