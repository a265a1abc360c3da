"""A receiver on a free port of 127.0.0.1 that does to a request exactly what a test tells it to.

    async with Receiver() as receiver:                    # answers 200 to everything
        ...  deliver to receiver.url("/hook")  ...
        await receiver.wait_for(1)
        receiver.requests[0].body

    Receiver(answer(503, headers=[("Retry-After", "120")]))    # always the same
    Receiver([answer(500), reset(), answer(200)])              # in turn, the last one for ever
    Receiver(by_request(lambda request: answer(200 if request.path == "/ok" else 500)))

It speaks HTTP/1.1 in the raw, so that it can also speak it wrongly. It keeps what arrived
(`requests`, in order of arrival) and nothing here sleeps for a condition: `wait_for` and `wait_until`
wait for facts, with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

WAIT_S = 10.0


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str  # the request target, with its query
    version: str
    headers: list[tuple[str, str]]  # in order, names as written
    body: bytes
    connection: int  # 1 for the first connection, 2 for the second, …
    arrived_at: float  # `time.monotonic()` when the last byte of it had been read

    def header(self, name: str) -> str | None:
        """Give the first value of a header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Exchange:
    """What a behaviour gets: the request (None before one was read), and the raw connection."""

    request: Request | None
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    receiver: Receiver
    keep: bool = field(default=True)  # read another request from this connection afterwards

    async def send(self, data: bytes) -> None:
        """Write bytes and wait until the connection takes more; counted in `receiver.sent_bytes`."""
        self.writer.write(data)
        await self.writer.drain()
        self.receiver.sent_bytes += len(data)

    def reset(self) -> None:
        """End the connection with a TCP reset instead of a goodbye."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.keep = False

    def half_close(self) -> None:
        """Say that nothing more will be sent (FIN), and keep the other direction open."""
        self.writer.write_eof()

    def close(self) -> None:
        """End the connection politely."""
        self.writer.close()
        self.keep = False


Behaviour: TypeAlias = Callable[[Exchange], Awaitable[None]]
Script: TypeAlias = Behaviour | Sequence[Behaviour]


def response(
    status: int = 200, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, reason: str = "Whatever"
) -> bytes:
    """Write a whole response; Content-Length is added unless the headers frame the body themselves."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    names = {line.partition(":")[0].lower() for line in lines[1:]}
    if not names & {"content-length", "transfer-encoding"} and status >= 200 and status not in {204, 304}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answer(status: int = 200, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Behaviour:
    """Answer with this; `("Connection", "close")` among the headers also closes."""
    data = response(status, headers, body)
    close = any(name.lower() == "connection" and value.lower() == "close" for name, value in headers)

    async def behave(exchange: Exchange) -> None:
        await exchange.send(data)
        if close:
            exchange.close()

    return behave


def raw(data: bytes, *, then: Behaviour | None = None) -> Behaviour:
    """Write these bytes, whatever they are; then close, unless told what to do next."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(data)
        await (then or close())(exchange)

    return behave


def after(event: asyncio.Event, then: Behaviour | None = None) -> Behaviour:
    """Wait until the test sets the event, then go on (by default: answer 200)."""

    async def behave(exchange: Exchange) -> None:
        await event.wait()
        await (then or answer())(exchange)

    return behave


def later(delay_s: float, then: Behaviour | None = None) -> Behaviour:
    """Take this long, as real receivers do, then go on (by default: answer 200)."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.sleep(delay_s)
        await (then or answer())(exchange)

    return behave


def drip(data: bytes, every_s: float = 0.01, *, then: Behaviour | None = None) -> Behaviour:
    """Write these bytes one at a time; then go on reading requests, unless told what to do next."""

    async def behave(exchange: Exchange) -> None:
        for index in range(len(data)):
            await exchange.send(data[index : index + 1])
            await asyncio.sleep(every_s)
        if then is not None:
            await then(exchange)

    return behave


def endless(chunk: bytes, *, start: bytes = b"", every_s: float = 0.0) -> Behaviour:
    """Write `start`, then the chunk again and again until the other side goes away."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(start)
        while True:
            await exchange.send(chunk)
            await asyncio.sleep(every_s)

    return behave


def interim(count: int, status: int = 103, then: Behaviour | None = None) -> Behaviour:
    """Write so many informational answers, then go on (by default: answer 200)."""
    return raw(response(status) * count, then=then or answer())


def by_request(pick: Callable[[Request], Behaviour]) -> Behaviour:
    """Do what `pick` chooses for the request."""

    async def behave(exchange: Exchange) -> None:
        if exchange.request is None:
            raise RuntimeError("nothing was read yet: choose after the request")
        await pick(exchange.request)(exchange)

    return behave


def reset() -> Behaviour:
    """End the connection with a TCP reset."""

    async def behave(exchange: Exchange) -> None:
        exchange.reset()

    return behave


def half_close(*, then: Behaviour | None = None) -> Behaviour:
    """Send no more, and hold the other direction open until the other side goes away."""

    async def behave(exchange: Exchange) -> None:
        exchange.half_close()
        await (then or hang())(exchange)

    return behave


def close() -> Behaviour:
    """End the connection without another word."""

    async def behave(exchange: Exchange) -> None:
        exchange.close()

    return behave


def hang() -> Behaviour:
    """Say nothing, and hold the connection until the other side goes away."""

    async def behave(exchange: Exchange) -> None:
        while await exchange.reader.read(65_536):
            pass
        exchange.close()

    return behave


def stall() -> Behaviour:
    """Say nothing and read nothing, until the receiver itself ends."""

    async def behave(_: Exchange) -> None:
        await asyncio.Event().wait()

    return behave


class Receiver:
    """The receiver: an async context manager; see the module for how it is told what to do.

    `on_connect` is done before anything is read from a connection, `on_head` after the request's header
    and before its body; what they leave open goes on as usual.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        on_connect: Behaviour | None = None,
        on_head: Behaviour | None = None,
        ssl_context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.script: Script = script if script is not None else answer()
        self.requests: list[Request] = []
        self.connections = 0  # accepted so far
        self.open = 0  # connections open now
        self.sent_bytes = 0  # accepted by the kernel and asyncio's buffer (64 KiB) so far
        self.host = host
        self.port = port
        self._on_connect = on_connect
        self._on_head = on_head
        self._ssl = ssl_context
        self._served = 0
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, self.host, self.port, ssl=self._ssl, backlog=4096
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the listener and every connection; may be called early, to play a receiver that died."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def hang_up(self) -> None:
        """End every connection that is open, and go on listening."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        """Give a URL that leads here; `host` is a name that resolves to this address."""
        scheme = "https" if self._ssl else "http"
        return f"{scheme}://{host or self.host}:{self.port}{path}"

    async def wait_for(self, count: int, timeout_s: float = WAIT_S) -> list[Request]:
        """Wait until so many requests have arrived whole, and give all that have."""
        await self.wait_until(lambda: len(self.requests) >= count, timeout_s, f"{count} requests")
        return self.requests

    async def wait_until(
        self, fact: Callable[[], bool], timeout_s: float = WAIT_S, what: str = "the fact"
    ) -> None:
        """Wait until `fact()` holds; it is asked whenever a request arrives or a connection comes or goes."""
        try:
            async with asyncio.timeout(timeout_s):
                while not fact():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(
                f"waited {timeout_s} s for {what}: {len(self.requests)} requests on "
                f"{self.connections} connections, {self.open} of them open"
            ) from None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self._changed.set()
        try:
            await self._converse(Exchange(None, reader, writer, self), self.connections)
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the other side went away, which it may; or the test is over
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self.open -= 1
            self._changed.set()
            if task is not None:
                self._tasks.discard(task)

    async def _converse(self, exchange: Exchange, connection: int) -> None:
        if self._on_connect is not None:
            await self._on_connect(exchange)
        while exchange.keep:
            exchange.request = await self._read(exchange, connection)
            self.requests.append(exchange.request)
            self._changed.set()
            await self._next()(exchange)

    async def _read(self, exchange: Exchange, connection: int) -> Request:
        head = (await exchange.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, path, version = first.split(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        if self._on_head is not None:
            await self._on_head(exchange)
            if not exchange.keep:
                raise EOFError
        body = await exchange.reader.readexactly(length)
        return Request(method, path, version, headers, body, connection, time.monotonic())

    def _next(self) -> Behaviour:
        if not isinstance(self.script, Sequence):
            return self.script
        number = self._served
        self._served += 1
        return self.script[min(number, len(self.script) - 1)]


def free_port() -> int:
    """Give a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
