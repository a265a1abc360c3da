"""A process of the bench's own, on a core of its own, that takes one order a line and answers one line.

Both ends are here: `Child` for the one that gives orders, `obey` for the one that carries them out. Orders
and answers are JSON on standard input and output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import uvloop

_ROOT: Final = Path(__file__).parents[1]
_LONGEST_LINE: Final = 64 * 2**20
_PATIENCE_S: Final = 90.0

Order: TypeAlias = dict[str, Any]


def pinned(*cores: int) -> list[str]:
    """Give the beginning of a command that runs on these cores alone."""
    return [sys.executable, "-m", "bench.pinned", ",".join(map(str, cores))]


class Child:
    """The end that gives orders."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, do: str, **details: Any) -> Any:
        """Give one order and wait for the answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a child was started without pipes")
        stdin.write(msgspec.json.encode({"do": do, **details}) + b"\n")
        async with asyncio.timeout(_PATIENCE_S):
            line = await stdout.readline()
        if not line:
            raise RuntimeError(f"the bench's process {self.pid} ended while it was to {do}")
        return msgspec.json.decode(line)


@contextlib.asynccontextmanager
async def running_child(module: str, core: int, *arguments: str) -> AsyncIterator[Child]:
    """Run `python -m module` with arguments on one core; it ends when the block does."""
    process = await asyncio.create_subprocess_exec(
        *pinned(core),
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        limit=_LONGEST_LINE,
    )
    try:
        yield Child(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()  # its end of orders
        await process.wait()


class Servant(Protocol):
    """What carries out orders."""

    async def begin(self) -> None:
        """Make ready, in the loop that will serve."""

    async def carry_out(self, order: Order) -> Any:
        """Carry out one order; the answer has to be JSON."""

    async def close(self) -> None:
        """Give back what `begin` took."""


def obey(servant: Servant) -> None:
    """Carry out orders from standard input until it ends."""

    async def work() -> None:
        await servant.begin()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            answer = msgspec.json.encode(await servant.carry_out(msgspec.json.decode(line))) + b"\n"
            while answer:
                answer = answer[os.write(1, answer) :]
        await servant.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
