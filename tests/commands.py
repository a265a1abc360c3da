"""Runs `dispatcher` as people do: as a process, with arguments, an environment and pipes.

Each runs in an empty directory of its own: `data_dir` is relative, and a developer's `var/` in the checkout
is no part of a test.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPOSITORY: Final = Path(__file__).parents[1]
WITHIN_S: Final = 60.0


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: int | None
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Standard output's lines."""
        return self.out.splitlines()


def environment(url: str = "") -> dict[str, str]:
    """Give this process's environment without other dispatchers' settings; `url` names the database."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return environ | {"DISPATCHER_DATABASE__URL": url} if url else environ


@asynccontextmanager
async def running(*arguments: str, url: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command beside the block; it is killed at the end if it has not ended by then."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-command-") as empty:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dispatcher",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=empty,
            env=environment(url),
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def run(*arguments: str, url: str = "", stdin: str = "") -> Ended:
    """Run a command to its end."""
    async with running(*arguments, url=url) as process, asyncio.timeout(WITHIN_S):
        out, err = await process.communicate(stdin.encode())
        return Ended(process.returncode, out.decode(), err.decode())


async def line(process: asyncio.subprocess.Process) -> str:
    """Wait for the next line of a running command's output."""
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        return (await process.stdout.readline()).decode().rstrip("\n")
