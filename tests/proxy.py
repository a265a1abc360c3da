"""An egress proxy on a free port of 127.0.0.1: speaks CONNECT, asks for a password, and remembers the asking.

    async with EgressProxy(credentials="user:secret") as proxy:
        ...  proxy_url=proxy.url("user", "secret")  ...
        proxy.asked  # ["127.0.0.1:4711"]

`lead` maps what is asked for to where it really goes, so that a test can have a receiver at a public address.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

CONNECTED = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n"


class EgressProxy:
    """The proxy; `answer` is what it says instead of connecting, None to connect."""

    def __init__(
        self,
        *,
        credentials: str | None = None,
        answer: bytes | None = None,
        lead: Mapping[str, tuple[str, int]] | None = None,
        host: str = "127.0.0.1",
        silent: str = "",
    ) -> None:
        self.credentials = credentials
        self.answer = answer
        self.lead = lead or {}
        self.silent = silent  # the authority for which it says nothing
        self.asked: list[str] = []  # the authorities, in order
        self.heads: list[bytes] = []
        self.host = host
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, user: str = "", password: str = "") -> str:
        """Give the value of `delivery.proxy_url`."""
        userinfo = f"{user}:{password}@" if user else ""
        return f"http://{userinfo}{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; on the port of the last time, if there was one."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End every tunnel, and refuse connections from now on."""
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, EOFError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        authority = head.split(b" ")[1].decode()
        self.asked.append(authority)
        if self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
            return
        if self.credentials is not None:
            wanted = b"Proxy-Authorization: Basic " + base64.b64encode(self.credentials.encode()) + b"\r\n"
            if wanted not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return
        if authority == self.silent:
            await reader.read()
            return
        host, _, port = authority.rpartition(":")
        try:
            away, back = await asyncio.open_connection(
                *self.lead.get(authority, (host.strip("[]"), int(port)))
            )
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        try:
            writer.write(CONNECTED)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, back))
                group.create_task(_pump(away, writer))
        finally:
            back.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.close()
