"""Creates the schema and says whether it is the one that this version needs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import asyncpg

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.errors import OperatorError
from dispatcher.store.away import unavailable_when_away
from dispatcher.store.connection import Database, connect
from dispatcher.store.queries import QUERIES

SCHEMA_VERSION: Final = 1
_MIGRATION_LOCK: Final = (1735550316, 2)


def schema_text() -> str:
    """Give `schema.sql`: from the package when installed, from the source tree otherwise."""
    packaged = files("dispatcher.store") / "schema.sql"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "schema.sql").read_text(encoding="utf-8")


async def migrate(url: str, config: DatabaseConfig | None = None) -> bool:
    """Bring the database to this version's schema; true if anything was created.

    Idempotent and safe to run twice at once: a lock on the database makes the second one wait and find
    the work done. Also makes the coming months' partitions and repeats the grants, so that roles created
    later get theirs.
    """
    connection = await connect(url, name="migrate", config=config or DatabaseConfig())
    try:
        with unavailable_when_away():
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock($1, $2)", *_MIGRATION_LOCK)
                created = await connection.fetchval("select to_regclass('public.installation') is null")
                if created:
                    await _require_utf8(connection)
                    await connection.execute(schema_text())
                _check(await connection.fetchval(QUERIES["schema_version"]))
                if not created:
                    await connection.execute(QUERIES["create_partitions"], 13)
                    await connection.execute("select grant_roles()")
                return bool(created)
    finally:
        await connection.close()


async def require_schema(url: str, config: DatabaseConfig | None = None) -> None:
    """Raise `OperatorError` unless the database has the schema of this version."""
    connection = await connect(url, name="start", config=config or DatabaseConfig())
    try:
        with unavailable_when_away():
            if await connection.fetchval("select to_regclass('public.installation') is null"):
                raise OperatorError("the database has no schema yet: run `dispatcher migrate`")
            _check(await connection.fetchval(QUERIES["schema_version"]))
    finally:
        await connection.close()


async def schema_problem(database: Database) -> str | None:
    """Say in words why the database's schema is not the one of this version, None where it is."""
    (row,) = await database.fetch("schema_version")
    try:
        _check(row[0])
    except OperatorError as error:
        return str(error)
    return None


async def _require_utf8(connection: asyncpg.Connection) -> None:
    encoding = await connection.fetchval("select current_setting('server_encoding')")
    if encoding != "UTF8":
        raise OperatorError(
            f"the database's encoding is {encoding}, which cannot hold every JSON text: "
            "make one with `create database … encoding 'UTF8' template template0`"
        )


def _check(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise OperatorError(
            f"the database's schema is version {version}, this dispatcher knows {SCHEMA_VERSION}: "
            "install the newer dispatcher"
        )
    if version < SCHEMA_VERSION:
        raise OperatorError(
            f"the database's schema is version {version}, this dispatcher needs {SCHEMA_VERSION}: "
            "run `dispatcher migrate`"
        )
