"""Creates the schema, brings it forward, and says whether it is one that this version can work with.

How this works: a new database gets `schema.sql`, the newest schema, in one transaction. One that exists gets
the migrations that it lacks, each in a transaction of its own with its number, so that an interruption
leaves it between two of them. A lock on the database lets one migrate at a time. A migration waits for a
table's lock for two seconds at most and then tries again: whoever waits for a lock holds up everyone after
it, and producers must not wait.

The database names two versions: its own, and the oldest one whose dispatcher still works with it. So the
version before goes on working, and can be started again, while its successor is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import structlog

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.errors import OperatorError
from dispatcher.store.away import unavailable_when_away
from dispatcher.store.connection import Database
from dispatcher.store.driver import connect, hang_up
from dispatcher.store.migrations import Migration, read_migrations
from dispatcher.store.queries import QUERIES

SCHEMA_VERSION: Final = 1
_MIGRATION_LOCK: Final = (1735550316, 2)
_LONG_S: Final = 3600.0  # a migration may look at every row; another one may be under way
_TRY_AGAIN_S: Final = 1.0
_TRIES: Final = 300

log = structlog.get_logger("migrate")


class Migrated(NamedTuple):
    """What `migrate` did."""

    created: bool
    applied: list[str]  # names of migrations


def schema_text() -> str:
    """Give `schema.sql`: from the package when installed, from the source tree otherwise."""
    packaged = files("dispatcher.store") / "schema.sql"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "schema.sql").read_text(encoding="utf-8")


async def migrate(
    url: str, config: DatabaseConfig | None = None, migrations: Sequence[Migration] | None = None
) -> Migrated:
    """Bring the database to this version's schema, or to that of other `migrations`.

    Idempotent and safe to run twice at once: a lock on the database makes the second one wait and find
    the work done. Also makes the coming months' partitions, repeats the grants, so that roles created
    later get theirs, and compiles the rules of event types, which a restore may have brought past triggers.
    """
    connection = await connect(url, name="migrate", config=config or DatabaseConfig())
    try:
        with unavailable_when_away():
            async with _alone(connection):
                return await _migrate(connection, read_migrations() if migrations is None else migrations)
    finally:
        await hang_up(connection)


async def _migrate(connection: asyncpg.Connection, migrations: Sequence[Migration]) -> Migrated:
    if await connection.fetchval("select to_regclass('public.installation') is null"):
        await _require_utf8(connection)
        async with connection.transaction():
            await connection.execute(schema_text(), timeout=_LONG_S)
            version = await _check(connection)
        return Migrated(created=True, applied=await _apply(connection, version, migrations))
    version = await _check(connection, SCHEMA_VERSION if not migrations else 1)
    applied = await _apply(connection, version, migrations)
    await _check(connection)
    async with connection.transaction():
        await connection.execute(QUERIES["create_partitions"], 13)
        await connection.execute("select grant_roles()")
        await connection.execute("select outbox_compile()")  # where event types came past their triggers
    return Migrated(created=False, applied=applied)


async def _apply(connection: asyncpg.Connection, version: int, migrations: Sequence[Migration]) -> list[str]:
    applied = []
    for migration in migrations:
        if migration.number > version:
            await _patiently(connection, migration)
            log.warning("migrated", to=migration.number, by=migration.name)
            applied.append(migration.name)
    return applied


async def _patiently(connection: asyncpg.Connection, migration: Migration) -> None:
    """Run a migration once no lock is in its way."""
    for attempt in range(1, _TRIES + 1):
        try:
            async with connection.transaction():
                await connection.execute("set local lock_timeout = '2s'")
                await connection.execute(migration.text, timeout=_LONG_S)
                await connection.execute(
                    QUERIES["set_schema_version"], migration.number, migration.compatible_from
                )
        except asyncpg.LockNotAvailableError:
            if attempt == _TRIES:
                raise
            log.warning("a lock is in the way, trying again", migration=migration.name, attempt=attempt)
            await asyncio.sleep(_TRY_AGAIN_S)
        else:
            return


async def require_schema(url: str, config: DatabaseConfig | None = None) -> None:
    """Raise `OperatorError` unless the database has a schema that this version can work with."""
    connection = await connect(url, name="start", config=config or DatabaseConfig())
    try:
        with unavailable_when_away():
            await check_schema(connection)
    finally:
        await hang_up(connection)


async def check_schema(connection: asyncpg.Connection) -> None:
    """Do the same on a connection that is open already."""
    if await connection.fetchval("select to_regclass('public.installation') is null"):
        raise OperatorError("the database has no schema yet: run `dispatcher migrate`")
    await _check(connection)


async def schema_problem(database: Database) -> str | None:
    """Say in words why this version cannot work with the database's schema, None where it can."""
    (row,) = await database.fetch("schema_version")
    return _problem(row["schema_version"], row["compatible_from"], SCHEMA_VERSION)


@contextlib.asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Hold the lock that lets one migrate at a time; whoever ends without giving it back, loses it too."""
    await connection.execute("select pg_advisory_lock($1, $2)", *_MIGRATION_LOCK, timeout=_LONG_S)
    yield
    await connection.execute("select pg_advisory_unlock($1, $2)", *_MIGRATION_LOCK)


async def _require_utf8(connection: asyncpg.Connection) -> None:
    encoding = await connection.fetchval("select current_setting('server_encoding')")
    if encoding != "UTF8":
        raise OperatorError(
            f"the database's encoding is {encoding}, which cannot hold every JSON text: "
            "make one with `create database … encoding 'UTF8' template template0`"
        )


async def _check(connection: asyncpg.Connection, needed: int = SCHEMA_VERSION) -> int:
    """Give the schema's version; raises `OperatorError` where it is older than needed, or too new for us."""
    row = await connection.fetchrow(QUERIES["schema_version"])
    if row is None:
        raise OperatorError("the database has no installation row: run `dispatcher migrate`")
    problem = _problem(row["schema_version"], row["compatible_from"], needed)
    if problem is not None:
        raise OperatorError(problem)
    version: int = row["schema_version"]
    return version


def _problem(version: int, compatible_from: int, needed: int) -> str | None:
    if compatible_from > SCHEMA_VERSION:
        return (
            f"the database's schema is version {version}, which works with dispatchers for {compatible_from} "
            f"and newer; this one is for {SCHEMA_VERSION}: install the newer dispatcher"
        )
    if version < needed:
        return (
            f"the database's schema is version {version}, this dispatcher needs {SCHEMA_VERSION}: "
            "run `dispatcher migrate`"
        )
    return None
