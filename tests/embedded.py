"""Embedded servers for tests: run here, or owned by a process of their own that can be killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from dispatcher.store.embedded import EmbeddedServer
from dispatcher.store.embedded.home import find_home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPOSITORY: Final = Path(__file__).parents[1]
SITE_PACKAGES: Final = Path(asyncpg.__file__).parents[1]
LOG: Final = structlog.get_logger()
UNSYNCED: Final = {"fsync": "off"}
WRITE: Final = "create table kept as select 'one row' as value"
KEPT: Final = "select value = 'one row' from kept"
ALIVE: Final = "select true"
OWNER: Final = """
import asyncio, os, sys, structlog
from pathlib import Path
from dispatcher.store.embedded import EmbeddedServer
async def main():
    log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    server = EmbeddedServer(Path(sys.argv[1]), log=log, settings={"fsync": "off"})
    print("READY", await server.start(), os.geteuid(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()
asyncio.run(main())
"""


def server_in(data_dir: Path, **options: Any) -> EmbeddedServer:
    """Make a server of `data_dir`, not started, quick rather than durable."""
    return EmbeddedServer(data_dir, **{"log": LOG, "settings": UNSYNCED, **options})


@asynccontextmanager
async def running(data_dir: Path, **options: Any) -> AsyncIterator[str]:
    """Run a server, watched, for the duration of the block; yields its URL."""
    server = server_in(data_dir, **options)
    try:
        url = await server.start()
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(server.supervise())
            yield url
            watch.cancel()
    finally:
        await server.stop()


async def fetch(url: str, query: str) -> Any:
    """Ask for one value on a connection of its own."""
    connection = await asyncpg.connect(url, ssl=False, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def fetch_again(url: str, query: str) -> Any:
    """Fetch from a server that may be away for a while."""
    try:
        return await fetch(url, query)
    except (OSError, asyncpg.PostgresError):
        return None


def postmaster(data_dir: Path) -> int:
    """Read the number of the server that runs in `data_dir`."""
    return int((find_home(data_dir).cluster / "postmaster.pid").read_text().split()[0])


def spawn_owner(data_dir: Path, python: str = sys.executable, **options: Any) -> subprocess.Popen[str]:
    """Start a process of its own that owns a server until its stdin ends."""
    return subprocess.Popen(
        [python, "-c", OWNER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={
            "PATH": os.defpath,
            "PYTHONPATH": f"{REPOSITORY}:{SITE_PACKAGES}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        **options,
    )


def ready(owner: subprocess.Popen[str]) -> list[str]:
    """Wait until `owner` serves: its URL and its user's number."""
    assert owner.stdout is not None
    line = owner.stdout.readline().split()
    assert line, "the owner ended before it served"
    return line[1:]


def end(owner: subprocess.Popen[str]) -> int:
    """Let `owner` stop its server and end, or reap it if it is dead already."""
    owner.communicate(timeout=60)
    return owner.returncode
