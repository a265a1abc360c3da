"""Fixtures for every test; those of PostgreSQL start it only where a test asks for it.

The session's fixtures are ordinary functions with a loop of their own, so that they suit tests whose
loop lives for one function.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

import pytest

from tests.losses import OPTION, Losses
from tests.postgres import Database, cloned, enterable_directory, execute, running_server, sibling

# A shell that started us in the background had SIGINT ignored, and what we start would inherit that: then
# nothing could be interrupted. What is handled here is reset to its default there.
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import asyncpg


# A year of partitions would be most of what is copied for each test.
_DROP_LATER_MONTHS: Final = """
do $$
declare
    part regclass;
begin
    for part in select name from pg_inherits, cast(inhrelid as regclass) as name
                 where name::text ~ '_y[0-9]{4}m[0-9]{2}$'
                   and right(name::text, 8) > to_char(now() + interval '1 month', '"y"YYYY"m"MM') loop
        execute format('drop table %s', part);
    end loop;
end $$
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the option of CI's second run."""
    parser.addoption(
        OPTION, action="store_true", help="refuse to run if the last run lost or doubled a delivery"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Note losses."""
    config.pluginmanager.register(Losses(config))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start this session's own PostgreSQL and yield its URL; each xdist worker has one."""
    with running_server() as url:
        yield url


@pytest.fixture(scope="session")
def whole_template(postgres_server: str) -> str:
    """Make a database as `migrate` leaves it; returns its name, not to be connected to."""
    from dispatcher.store.schema import migrate  # noqa: PLC0415, tests without a database do not need it

    name = "template_whole"
    asyncio.run(execute(postgres_server, f"create database {name}"))
    asyncio.run(migrate(sibling(postgres_server, name)))
    return name


@pytest.fixture(scope="session")
def template_database(postgres_server: str, whole_template: str) -> str:
    """Make the same with partitions for this month and its neighbours only, which is quicker to clone."""
    name = "template_dispatcher"
    asyncio.run(execute(postgres_server, f"create database {name} template {whole_template}"))
    asyncio.run(execute(sibling(postgres_server, name), _DROP_LATER_MONTHS))
    return name


@pytest.fixture
async def database(postgres_server: str, template_database: str) -> AsyncIterator[Database]:
    """Clone a database with the schema, the test's own."""
    async with cloned(postgres_server, template_database) as fresh:
        yield fresh


@pytest.fixture
async def empty_database(postgres_server: str) -> AsyncIterator[Database]:
    """Clone a database without the schema."""
    async with cloned(postgres_server, "template1") as fresh:
        yield fresh


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Name a data_dir that does not exist yet, where PostgreSQL's user can pass."""
    with enterable_directory() as directory:
        yield directory / "var"


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection to the test's database, as its owner, a superuser."""
    opened = await database.connect()
    yield opened
    await opened.close()
