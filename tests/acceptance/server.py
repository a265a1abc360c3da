"""A PostgreSQL server of a test's own, to be stopped, frozen and filled up under the daemon."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from dispatcher.store.embedded.home import find_home
from dispatcher.store.embedded.leftovers import processes_in
from dispatcher.store.schema import migrate
from tests.acceptance.waiting import eventually
from tests.embedded import UNSYNCED, postmaster, server_in
from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROLE: Final = "daemon_of_the_test"  # as operators run it: no superuser, so that limits hold
OTHERS: Final = "others_of_the_test"
PASSWORD: Final = "a password"
RECOVERY_S: Final = 60.0
_CUT_HALF: Final = f"""
    select pg_terminate_backend(pid)
      from (select pid, row_number() over (order by pid) as nth from pg_stat_activity
             where usename = '{ROLE}') as session
     where nth % 2 = 0
"""


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

    async def recover(self) -> None:
        """Wait until it answers again; starts it if it had to give up, as its supervisor would."""
        cluster = find_home(self._data_dir).cluster

        async def answers() -> bool:
            if not processes_in(cluster):
                await self._server.stop()
                await self.start()
            try:
                await self.execute("select 1")
            except (OSError, asyncpg.PostgresError):
                return False
            return True

        await eventually(answers, "PostgreSQL answers again", RECOVERY_S)

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
        await self.execute(f"create role {OTHERS} login password '{PASSWORD}'")

    @property
    def daemon_url(self) -> str:
        """The way in for the daemon."""
        return self._url_of(ROLE)

    def _url_of(self, role: str) -> str:
        return f"postgresql://{role}:{PASSWORD.replace(' ', '%20')}@{self.url.partition('@')[2]}"

    async def execute(self, statement: str) -> Any:
        """Run one statement as the superuser; give its first value."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            return await connection.fetchval(statement)
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
    async def full(self) -> AsyncIterator[None]:
        """Let others have every connection of the server, half of the daemon's too, while the block runs."""
        count = f"select count(*) from pg_stat_activity where usename = '{ROLE}'"
        async with AsyncExitStack() as stack:
            half = await self.execute(count) // 2
            await self._take_all(stack)
            while await self.execute(count) > half:  # it was quicker, and has some of them back
                await self.execute(_CUT_HALF)
                await self._take_all(stack)
            yield

    async def _take_all(self, stack: AsyncExitStack) -> None:
        """Connect until there is no room, and close these when the stack is left."""
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                connection = await asyncpg.connect(self._url_of(OTHERS), ssl=False)
                stack.push_async_callback(connection.close)


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
