"""A real PostgreSQL for tests: one embedded server per session, one cloned database per test."""

from __future__ import annotations

import asyncio
import inspect
import os
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
MEMORY: Final = "/dev/shm"
NEEDED_BYTES: Final = 4 * 1024**3
# Speed for durability: right for data that a test throws away, wrong everywhere else.
UNSAFE_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_prepared_transactions": "10",
    "autovacuum_naptime": "10min",
    "max_wal_size": "256MB",
}


@dataclass(frozen=True)
class Database:
    """A database of one's own; `url` is its owner's, a superuser."""

    url: str

    async def connect(self, **options: Any) -> asyncpg.Connection:
        """Open a connection, for the caller to close; `options` go to asyncpg."""
        return await asyncpg.connect(self.url, ssl=False, **options)


def _in_memory() -> str | None:
    """Name a directory in memory with room for clusters, None where there is none.

    A clone is five hundred files: on a disk's file system tests take almost twice the CPU.
    """
    try:
        state = os.statvfs(MEMORY)
    except OSError:
        return None
    room = state.f_bavail * state.f_frsize
    # PostgreSQL's programs may have to be copied beside the cluster, and are to run there.
    fits = room >= NEEDED_BYTES and not state.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK)
    return MEMORY if fits else None


@contextmanager
def enterable_directory() -> Iterator[Path]:
    """Make a temporary directory that PostgreSQL's user can pass when the tests run as root."""
    path = Path(tempfile.mkdtemp(prefix="dispatcher-test-", dir=_in_memory()))
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


async def clone(server_url: str, name: str, template: str) -> None:
    """Copy the database `template`, nobody being connected to it."""
    connection = await asyncpg.connect(server_url, ssl=False)
    try:
        # File by file is half as dear as page by page through the log, and so is dropping the copy.
        how = " strategy file_copy" if connection.get_server_version().major >= 15 else ""
        await connection.execute(f"create database {name} template {template}{how}")
    finally:
        await connection.close()


@asynccontextmanager
async def cloned(server_url: str, template: str) -> AsyncIterator[Database]:
    """Copy the database `template`; the copy is dropped afterwards whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    await clone(server_url, name, template)
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
