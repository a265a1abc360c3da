"""The receiver of every measurement: answers fixed bytes, counts, and keeps what is needed to check.

The first part of a path is the series that a request counts for; `/slow…` is answered after 100 ms, `/fail…`
with 500, `/hung…` never; of `/storm…` alerts and sensors count apart. What a request costs here is on another
core than what is measured, and small: a few searches in its bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import Any, Final, cast

from bench.child import Order, obey

ANSWER_AFTER_S: Final = 0.1
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_FAILURE: Final = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
_LENGTH: Final = b"content-length: "
_DELIVERY: Final = b"X-Grillo-Delivery: "
_DELIVERY_CHARACTERS: Final = 30
_SAMPLE_ONE_IN: Final = 50


class Series:
    """What arrived for one series."""

    def __init__(self) -> None:
        self.count = 0
        self.deliveries: set[bytes] = set()
        self.samples: list[bytes] = []  # whole requests
        self.newest_ns = 0  # by the monotonic clock, when the last byte of the newest was read
        self.first_ns = 0  # the same, of the first one since it was marked
        self._awaited = 0
        self._reached = asyncio.Event()

    def add(self, request: bytes, now_ns: int) -> None:
        """Count one request."""
        self.newest_ns = now_ns
        self.first_ns = self.first_ns or now_ns
        if self.count % _SAMPLE_ONE_IN == 0:
            self.samples.append(request)
        self.count += 1
        at = request.find(_DELIVERY)
        if at >= 0:
            at += len(_DELIVERY)
            self.deliveries.add(request[at : at + _DELIVERY_CHARACTERS])
        if self.count == self._awaited:
            self._reached.set()

    async def wait(self, requests: int, within_s: float) -> None:
        """Wait for a number of requests, but not for ever."""
        if self.count >= requests:
            return
        self._awaited = requests
        self._reached.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._reached.wait()


class Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, all_series: dict[str, Series]) -> None:
        self._all_series = all_series
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        now_ns = time.monotonic_ns()
        buffer = self._rest + data if self._rest else data
        while buffer:
            head_end = buffer.find(b"\r\n\r\n")
            if head_end < 0:
                break
            at = buffer[:head_end].lower().index(_LENGTH) + len(_LENGTH)
            end = head_end + 4 + int(buffer[at : buffer.index(b"\r", at)])
            if len(buffer) < end:
                break
            self._count(buffer[:end], now_ns)
            buffer = buffer[end:]
        self._rest = buffer

    def _count(self, request: bytes, now_ns: int) -> None:
        name = request[6 : request.index(b" ", 6)].partition(b"/")[0].decode()
        if name == "storm":
            name += "/event" if b"X-Grillo-Event: event." in request else "/sensor"
        series = self._all_series.get(name)
        if series is None:
            series = self._all_series[name] = Series()
        series.add(request, now_ns)
        if name.startswith("slow"):
            self._loop.call_later(ANSWER_AFTER_S, self._answer)
        elif name.startswith("fail"):
            self._transport.write(_FAILURE)
        elif not name.startswith("hung"):
            self._transport.write(_ANSWER)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


class Sink:
    """The server, and the orders that it takes."""

    def __init__(self) -> None:
        self._all_series: dict[str, Series] = {}
        self._port = 0
        self._server: asyncio.Server
        self._tls_server: asyncio.Server | None = None

    async def begin(self) -> None:
        """Listen on a free port."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._all_series), sock=sock)

    async def close(self) -> None:
        """Listen no more; connections end with the process."""
        self._server.close()

    async def _listen_tls(self, file: str) -> int:
        """Listen with TLS on another free port; `file` holds certificate and key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
        loop = asyncio.get_running_loop()
        self._tls_server = await loop.create_server(
            lambda: Connection(self._all_series), sock=sock, ssl=context
        )
        port: int = sock.getsockname()[1]
        return port

    async def carry_out(self, order: Order) -> Any:  # noqa: PLR0911 - one return for each question
        """`port`; of a series `count`, `wait`, `newest`, `mark`, `first`, `samples`, `take`, `forget`."""
        series = self._all_series.setdefault(order.get("series", ""), Series())
        match order["do"]:
            case "port":
                return await self._listen_tls(order["tls"]) if "tls" in order else self._port
            case "count":
                return {"requests": series.count, "deliveries": len(series.deliveries)}
            case "wait":
                await series.wait(order["requests"], order["within_s"])
                return series.count
            case "newest":
                return series.newest_ns
            case "first":
                return series.first_ns
            case "samples":
                return [sample.decode("latin-1") for sample in series.samples]
            case "mark":
                series.first_ns = 0
            case "take":
                counts = {"requests": series.count, "deliveries": len(series.deliveries)}
                del self._all_series[order["series"]]
                return counts
            case "forget":
                del self._all_series[order["series"]]
            case unknown:
                raise ValueError(unknown)
        return None


if __name__ == "__main__":
    obey(Sink())
