"""A real PostgreSQL for tests: one embedded server per session, one cloned database per test."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg
import structlog

from dispatcher.store.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

T = TypeVar("T")

POLL_S: Final = 0.01
# Speed for durability: right for data that a test throws away, wrong everywhere else.
UNSAFE_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_prepared_transactions": "10",
    "autovacuum_naptime": "10min",
}


@dataclass(frozen=True)
class Database:
    """A database of one's own; `url` is its owner's, a superuser."""

    url: str

    async def connect(self, **options: Any) -> asyncpg.Connection:
        """Open a connection, for the caller to close; `options` go to asyncpg."""
        return await asyncpg.connect(self.url, ssl=False, **options)


@contextmanager
def enterable_directory() -> Iterator[Path]:
    """Make a temporary directory that PostgreSQL's user can pass when the tests run as root."""
    path = Path(tempfile.mkdtemp(prefix="dispatcher-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def running_server() -> Iterator[str]:
    """Run a server of default settings, durability aside, and yield its URL; for fixtures without a loop."""
    with enterable_directory() as directory:
        server = EmbeddedServer(directory, log=structlog.get_logger(), settings=UNSAFE_SETTINGS)
        url = asyncio.run(server.start())
        try:
            yield url
        finally:
            asyncio.run(server.stop())


def sibling(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return f"{url.rpartition('/')[0]}/{name}"


async def execute(url: str, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(url, ssl=False)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def cloned(server_url: str, template: str) -> AsyncIterator[Database]:
    """Copy the database `template`; the copy is dropped afterwards whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    await execute(server_url, f"create database {name} template {template}")
    try:
        yield Database(sibling(server_url, name))
    finally:
        await execute(server_url, f"drop database {name} with (force)")


async def wait_for(predicate: Callable[[], T | Awaitable[T]], what: str, timeout_s: float = 30.0) -> T:
    """Return `predicate()` once it is true, looking every 10 ms; fails naming `what` after `timeout_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if loop.time() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {value!r}")
        await asyncio.sleep(POLL_S)
