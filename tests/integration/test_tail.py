"""The tail sees every committed row exactly once, in whatever order transactions begin, write and end.

Hypothesis plays producers (several sessions, savepoints, prepared transactions, a writer in another database)
and the reader (small pages, pages dealt with in part, crashes) against a real PostgreSQL. The oracle is the
set of rows whose transactions were committed. Two things must hold: at the end each of them was read once,
and whenever the reader finds nothing, all that is committed has been read, whoever still has a transaction
open: it waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import OutboxId, RunId
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import Position
from dispatcher.store.connection import Link
from dispatcher.store.ledger import Ledger, MessageRow
from dispatcher.store.outbox import OutboxReader, Page
from dispatcher.store.queries import QUERIES
from tests.postgres import Database, cloned

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import asyncpg

T = TypeVar("T")
Row: TypeAlias = tuple[Lane, OutboxId]

LANES: Final = {
    Lane.ALERT: (
        "event.detected",
        '{"event_id":"evt_1","origin_time":"2024-01-15T14:32:41.500Z","latitude":1,"longitude":2,"magnitude":3}',
    ),
    Lane.ROUTINE: ("sensor.online", '{"sensor_id":"s","station_code":"c","offline_duration_seconds":1}'),
}
PRODUCERS: Final = 4
MOST_PREPARED: Final = 4  # of the ten that the server allows
INSERT: Final = "insert into outbox (type, data) values ($1, $2) returning id"

sessions = st.integers(0, PRODUCERS - 1)
lanes = st.sampled_from([Lane.ALERT, Lane.ALERT, Lane.ROUTINE])


class World:
    """The connections, and the loop that they live in; outlives the single games."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.producers: list[asyncpg.Connection] = []
        self.control: asyncpg.Connection
        self.elsewhere: asyncpg.Connection
        self.link: Link
        self.run_id: RunId

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one thing to its end."""
        return self._runner.run(work)

    async def open(self, stack: AsyncExitStack, server_url: str, template: str) -> None:
        """Connect, and take the lead."""
        database = await stack.enter_async_context(cloned(server_url, template))
        other = await stack.enter_async_context(cloned(server_url, "template1"))

        async def connect(where: Database) -> asyncpg.Connection:
            connection = await where.connect()
            stack.push_async_callback(connection.close)
            return connection

        self.producers = [await connect(database) for _ in range(PRODUCERS)]
        self.control, self.elsewhere = await connect(database), await connect(other)
        await self.elsewhere.execute("create table written (value integer)")
        self.link = Link(database.url, "test", DatabaseConfig())
        stack.push_async_callback(self.link.close)
        async with self.link.use() as connection:
            self.run_id = await connection.fetchval(QUERIES["run_begin"], "test", "test", 0)
            await connection.execute(QUERIES["lease_set"], self.run_id, "test", 3600, 0)


class Session:
    """A producer as the model knows it: the rows of its open transaction, savepoint by savepoint."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.levels: list[list[Row]] = []  # empty: no transaction

    def end(self) -> list[Row]:
        """Leave the transaction and give its rows."""
        rows = [row for level in self.levels for row in level]
        self.levels = []
        return rows


class Reader:
    """One lane's tail, as the daemon keeps it: what it has written, and where it thinks it is."""

    def __init__(self, world: World, lane: Lane) -> None:
        self.lane = lane
        self._reader = OutboxReader(world.link, lane)
        self._ledger = Ledger(world.link, world.run_id)
        self.seen: list[OutboxId] = []

    async def restart(self) -> None:
        """Start where the database says."""
        self._start = await self._reader.newest_position()
        self._position, self._since, self._batch = self._start.position, self._start.day, self._start.batch

    async def step(self, limit: int, share: float) -> bool:
        """Read a page and deal with a share of it, at least one row; false when there was nothing left."""
        page = await self._reader.read(self._position, self._since, limit)
        if not page.rows:
            was_complete = self._position.complete
            self._position, self._since = Position.after(page.target), page.day
            return not was_complete
        count = max(1, round(len(page.rows) * share))
        await self._write(page, count)
        self.seen += (row.id for row in page.rows[:count])
        return True

    async def _write(self, page: Page, count: int) -> None:
        self._batch += 1
        self._position = page.position_after(count)
        rows = [
            MessageRow(row.day, row.id, row.type, row.occurred_at, row.recorded_at, b"{}", row.test, [], [])
            for row in page.rows[:count]
        ]
        await self._ledger.fan_out(
            self.lane, self._batch, rows, self._position, self._start.system_id, page.day
        )


class Game(RuleBasedStateMachine):
    """One game, from a state in which no transaction is open."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.sessions = [Session(connection) for connection in world.producers]
        self.committed: dict[Lane, set[OutboxId]] = defaultdict(set)
        self.prepared: dict[str, list[Row]] = {}
        self.names = 0
        self.writing_elsewhere = False
        self.readers = {lane: Reader(world, lane) for lane in LANES}
        for reader in self.readers.values():
            world.do(reader.restart())
            while world.do(reader.step(1000, 1)):  # what a game that failed has left
                reader.seen.clear()

    def execute(self, connection: asyncpg.Connection, statement: str) -> None:
        """Run one statement."""
        self.world.do(connection.execute(statement))

    @property
    def open_sessions(self) -> list[Session]:
        """The sessions that have a transaction open."""
        return [session for session in self.sessions if session.levels]

    def open_session(self, number: int) -> Session:
        """Choose one of them."""
        return self.open_sessions[number % len(self.open_sessions)]

    def commit_rows(self, rows: list[Row]) -> None:
        """Let the oracle know."""
        for lane, outbox_id in rows:
            self.committed[lane].add(outbox_id)

    @rule(number=sessions, lane=lanes, count=st.integers(1, 3), alone=st.booleans())
    def insert(self, number: int, lane: Lane, count: int, alone: bool) -> None:  # noqa: FBT001 - by name
        """Insert rows: in a transaction that stays open, or each in its own."""
        session = self.sessions[number]
        if not alone and not session.levels:
            self.execute(session.connection, "begin")
            session.levels = [[]]
        for _ in range(count):
            row = (lane, self.world.do(session.connection.fetchval(INSERT, *LANES[lane])))
            if session.levels:
                session.levels[-1].append(row)
            else:
                self.commit_rows([row])

    @precondition(lambda self: self.open_sessions)
    @rule(number=sessions)
    def savepoint(self, number: int) -> None:
        """Open a subtransaction."""
        session = self.open_session(number)
        self.execute(session.connection, f"savepoint level_{len(session.levels)}")
        session.levels.append([])

    @precondition(lambda self: any(len(session.levels) > 1 for session in self.sessions))
    @rule(number=sessions)
    def roll_back_to_savepoint(self, number: int) -> None:
        """Undo the last subtransaction; its rows are gone, its transaction goes on."""
        session = self.open_session(number)
        if len(session.levels) > 1:
            session.levels.pop()
            self.execute(session.connection, f"rollback to level_{len(session.levels)}")

    @precondition(lambda self: self.open_sessions)
    @rule(number=sessions, commit=st.booleans())
    def end(self, number: int, commit: bool) -> None:  # noqa: FBT001 - by name
        """Commit or roll back."""
        session = self.open_session(number)
        self.execute(session.connection, "commit" if commit else "rollback")
        rows = session.end()
        if commit:
            self.commit_rows(rows)

    @precondition(lambda self: self.open_sessions and len(self.prepared) < MOST_PREPARED)
    @rule(number=sessions)
    def prepare(self, number: int) -> None:
        """Leave the end of a transaction to somebody else."""
        session = self.open_session(number)
        self.names += 1
        name = f"prepared {self.names}"
        self.execute(session.connection, f"prepare transaction '{name}'")
        self.prepared[name] = session.end()

    @precondition(lambda self: self.prepared)
    @rule(data=st.data(), commit=st.booleans())
    def end_prepared(self, data: st.DataObject, commit: bool) -> None:  # noqa: FBT001 - by name
        """Commit or roll back a prepared transaction."""
        self._end_prepared(data.draw(st.sampled_from(sorted(self.prepared))), commit=commit)

    def _end_prepared(self, name: str, *, commit: bool) -> None:
        self.execute(self.world.control, f"{'commit' if commit else 'rollback'} prepared '{name}'")
        rows = self.prepared.pop(name)
        if commit:
            self.commit_rows(rows)

    @rule()
    def write_elsewhere(self) -> None:
        """Begin to write in another database of the server, or stop it."""
        self.writing_elsewhere = not self.writing_elsewhere
        statement = "begin; insert into written values (1)" if self.writing_elsewhere else "commit"
        self.execute(self.world.elsewhere, statement)

    @rule(lane=lanes, limit=st.integers(1, 4), share=st.floats(0, 1))
    def read(self, lane: Lane, limit: int, share: float) -> None:
        """Let a lane's reader take a step; if it says that nothing is left, nothing is."""
        reader = self.readers[lane]
        if not self.world.do(reader.step(limit, share)):
            assert self.committed[lane] == set(reader.seen), "somebody was waited for"
        assert len(set(reader.seen)) == len(reader.seen), "a row was read twice"
        assert set(reader.seen) <= self.committed[lane], "a row was read that is not committed"

    @rule(lane=lanes, limit=st.integers(1, 4))
    def read_all(self, lane: Lane, limit: int) -> None:
        """Let a lane's reader go on until it finds nothing: then all that is committed has been read."""
        while self.world.do(self.readers[lane].step(limit, 1)):
            pass
        self.read(lane, limit, 1)

    @rule(lane=lanes)
    def crash(self, lane: Lane) -> None:
        """Forget everything but what is written."""
        self.world.do(self.readers[lane].restart())

    def teardown(self) -> None:
        """End every transaction, read the rest, and count."""
        for name in list(self.prepared):
            self._end_prepared(name, commit=True)
        for session in self.sessions:
            if session.levels:
                self.execute(session.connection, "commit")
                self.commit_rows(session.end())
        if self.writing_elsewhere:
            self.write_elsewhere()
        for lane, reader in self.readers.items():
            while self.world.do(reader.step(4, 1)):
                pass
            assert sorted(self.committed[lane]) == sorted(reader.seen)


def play(server_url: str, template: str, *, games: int, moves: int) -> None:
    """Play so many games of so many moves."""
    with asyncio.Runner() as runner:
        world, stack = World(runner), AsyncExitStack()
        try:
            runner.run(world.open(stack, server_url, template))
            run_state_machine_as_test(
                cast("type[Game]", partial(Game, world)),  # anything that makes one will do
                settings=settings(
                    max_examples=games,
                    stateful_step_count=moves,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stack.aclose())


def test_every_committed_row_is_read_once(postgres_server: str, template_database: str) -> None:
    """Out-of-order commits, savepoints, prepared transactions, another database's writer, crashes."""
    play(postgres_server, template_database, games=40, moves=40)


@pytest.mark.slow
def test_every_committed_row_is_read_once_in_long_games(postgres_server: str, template_database: str) -> None:
    """The same, longer."""
    play(postgres_server, template_database, games=500, moves=100)
