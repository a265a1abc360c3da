"""A changed event type is in force from the next INSERT on, though its rule is compiled into a trigger."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import asyncpg

from dispatcher.store.schema import migrate
from tests.parts import insert, refused
from tests.postgres import Database
from tests.refusals import ACCEPTED, problem

QUARRY: Final = (
    "insert into event_type (name, description, fields, sample) values ('q.b', 'x', '{}', '{\"f\":1}')"
)
WITH_F: Final = """update event_type set fields = '{"f": "number"}' where name = 'q.b'"""
WITHOUT_F: Final = "update event_type set fields = '{}' where name = 'q.b'"
MISSES_F: Final = "data.f: missing; q.b needs it"


async def test_changed_rule_applies_in_every_session(
    database: Database, connection: asyncpg.Connection
) -> None:
    """To the next INSERT of a transaction, whatever its session inserted and prepared before the change."""
    changing = await database.connect()
    try:
        prepared = await connection.prepare("insert into outbox (type, data) values ('q.b', '{}')")
        with refused(asyncpg.CheckViolationError, '"q.b" is not a registered event type'):
            await prepared.fetch()
        await changing.execute(QUARRY)
        for _ in range(7):  # by then its plan is kept
            await prepared.fetch()
        await changing.execute(WITH_F)
        with refused(asyncpg.CheckViolationError, MISSES_F):
            await prepared.fetch()
        await changing.execute(WITHOUT_F)
        async with connection.transaction():
            assert 7 == await connection.fetchval("select count(*) from installation, generate_series(1, 7)")
            await changing.execute(WITH_F)
            with refused(asyncpg.CheckViolationError, MISSES_F):
                async with connection.transaction():
                    await prepared.fetch()
        await changing.execute("update event_type set lane = 0, fields = '{}' where name = 'q.b'")
        await prepared.fetch()
        assert 0 == await connection.fetchval("select lane from outbox order by id desc limit 1")
    finally:
        await changing.close()


async def test_new_type_is_there_for_transactions_that_inserted(
    database: Database, connection: asyncpg.Connection
) -> None:
    """A rule that is loosened, too: what the compiled rules do not know or refuse, the table decides."""
    changing = await database.connect()
    try:
        async with connection.transaction():
            await insert(connection)
            await changing.execute(QUARRY)
            assert ACCEPTED == await problem(connection, "{}", "q.b")
        await changing.execute(WITH_F)
        async with connection.transaction():
            assert MISSES_F == await problem(connection, "{}", "q.b")
            await changing.execute(WITHOUT_F)
            assert ACCEPTED == await problem(connection, "{}", "q.b")
    finally:
        await changing.close()


async def test_change_that_is_undone_leaves_the_old_rule(
    database: Database, connection: asyncpg.Connection
) -> None:
    """For the session that rolled back as for others, which never saw it."""
    other = await database.connect()
    try:
        await connection.execute(QUARRY)
        change = connection.transaction()
        await change.start()
        await connection.execute(WITH_F)
        assert MISSES_F == await problem(connection, "{}", "q.b")
        assert ACCEPTED == await problem(other, "{}", "q.b")
        await change.rollback()
        for session in (connection, other):
            assert ACCEPTED == await problem(session, "{}", "q.b")
            assert "data.event_id: missing" in await problem(session, "{}", "event.detected")
    finally:
        await other.close()


async def test_types_registered_at_once(database: Database, connection: asyncpg.Connection) -> None:
    """The second waits for the first; the rules of both are compiled, and every type's are."""
    other = await database.connect()
    try:
        change = connection.transaction()
        await change.start()
        await connection.execute(QUARRY)
        second = asyncio.create_task(other.execute(QUARRY.replace("q.b", "q.c")))
        waiting = "select 1 from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'"
        while not await connection.fetchval(waiting, other.get_server_pid()):
            await connection.execute("select pg_stat_clear_snapshot()")
        await change.commit()
        await second
        missing = (
            "select name from event_type where position(name in $1) = 0 or position(rule::text in $1) = 0"
        )
        assert await connection.fetch(missing, "")
        assert [] == await connection.fetch(missing, await compiled(connection))
        await connection.execute("delete from event_type where name = 'q.b'")
        assert "q.b" not in await compiled(connection)
        assert "q.c" in await compiled(connection)
        assert '"q.b" is not a registered event type' in await problem(connection, "{}", "q.b")
        await connection.execute("truncate event_type")
        assert "q.c" not in await compiled(connection)
    finally:
        await other.close()


async def compiled(connection: asyncpg.Connection) -> str:
    """Give the source of the trigger that holds the rules, with each escaped backslash as one."""
    source: str = await connection.fetchval(
        "select replace(replace(replace(prosrc, '\\\\', '\\'), '\\\\', '\\'), '\\\"', '\"')"
        " from pg_proc where proname = 'outbox_accept'"
    )
    return source


async def test_many_types_are_told_apart(connection: asyncpg.Connection) -> None:
    """Each has its own rule and lane, however many there are and whatever their fields are called."""
    odd = ["q'uote", 'q"uote', "back\\slash", "$$", "%", "%1$L", "{a,b}", "é", "$accept$", "new.lane"]
    for number, name in enumerate(odd):
        await connection.execute(
            "insert into event_type (name, description, fields, lane) values ($1, 'x', $2, $3)",
            f"odd.t{number}", json.dumps({name: "integer"}), number % 3,
        )  # fmt: skip
    for number, name in enumerate(odd):
        assert ACCEPTED == await problem(connection, json.dumps({name: 1}), f"odd.t{number}")
        assert "missing" in await problem(connection, json.dumps({"other": 1}), f"odd.t{number}")
    lanes = await connection.fetch("select type, lane from outbox")
    assert {f"odd.t{number}": number % 3 for number in range(len(odd))} == dict(lanes)


async def test_migrate_compiles_again(database: Database, connection: asyncpg.Connection) -> None:
    """A restore of the data alone may have passed by the triggers of the types."""
    await connection.execute(QUARRY)
    await connection.execute("alter table event_type disable trigger registry_changed")
    await connection.execute(WITH_F)
    await connection.execute("alter table event_type enable trigger registry_changed")
    await migrate(database.url)
    assert MISSES_F == await problem(connection, "{}", "q.b")
