"""Starts the guide's two receivers as processes of their own and tells what they accepted and refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests import npm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GUIDE = Path(__file__).parent / "guide"
EXPRESS = GUIDE / "express"
FLASK = GUIDE / "flask"

_STOP_TIMEOUT_S = 5.0


class Refused(NamedTuple):
    """A request that the receiver answered with anything but 200."""

    delivery: str | None
    event: str | None


class GuideReceiver:
    """One running receiver: where it listens, and what it said of each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.verified: dict[str, int] = {}  # delivery id -> how many times it was accepted
        self.rejected: list[Refused] = []
        self._requests = 0
        self._ended = False
        self._news = asyncio.Condition()

    async def wait_verified(self, count: int, *, timeout_s: float = 60) -> None:
        """Wait until `count` distinct deliveries were accepted; TimeoutError when they do not come."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self._ended or len(self.verified) >= count)
        if len(self.verified) < count:
            raise RuntimeError(f"the receiver ended after {len(self.verified)} of {count} deliveries")

    async def wait_requests(self, count: int, *, timeout_s: float = 60) -> None:
        """Wait until `count` requests were answered, whatever the answer; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self._ended or self._requests >= count)
        if self._requests < count:
            raise RuntimeError(f"the receiver ended after {self._requests} of {count} requests")

    async def follow(self, stdout: asyncio.StreamReader) -> None:
        """Take in what the process reports, until it ends."""
        async for line in stdout:
            seen = json.loads(line)
            async with self._news:
                self._requests += 1
                if seen["ok"]:
                    self.verified[seen["delivery"]] = self.verified.get(seen["delivery"], 0) + 1
                else:
                    self.rejected.append(Refused(seen["delivery"], seen["event"]))
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()


@asynccontextmanager
async def express_receiver(secret: str) -> AsyncIterator[GuideReceiver]:
    """Run the guide's Node.js receiver; its packages are installed on first use."""
    node = npm.program("node")
    await asyncio.to_thread(npm.install, EXPRESS)
    async with _running(secret, node, str(EXPRESS / "server.js")) as receiver:
        yield receiver


@asynccontextmanager
async def flask_receiver(secret: str) -> AsyncIterator[GuideReceiver]:
    """Run the guide's Python receiver."""
    async with _running(secret, sys.executable, str(FLASK / "app.py")) as receiver:
        yield receiver


@asynccontextmanager
async def _running(secret: str, *command: str) -> AsyncIterator[GuideReceiver]:
    environment = os.environ | {"WEBHOOK_SECRET": secret, "NODE_ENV": "test"}  # Express prints no stacks
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            first = await process.stdout.readline()
        if not first:
            raise RuntimeError(f"{command} ended before it listened")
        receiver = GuideReceiver(f"http://127.0.0.1:{json.loads(first)['port']}/webhook")
        async with asyncio.TaskGroup() as group:
            group.create_task(receiver.follow(process.stdout))
            try:
                yield receiver
            finally:
                await _stop(process)
    except BaseExceptionGroup as failed:
        if len(failed.exceptions) > 1:
            raise
        raise failed.exceptions[0] from None  # a test's own failure, which it wants to see as it is
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
