"""What the figures are compared with: a bare, tuned aiohttp client, and a bare NOTIFY; no dispatcher.

The client sends requests that the dispatcher has sent before, header and body, over kept-alive connections:
uvloop, no cookie jar, URL and headers prepared once, the body as bytes, the answer read.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import aiohttp
import asyncpg
from multidict import CIMultiDict
from yarl import URL

from bench.child import Order, obey

# The sender's own; the client adds them again.
_FRAMING: Final = frozenset({"host", "content-length"})
CHANNEL: Final = "bench"
_PATIENCE_S: Final = 10.0


class Baseline:
    """The orders that it takes."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession
        self._requests: list[tuple[CIMultiDict[str], bytes]] = []
        self._url = URL()
        self._heard_ns: list[int] = []
        self._hearing = asyncio.Event()
        self._listening: asyncpg.Connection | None = None

    async def begin(self) -> None:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=600),
            skip_auto_headers=("Accept", "Accept-Encoding"),
        )

    async def close(self) -> None:
        """Close the session and the listening connection."""
        await self._session.close()
        if self._listening is not None:
            await self._listening.close()

    async def carry_out(self, order: Order) -> Any:
        """`prepare`, `flood`, `post`, `listen`, `heard`."""
        match order["do"]:
            case "prepare":
                self._url = URL(order["url"])
                self._requests = [_parse(sample) for sample in order["samples"]]
                return len(self._requests)
            case "flood":
                return await self._flood(order["seconds"], order["connections"])
            case "post":
                handed_over_ns = time.monotonic_ns()
                await self._post(0)
                return handed_over_ns
            case "listen":
                self._listening = await asyncpg.connect(order["database_url"], ssl=False)
                await self._listening.add_listener(CHANNEL, self._hear)
                return None
            case "heard":
                async with asyncio.timeout(_PATIENCE_S):
                    while len(self._heard_ns) < order["count"]:
                        self._hearing.clear()
                        await self._hearing.wait()
                return self._heard_ns[-1]
            case unknown:
                raise ValueError(unknown)

    async def _flood(self, seconds: float, connections: int) -> dict[str, float]:
        done = 0
        started = time.monotonic()
        ends = started + seconds
        cpu_before = time.process_time()

        async def work(number: int) -> None:
            nonlocal done
            while time.monotonic() < ends:
                await self._post(number)
                done += 1

        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(work(number))
        return {
            "requests": done,
            "seconds": time.monotonic() - started,
            "cpu_s": time.process_time() - cpu_before,
        }

    async def _post(self, number: int) -> None:
        headers, body = self._requests[number % len(self._requests)]
        async with self._session.post(self._url, data=body, headers=headers) as response:
            await response.read()
            if response.status != 200:
                raise RuntimeError(f"the sink answered {response.status}")

    def _hear(self, *_details: object) -> None:
        self._heard_ns.append(time.monotonic_ns())
        self._hearing.set()


def _parse(sample: str) -> tuple[CIMultiDict[str], bytes]:
    head, _, body = sample.partition("\r\n\r\n")
    fields = [line.partition(": ") for line in head.split("\r\n")[1:]]
    kept = [(name, value) for name, _, value in fields if name.lower() not in _FRAMING]
    return CIMultiDict(kept), body.encode("latin-1")


if __name__ == "__main__":
    obey(Baseline())
