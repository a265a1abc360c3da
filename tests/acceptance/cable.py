"""The network between the daemon and PostgreSQL, which can swallow everything without a word.

async with Cable(server.daemon_url) as cable:
    ...  daemons(cable.url, ...)  ...
    cable.swallow()   # nothing arrives any more, no connection ends: a dead switch, a lost route
    cable.restore()   # new connections work; the old ones end
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.postgres import wait_for

if TYPE_CHECKING:
    from types import TracebackType


class Cable:
    """A TCP proxy; an async context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._given_url = url
        self._open: set[asyncio.StreamWriter] = set()
        self._dead: set[asyncio.StreamWriter] = set()
        self._joined = 0
        self._works = asyncio.Event()
        self._works.set()
        self._server: asyncio.Server
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        host, far_port = self._target
        self.url = self._given_url.replace(f"{host}:{far_port}", f"127.0.0.1:{port}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._works.set()
        for writer in self._open:
            writer.transport.abort()
        await wait_for(lambda: not self._joined, "every connection has ended")

    def swallow(self) -> None:
        """Let nothing through any more, in either direction, nor the end of a connection."""
        self._dead |= self._open
        self._works.clear()

    def restore(self) -> None:
        """Let new connections through."""
        self._works.set()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._joined += 1
        ends = {writer}
        try:
            await self._works.wait()  # accepted by the kernel, as far as the other side knows
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            ends.add(far_writer)
            self._open |= ends
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, far_writer))
                both.create_task(self._pass(far_reader, writer))
        except OSError:
            return  # PostgreSQL is away
        finally:
            for end in ends:
                end.transport.abort()
            self._open -= ends
            self._dead -= ends
            self._joined -= 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if writer not in self._dead:
                    writer.write(data)
        if writer in self._dead:  # not even the end arrives, while the other side is asked to wait
            await self._works.wait()
        writer.close()
