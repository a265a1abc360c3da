"""Numbered migrations: forward only, the same schema in the end, and nobody is held up meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from dispatcher.core.errors import OperatorError
from dispatcher.store.migrations import read_migrations
from dispatcher.store.schema import SCHEMA_VERSION, migrate, require_schema, schema_text
from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import moody, slow
from tests.catalogue import catalogue
from tests.parts import insert
from tests.postgres import Database, cloned, execute, wait_for

RELEASED: Final = (
    Path(__file__).parents[1] / "data" / "schemas"
)  # schema.sql of each version that was released

# What a migration looks like: it adds, and keeps what the version before works with.
EXAMPLE: Final = """-- Webhooks have a colour, for the dashboard.
-- compatible from: 1
alter table webhook add column colour text check (colour <> '');
create table palette (name text primary key);
alter table outbox add column colour text;
"""


@pytest.fixture
async def database(postgres_server: str, whole_template: str) -> AsyncIterator[Database]:
    """Clone a database with every partition that `migrate` makes."""
    async with cloned(postgres_server, whole_template) as fresh:
        yield fresh


def folder(directory: Path, **texts: str) -> Path:
    """Write migrations: `_0002_colour="…"`."""
    for name, text in texts.items():
        (directory / f"{name.removeprefix('_')}.sql").write_text(text)
    return directory


def test_a_migration_names_its_number_and_what_it_keeps_working(tmp_path: Path) -> None:
    """In order, without gaps, and never shutting out the version before."""
    assert [] == read_migrations(folder(tmp_path))
    (read,) = read_migrations(folder(tmp_path, _0002_colour=EXAMPLE))
    assert (2, "0002_colour.sql", 1) == (read.number, read.name, read.compatible_from)
    for name, text in (
        ("_0004_gap", EXAMPLE),
        ("_0003_silent", "select 1;"),
        ("_0003_harsh", "-- compatible from: 3\n"),
        ("_3_short", EXAMPLE),
    ):
        folder(tmp_path, **{name: text})
        with pytest.raises(ValueError, match="expected"):
            read_migrations(tmp_path)
        (tmp_path / f"{name[1:]}.sql").unlink()


def test_the_versions_agree() -> None:
    """The last migration leads to this version, and so does `schema.sql`."""
    migrations = read_migrations()
    last = migrations[-1] if migrations else None
    assert SCHEMA_VERSION == (last.number if last else 1)
    inserted = f"values ({SCHEMA_VERSION}, {last.compatible_from if last else 1});"
    assert f"insert into installation (schema_version, compatible_from) {inserted}" in schema_text()


def released(version: int) -> str:
    """Give the schema of a version: the present one is `schema.sql` until the next one freezes it."""
    if version == SCHEMA_VERSION:
        return schema_text()
    return (RELEASED / f"{version:04}.sql").read_text("utf-8")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
async def test_every_earlier_schema_comes_to_be_this_one(
    database: Database, empty_database: Database, version: int
) -> None:
    """By the catalogue; and what was in it is still there."""
    connection = await empty_database.connect()
    async with connection.transaction():
        await connection.execute(released(version))
    await insert(connection)
    before = await connection.fetchrow("select id, xid, type, data::text, recorded_at from outbox")
    done = await migrate(empty_database.url)
    assert [one.name for one in read_migrations()[version - 1 :]] == done.applied
    after = await connection.fetchrow("select id, xid, type, data::text, recorded_at from outbox")
    await connection.close()
    assert before == after
    assert await catalogue(database) == await catalogue(empty_database)


async def test_the_catalogue_tells_schemas_apart(database: Database, empty_database: Database) -> None:
    """Else the test above would prove nothing: each of these makes a difference."""
    await migrate(empty_database.url)
    whole = await catalogue(database)
    assert len(whole) > 200
    assert whole == await catalogue(empty_database)
    for change in (
        "alter table webhook add column colour text",
        "alter table webhook alter column description drop default",
        "drop index webhook_by_version",
        "alter table outbox disable trigger accept",
        "grant delete on webhook to dispatcher_daemon",
        "alter table webhook alter column url drop not null",
        "create or replace function grant_roles() returns void language sql as ''",
        "alter table lease drop constraint lease_pkey",
        "update event_type set lane = 2 where name = 'event.detected'",
    ):
        before = await catalogue(empty_database)
        await execute(empty_database.url, change)
        assert before != await catalogue(empty_database), change


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    """Write the example."""
    return folder(tmp_path, _0002_colour=EXAMPLE)


async def test_a_migration_is_applied_once(database: Database, version_2: Path) -> None:
    """Also by several at once; it is recorded with it; the version before may still be started."""
    migrations = read_migrations(version_2)
    done = await asyncio.gather(*(migrate(database.url, None, migrations) for _ in range(3)))
    assert [[], [], ["0002_colour.sql"]] == sorted(one.applied for one in done)
    connection = await database.connect()
    versions = await connection.fetchrow("select schema_version, compatible_from from installation")
    await connection.close()
    assert (2, 1) == tuple(versions)
    await require_schema(database.url)  # which knows version 1 alone
    assert [] == (await migrate(database.url)).applied  # and so does its `migrate`


async def test_a_migration_that_fails_leaves_nothing(database: Database, tmp_path: Path) -> None:
    """What it did is undone, with its number; the ones before stay."""
    broken = "-- compatible from: 2\ncreate table half ();\nselect 1 / 0;\n"
    migrations = read_migrations(folder(tmp_path, _0002_colour=EXAMPLE, _0003_broken=broken))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database.url, None, migrations)
    connection = await database.connect()
    row = await connection.fetchrow(
        "select schema_version, to_regclass('half') is null as gone from installation"
    )
    await connection.close()
    assert (2, True) == tuple(row)


async def test_a_schema_that_is_too_new_is_refused(database: Database) -> None:
    """Where it says so; the operator hears what to do."""
    await execute(database.url, "update installation set schema_version = 9, compatible_from = 8")
    for check in (migrate, require_schema):
        with pytest.raises(OperatorError, match="install the newer dispatcher"):
            await check(database.url)


async def test_producers_are_not_held_up(database: Database, version_2: Path) -> None:
    """A long reader holds the outbox: the migration steps aside again and again, and INSERTs go through."""
    reader, producer = await database.connect(), await database.connect()
    try:
        async with reader.transaction():
            await reader.execute("select count(*) from outbox")
            migrating = asyncio.create_task(migrate(database.url, None, read_migrations(version_2)))
            waits = "select count(*) from pg_locks where not granted and relation = 'outbox'::regclass"
            for _ in range(2):  # it waits for the lock, gives up, and comes again
                await wait_for(lambda: producer.fetchval(waits), "the migration waits")
                await insert(producer)
            assert not migrating.done()
        assert ["0002_colour.sql"] == (await migrating).applied
        assert 2 == await producer.fetchval("select count(*) from outbox")
    finally:
        await reader.close()
        await producer.close()


@pytest.mark.slow
async def test_an_upgrade_under_load_loses_nothing(
    database: Database, tmp_path: Path, version_2: Path
) -> None:
    """A daemon and a standby of the version before work on, are restarted, and every event arrives once."""
    async with Harness(database.url, seed=7) as world:
        await world.subscribe(["*"], slow(0.1))
        await world.subscribe(["event.*"], moody(world.rng, 0.2))
        async with daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S=RETRY_DELAYS_S) as house:
            leader = await house.start()
            await house.start()
            async with world.producing(real_events(), pause_s=0.01):
                await world.under_way(1)
                done = await migrate(database.url, None, read_migrations(version_2))
                assert ["0002_colour.sql"] == done.applied
                leader.kill()
                await leader.ended()
                await house.start()
                await world.under_way(1)
            await world.settled()
            assert [] == house.complaints()
        await world.conserved()
