"""Connections: opened on first use, again after they broke, and every way to be away has one name."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import socket
import weakref
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.errors import DatabaseUnavailable
from dispatcher.store.away import unavailable_when_away
from dispatcher.store.connection import Database as Store
from dispatcher.store.schema import require_schema
from tests.acceptance.cable import Cable
from tests.postgres import Database, execute, wait_for
from tests.receiver import free_port

CONFIG = DatabaseConfig(connect_timeout_s=5.0, statement_timeout_s=10.0, api_connections=2)


async def sessions(database: Database, name: str) -> list[int]:
    """Give the server's processes of the sessions of this name."""
    connection = await database.connect()
    try:
        rows = await connection.fetch(
            "select pid from pg_stat_activity where application_name = $1 and datname = current_database()",
            name,
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def end(database: Database, pid: int) -> None:
    """End a session as an administrator would."""
    connection = await database.connect()
    await connection.execute("select pg_terminate_backend($1)", pid)
    await connection.close()


_PREPARED = "select statement from pg_prepared_statements"


async def test_arrays_of_built_in_types_are_asked_for_once(database: Database) -> None:
    """The driver asks the server what such an array is on the first connection, and on no other one."""
    store, statement = Store(database.url, CONFIG), "select $1::date[], $2::bigint[]"
    for name in ("first", "second"):
        async with store.link(name).use() as connection:
            assert ([], [7]) == tuple(await connection.fetchrow(statement, [], [7]))
            prepared = {row[0] for row in await connection.fetch(_PREPARED)}
    assert {statement, _PREPARED} == prepared
    await store.close()


async def test_arrays_of_our_own_types_are_asked_for_each_time(database: Database) -> None:
    """Another database may have given their numbers to other types."""
    store, statement = Store(database.url, CONFIG), "select array[row(1, 2)::pair]"
    await execute(database.url, "create type pair as (a integer, b integer)")
    for name in ("first", "second"):
        async with store.link(name).use() as connection:
            assert [(1, 2)] == await connection.fetchval(statement)
            prepared = {row[0] for row in await connection.fetch(_PREPARED)}
    assert {statement, _PREPARED} < prepared
    await store.close()


async def test_statements_stay_prepared_however_long_it_is_quiet(database: Database) -> None:
    """The first alert after a quiet night is not planned anew."""
    store = Store(database.url, CONFIG)
    async with store.link("loop").use() as connection:
        assert 0 == connection._config.max_cached_statement_lifetime  # noqa: SLF001 - told nowhere else
    await store.close()


@pytest.mark.parametrize(("set_there", "ours"), [("off", "on"), ("local", "local")])
async def test_commits_are_durable_whatever_the_database_says(
    database: Database, set_there: str, ours: str
) -> None:
    """Where a database answers COMMIT before the flush, our sessions do not, nor a pool's used again."""
    connection = await database.connect()
    name = await connection.fetchval("select current_database()")
    await connection.execute(f'alter database "{name}" set synchronous_commit = {set_there}')
    await connection.close()
    store, asked = Store(database.url, CONFIG), "show synchronous_commit"
    async with store.link("one").use() as connection:
        assert ours == await connection.fetchval(asked)
    for _ in range(2):
        async with store.acquire() as connection:
            assert ours == await connection.fetchval(asked)
            await connection.execute("set synchronous_commit = off")
    assert 1 == store.pool_use.idle
    await store.close()


async def test_link_connects_when_it_is_used(database: Database) -> None:
    """Once, under a name that operators see, in UTC; closing ends the session."""
    store = Store(database.url, CONFIG)
    link = store.link("loop")
    assert [] == await sessions(database, "dispatcher loop")
    for _ in range(2):
        assert await link.fetchrow("database_clock")
    assert 1 == len(await sessions(database, "dispatcher loop"))
    async with link.use() as connection:
        assert "UTC" == await connection.fetchval("show timezone")
        assert "off" == await connection.fetchval("show jit")
    await store.close()

    await wait_for(_ended(database, "dispatcher loop"), "the session ends")


def _ended(database: Database, name: str) -> Callable[[], bool | Awaitable[bool]]:
    async def ended() -> bool:
        return not await sessions(database, name)

    return ended


async def test_link_is_kept_until_it_is_closed(database: Database) -> None:
    """A run that ends leaves nothing behind; whoever does not close a link leaves that to the store."""
    store = Store(database.url, CONFIG)
    links = [store.link("closed"), store.link("open")]
    for link in links:
        await link.session()
    await links[0].close()
    closed, still_open = (weakref.ref(link) for link in links)
    del links, link
    gc.collect()
    assert closed() is None
    assert still_open() is not None
    assert 1 == len(await sessions(database, "dispatcher open"))
    await store.close()
    await wait_for(_ended(database, "dispatcher open"), "its session ends")


async def test_link_connects_again_after_it_broke(database: Database) -> None:
    """At most one error, for whoever was asking, and the next one gets an answer."""
    store = Store(database.url, CONFIG)
    link = store.link("loop")
    await link.fetchrow("database_clock")
    (pid,) = await sessions(database, "dispatcher loop")
    await end(database, pid)
    with contextlib.suppress(DatabaseUnavailable):
        await link.fetchrow("database_clock")
    assert await link.fetchrow("database_clock")
    async with link.use() as connection:
        assert pid != connection.get_server_pid()
    await store.close()


async def test_callers_of_a_link_take_turns(database: Database) -> None:
    """One statement at a time on one connection, however many ask."""
    store = Store(database.url, CONFIG)
    link = store.link("loop")
    answers = await asyncio.gather(*(link.fetchrow("database_clock") for _ in range(20)))
    assert 20 == len(answers)
    assert 1 == len(await sessions(database, "dispatcher loop"))
    await store.close()


async def test_cancelled_statement_leaves_no_half_used_connection(database: Database) -> None:
    """Whether it was done is unknown: the next statement has a new session."""
    store = Store(database.url, CONFIG)
    link = store.link("loop")
    await link.fetchrow("database_clock")
    started = asyncio.Event()

    async def hang() -> None:
        async with link.use() as connection:
            started.set()
            await connection.fetchval("select pg_sleep(60)")

    hanging = asyncio.create_task(hang())
    await started.wait()
    (pid,) = await sessions(database, "dispatcher loop")
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert await link.fetchrow("database_clock")
    async with link.use() as connection:
        assert pid != connection.get_server_pid()
    await store.close()


async def test_mistake_is_no_outage(database: Database) -> None:
    """What PostgreSQL refuses is raised as it is, and the connection stays."""
    store = Store(database.url, CONFIG)
    link = store.link("loop")
    await link.fetchrow("database_clock")
    before = await sessions(database, "dispatcher loop")
    async with link.use() as connection:
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("select * from nothing")
    assert await link.fetchrow("database_clock")
    assert before == await sessions(database, "dispatcher loop")
    await store.close()


async def test_nobody_listens(database: Database) -> None:
    """A port where no server is: away, for links and for the pool."""
    url = re.sub(r":\d+/", f":{free_port()}/", database.url)
    store = Store(url, CONFIG)
    with pytest.raises(DatabaseUnavailable):
        await store.link("loop").fetchrow("database_clock")
    with pytest.raises(DatabaseUnavailable):
        await store.fetchrow("database_clock")
    await store.close()


async def test_server_that_says_nothing(database: Database) -> None:
    """A connection that is taken and never answered: away, when the time is over."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = Store(re.sub(r":\d+/", f":{port}/", database.url), DatabaseConfig(connect_timeout_s=0.2))
        with pytest.raises(DatabaseUnavailable):
            await store.link("loop").fetchrow("database_clock")
        await store.close()


@pytest.mark.slow
async def test_network_that_dies_while_the_schema_is_looked_at(database: Database) -> None:
    """Neither the answer nor the end of the session comes: an outage, to be waited out, and no crash."""
    impatient = DatabaseConfig(connect_timeout_s=1.0, statement_timeout_s=3.0)
    holder, watcher = await database.connect(), await database.connect()
    waits = (
        "select count(*) = 1 from pg_stat_activity where datname = current_database()"
        " and application_name = 'dispatcher start' and wait_event_type = 'Lock'"
    )
    async with Cable(database.url) as cable, asyncio.TaskGroup() as group:
        await holder.execute("begin; lock table installation in access exclusive mode")
        looking = group.create_task(outcome(require_schema(cable.url, impatient)))
        await wait_for(lambda: watcher.fetchval(waits), "the statement waits")
        cable.swallow()
        assert isinstance(await looking, DatabaseUnavailable)
    await holder.close()
    await watcher.close()


async def outcome(doing: Awaitable[object]) -> Exception | None:
    """Give the error that something ends with."""
    try:
        await doing
    except Exception as error:  # noqa: BLE001 - for the caller to judge
        return error
    return None


async def test_pool_waits_for_nobody_for_ever(database: Database) -> None:
    """When every connection is taken the caller hears so in time, and the next one is served again."""
    store = Store(database.url, DatabaseConfig(connect_timeout_s=0.3, api_connections=1))
    async with store.acquire():
        with pytest.raises(DatabaseUnavailable):
            await store.fetchrow("database_clock")
    assert await store.fetchrow("database_clock")
    await store.close()


async def test_broken_pool_recovers(database: Database) -> None:
    """A session that the server ended is replaced."""
    store = Store(database.url, CONFIG)
    await store.fetchrow("database_clock")
    (pid,) = await sessions(database, "dispatcher api")
    await end(database, pid)
    answers = []
    for _ in range(2):
        try:
            answers.append(await store.fetchrow("database_clock"))
        except DatabaseUnavailable:
            continue
    assert answers
    await store.close()


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.CannotConnectNowError("gone"),
        asyncpg.AdminShutdownError("gone"),
        asyncpg.CrashShutdownError("gone"),
        asyncpg.QueryCanceledError("gone"),
        asyncpg.TooManyConnectionsError("gone"),
        asyncpg.DiskFullError("gone"),
        asyncpg.OutOfMemoryError("gone"),
        asyncpg.ReadOnlySQLTransactionError("gone"),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to another state"),
        asyncpg.IdleInTransactionSessionTimeoutError("gone"),
        asyncpg.LockNotAvailableError("gone"),
        asyncpg.DeadlockDetectedError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_ways_to_be_away(error: Exception) -> None:
    """Everything that passes by waiting has one name."""
    with pytest.raises(DatabaseUnavailable, match=type(error).__name__), unavailable_when_away():
        raise error


async def test_a_wrong_call_is_a_bug_and_no_outage(database: Database) -> None:
    """One argument too many surfaces at once: to be away for ever would hide it."""
    store = Store(database.url, CONFIG)
    link = store.link("loop")
    for ask in (link.fetchrow, store.fetchrow):
        with pytest.raises(asyncpg.InterfaceError, match="1 was passed"):
            await ask("database_clock", 1)
        assert await ask("database_clock"), "the connection is as good as before"
    await store.close()


async def test_a_session_is_one_connection(database: Database) -> None:
    """A session has ended when its connection has, even after the link has found another one."""
    store = Store(database.url, CONFIG)
    link = store.link("loop")
    session = await link.session()
    assert await session.fetchrow("database_clock")
    for pid in await sessions(database, "dispatcher loop"):
        await end(database, pid)
    with pytest.raises(DatabaseUnavailable):
        await session.fetchrow("database_clock")
    assert session.ended
    assert await link.fetchrow("database_clock"), "the link connects again"
    with pytest.raises(DatabaseUnavailable, match="session has ended"):
        await session.fetchrow("database_clock")
    await store.close()


async def test_what_was_not_heard_of_since_is_made_anew(database: Database) -> None:
    """One statement without an answer makes each idle connection suspect, save those that answered later."""
    async with Cable(database.url) as cable:
        store = Store(cable.url, DatabaseConfig(statement_timeout_s=0.5))
        silent, idle, busy = (store.link(name) for name in ("silent", "idle", "busy"))
        for link in (silent, idle, busy):
            assert await link.fetchrow("database_clock")
        session = await idle.session()
        before = await sessions(database, "dispatcher busy")
        cable.forget("dispatcher silent")
        cable.forget("dispatcher idle")
        asking = asyncio.create_task(outcome(silent.fetchrow("database_clock")))
        assert await busy.fetchrow("database_clock")
        assert isinstance(await asking, DatabaseUnavailable)

        assert session.ended
        assert await idle.fetchrow("database_clock"), "it is not waited for in vain"
        assert await busy.fetchrow("database_clock")
        assert before == await sessions(database, "dispatcher busy")
        await store.close()
