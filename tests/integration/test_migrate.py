"""`dispatcher migrate`: makes the schema once, whoever else does so just then, and keeps it whole."""

from __future__ import annotations

import asyncio
import secrets

import asyncpg
import pytest

from dispatcher.core.errors import DatabaseUnavailable, OperatorError
from dispatcher.store.schema import SCHEMA_VERSION, migrate, require_schema, schema_text
from tests.catalogue import catalogue
from tests.parts import refused
from tests.postgres import Database, execute, sibling


async def test_twice_at_once_and_again(empty_database: Database) -> None:
    """One of several creates the schema, the others find it; a later one changes nothing."""
    created = await asyncio.gather(*(migrate(empty_database.url) for _ in range(3)))
    assert [False, False, True] == sorted(one.created for one in created)
    before = await catalogue(empty_database)
    assert len(before) > 200
    assert (False, []) == await migrate(empty_database.url)
    assert before == await catalogue(empty_database)
    await require_schema(empty_database.url)
    connection = await empty_database.connect()
    rows = await connection.fetch(
        "select name from organization join organization_network on id = organization_id"
    )
    version = await connection.fetchval("select schema_version from installation")
    await connection.close()
    assert (["default"], SCHEMA_VERSION) == ([row[0] for row in rows], version)


async def test_settings_of_the_database_change_nothing(empty_database: Database) -> None:
    """Neither a search path, nor a schema of the login's own name, nor how strings are written there."""
    connection = await empty_database.connect()
    name = await connection.fetchval("select quote_ident(current_database())")
    await connection.execute("do $$ begin execute format('create schema %I', current_user); end $$")
    for setting in ("search_path = '$user', pg_catalog", "standard_conforming_strings = off"):
        await connection.execute(f"alter database {name} set {setting}")
    assert (await migrate(empty_database.url)).created
    made = await connection.fetch(
        "select distinct relnamespace::regnamespace::text from pg_class"
        " where relname in ('outbox', 'webhook', 'delivery')"
    )
    assert ["public"] == [row[0] for row in made]
    checks = await connection.fetch("select pg_get_constraintdef(oid) from pg_constraint where contype = 'c'")
    assert any(r"whk\_" in row[0] for row in checks)
    await require_schema(empty_database.url)
    await connection.close()


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "beside others"])
async def test_nobody_else_creates_where_names_are_looked_for(
    empty_database: Database, *, shared: bool
) -> None:
    """PostgreSQL 14 lets everyone; that ends, unless others have tables there, who may need it."""
    connection = await empty_database.connect()
    await connection.execute("grant create on schema public to public")
    if shared:
        await connection.execute("create table theirs ()")
    await migrate(empty_database.url)
    assert shared is await connection.fetchval("select has_schema_privilege('public', 'public', 'create')")
    await connection.close()


async def test_every_installation_has_a_key_of_its_own(database: Database, empty_database: Database) -> None:
    """Public ids of one say nothing about another's."""
    await migrate(empty_database.url)
    keys = []
    for one in (database, empty_database):
        connection = await one.connect()
        keys.append(await connection.fetchval("select id_key from installation"))
        await connection.close()
    assert [16, 16] == [len(key) for key in keys]
    assert keys[0] != keys[1]


async def test_repeats_what_may_have_been_missed(database: Database) -> None:
    """Months that are missing, and the grants of roles that were made later."""
    connection = await database.connect()
    complete = await catalogue(database)
    last = await connection.fetchval(
        "select max(inhrelid::regclass::text) from pg_inherits where inhparent = 'outbox'::regclass"
    )
    await connection.execute(f"drop table {last}; revoke all on outbox from outbox_producer")
    await connection.execute("revoke all on all tables in schema public from dispatcher_daemon")
    assert complete != await catalogue(database)
    assert (False, []) == await migrate(database.url)
    rights = "select has_column_privilege('outbox_producer', 'outbox', 'data', 'insert'),"
    rights += (
        " has_table_privilege('dispatcher_daemon', 'delivery_event', 'insert'), to_regclass($1) is not null"
    )
    assert (True, True, True) == tuple(await connection.fetchrow(rights, last))
    await connection.close()


async def test_schema_of_another_version(database: Database) -> None:
    """A newer one is left alone, by `migrate` and by `serve`, and the operator hears what to do."""
    connection = await database.connect()
    await connection.execute(
        "update installation set schema_version = schema_version + 1, compatible_from = schema_version + 1"
    )
    before = await catalogue(database)
    for check in (migrate, require_schema):
        with pytest.raises(OperatorError, match="install the newer dispatcher"):
            await check(database.url)
    await connection.execute("update installation set schema_version = 0, compatible_from = 0")
    for check in (migrate, require_schema):
        with pytest.raises(OperatorError, match="run `dispatcher migrate`"):
            await check(database.url)
    assert before == await catalogue(database)
    await connection.close()


async def test_database_without_a_schema(empty_database: Database) -> None:
    """The operator hears what to do."""
    with pytest.raises(OperatorError, match="no schema yet: run `dispatcher migrate`"):
        await require_schema(empty_database.url)


async def test_failure_leaves_nothing(empty_database: Database) -> None:
    """Something in the way: all or nothing."""
    await execute(empty_database.url, "create table lease ()")
    with refused(asyncpg.DuplicateTableError, "lease"):
        await migrate(empty_database.url)
    with pytest.raises(OperatorError, match="no schema yet"):
        await require_schema(empty_database.url)


async def test_database_that_cannot_hold_json(postgres_server: str) -> None:
    """An encoding other than UTF-8 is refused before anything is made."""
    name = f"test_{secrets.token_hex(6)}"
    await execute(postgres_server, f"create database {name} template template0 encoding 'LATIN1' locale 'C'")
    try:
        with pytest.raises(OperatorError, match="encoding is LATIN1"):
            await migrate(sibling(postgres_server, name))
    finally:
        await execute(postgres_server, f"drop database {name} with (force)")


async def test_owner_need_not_be_a_superuser(postgres_server: str) -> None:
    """Whoever owns the database can make the schema, and gets all of its promises."""
    name = f"test_{secrets.token_hex(6)}"
    await execute(postgres_server, f"create role {name} login password 'p'")
    await execute(postgres_server, f"create database {name} owner {name}")
    url = f"postgresql://{name}:p@{sibling(postgres_server, name).rpartition('@')[2]}"
    try:
        assert (True, []) == await migrate(url)
        assert (False, []) == await migrate(url)
        with refused(asyncpg.InsufficientPrivilegeError, "append-only"):
            await execute(url, "delete from outbox")
    finally:
        await execute(postgres_server, f"drop database {name} with (force)")
        await execute(postgres_server, f"drop role {name}")


async def test_server_that_is_away(empty_database: Database) -> None:
    """Waiting is for whoever called; nothing hangs."""
    address, _, name = empty_database.url.rpartition("/")
    nowhere = f"{address.rpartition(':')[0]}:1/{name}"
    with pytest.raises(DatabaseUnavailable):
        await migrate(nowhere)


def test_the_schema_is_the_file_that_ships() -> None:
    """What `migrate` applies is `schema.sql`, which operators read."""
    assert "create table outbox" in schema_text()
