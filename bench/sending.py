"""A sender by itself, in a process of its own: `python -m bench.sending [CHECKOUT]`, or `session`.

With the folder of a checkout it is that checkout's sender, by which two commits can be compared in one run;
with `session` it is aiohttp's `ClientSession` at its best settings.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import time
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol

import aiohttp
import msgspec
from yarl import URL

from bench.child import Order, obey

SESSION: Final = "session"
_HEADERS: Final = (
    ("Content-Type", "application/json"),
    ("User-Agent", "Grillo-Webhooks/0.1.0"),
    ("X-Grillo-Event", "event.detected"),
    ("X-Grillo-Delivery", "dlv_01J9ZK3V7Q8W9E2R4T6Y8U0I1O"),
    ("X-Grillo-Signature", "sha256=" + "0" * 64),
    ("X-Grillo-Attempt", "1"),
    ("webhook-id", "dlv_01J9ZK3V7Q8W9E2R4T6Y8U0I1O"),
    ("webhook-timestamp", "1795305600"),
    ("webhook-signature", "v1," + "A" * 44),
)
_BODY: Final = b'{"type":"event.detected","data":"%s"}' % (b"x" * 414)


class _Door(Protocol):
    async def post(self) -> None:
        """Send one request, and raise unless it succeeds."""


class Sending:
    """The orders that it takes: `flood`."""

    async def begin(self) -> None:
        """Begin with as little for the garbage collector as the dispatcher has."""
        gc.freeze()
        gc.set_threshold(50_000)

    async def close(self) -> None:
        """Nothing is left open between orders."""

    async def carry_out(self, order: Order) -> Any:
        """Keep `in_flight` requests under way for `seconds`."""
        kept: bool = order["kept"]
        async with AsyncExitStack() as stack:
            door: _Door
            if sys.argv[1:] == [SESSION]:
                door = await _session(stack, order["url"], order["ca"], kept=kept)
            else:
                door = await _sender(stack, order["url"], order["ca"], kept=kept)
            await _flood(door, 0.3, order["in_flight"])  # connections are made
            return await _flood(door, order["seconds"], order["in_flight"])


async def _flood(door: _Door, seconds: float, in_flight: int) -> dict[str, float]:
    done = 0
    started, cpu_before = time.monotonic(), time.process_time()

    async def work() -> None:
        nonlocal done
        while time.monotonic() - started < seconds:
            await door.post()
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return {
        "requests": done,
        "seconds": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu_before,
    }


async def _sender(stack: AsyncExitStack, url: str, ca: str, *, kept: bool) -> _Door:
    """Open the sender of the checkout that comes first on the path."""
    from dispatcher import sender as room  # noqa: PLC0415 - the path is set by now
    from dispatcher.config import Delivery  # noqa: PLC0415
    from dispatcher.core.message import Message  # noqa: PLC0415
    from dispatcher.core.outcome import Answered  # noqa: PLC0415

    # The first sender of this project had another name.
    kind = getattr(room, "HttpSender", None) or getattr(room, "AiohttpSender")  # noqa: B009
    config = Delivery(allowed_networks=("127.0.0.0/8",), keepalive_s=50.0 if kept else 0.0)
    sender = await stack.enter_async_context(kind(config))
    message = Message(url, _HEADERS, _BODY, ca)

    class Ours:
        async def post(self) -> None:
            outcome = await sender.send(msgspec.structs.replace(message))
            if not isinstance(outcome, Answered) or outcome.status != 200:
                raise RuntimeError(outcome)

    return Ours()


async def _session(stack: AsyncExitStack, url: str, ca: str, *, kept: bool) -> _Door:
    connector = aiohttp.TCPConnector(
        limit=0, force_close=not kept, ssl=ssl.create_default_context(cadata=ca) if ca else True
    )
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=connector,
            timeout=aiohttp.ClientTimeout(),
            skip_auto_headers=("Accept", "Accept-Encoding"),
        )
    )
    target, headers = URL(url), dict(_HEADERS)

    class Session:
        async def post(self) -> None:
            async with session.post(target, data=_BODY, headers=headers) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(response.status)

    return Session()


if __name__ == "__main__":
    if sys.argv[1:] != [SESSION]:
        sys.path[:0] = sys.argv[1:]
    obey(Sending())
