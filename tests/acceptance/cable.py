"""The network between the daemon and PostgreSQL, which can swallow or keep everything without a word.

async with Cable(server.daemon_url) as cable:
    ...  daemons(cable.url, ...)  ...
    cable.swallow()   # nothing arrives any more, no connection ends: a dead switch, a lost route
    cable.restore()   # new connections work; the old ones end
    cable.keep(Way.BACK)   # answers stand still; what was kept arrives late, when it is restored
    cable.forget("dispatcher doorbell")   # only this connection, as firewalls forget one; new ones work
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.postgres import wait_for

if TYPE_CHECKING:
    from types import TracebackType


class Way(enum.Enum):
    """A direction."""

    THERE = enum.auto()  # to PostgreSQL
    BACK = enum.auto()


@dataclass(eq=False)
class _Connection:
    """Both halves of one connection: to the daemon and to PostgreSQL."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    name: str = ""  # its application_name, once its first packet has passed
    dead: bool = False


class Cable:
    """A TCP proxy; an async context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._given_url = url
        self._open: set[_Connection] = set()
        self._joined = 0
        self._works = asyncio.Event()
        self._works.set()
        self._flows = {way: asyncio.Event() for way in Way}
        for flow in self._flows.values():
            flow.set()
        self._known = asyncio.Event()  # that the dead are dead: until then not even their end arrives
        self._known.set()
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
        self.restore()
        for one in self._open:
            one.near.transport.abort()
            one.far.transport.abort()
        await wait_for(lambda: not self._joined, "every connection has ended")

    def swallow(self) -> None:
        """Let nothing through any more, in either direction, nor the end of a connection."""
        self._works.clear()
        self._lose(self._open)

    def forget(self, name: str) -> None:
        """Do the same to the open connection of this application_name alone."""
        lost = {one for one in self._open if one.name == name}
        assert lost, f"{name!r} among {sorted(one.name for one in self._open)}"
        self._lose(lost)

    def keep(self, *ways: Way) -> None:
        """Keep all that comes these ways until `restore`, when it arrives: nothing is lost, all is late."""
        for way in ways:
            self._flows[way].clear()

    def restore(self) -> None:
        """Let new connections through, and the end of those that were lost, and what was kept."""
        for flow in self._flows.values():
            flow.set()
        self._works.set()
        self._known.set()

    def _lose(self, lost: set[_Connection]) -> None:
        self._known.clear()
        for one in lost:
            one.dead = True

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._joined += 1
        ends = {writer}
        both: _Connection | None = None
        try:
            await self._works.wait()  # accepted by the kernel, as far as the other side knows
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            ends.add(far_writer)
            both = _Connection(writer, far_writer)
            self._open.add(both)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(both, Way.THERE, reader, far_writer))
                group.create_task(self._pass(both, Way.BACK, far_reader, writer))
        except OSError:
            return  # PostgreSQL is away
        finally:
            for end in ends:
                end.transport.abort()
            if both is not None:
                self._open.discard(both)
            self._joined -= 1

    async def _pass(
        self, both: _Connection, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                both.name = both.name or _application_name(data)
                await self._flows[way].wait()
                if not both.dead:
                    writer.write(data)
        await self._flows[way].wait()
        if both.dead:
            await self._known.wait()
        writer.close()


def _application_name(data: bytes) -> str:
    """Read it from a startup packet: names and values, each ended by a NUL; empty if this is none."""
    return data.partition(b"\0application_name\0")[2].partition(b"\0")[0].decode()
