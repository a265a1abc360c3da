"""Waits for facts that somebody has to be asked about: a database, a listener."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

POLL_S: Final = 0.05


async def eventually(ask: Callable[[], Awaitable[T]], what: str, timeout_s: float) -> T:
    """Give the answer once it is true, asking every 50 ms; fails naming `what` after `timeout_s`."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        answer = await ask()
        if answer:
            return answer
        if asyncio.get_running_loop().time() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {answer!r}")
        await asyncio.sleep(POLL_S)
