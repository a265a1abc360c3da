"""Every test of the sender runs on asyncio's own loop and on uvloop, with which the daemon runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop

from dispatcher.sender import HttpSender
from tests.sending import LOCAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    """Give a sender that may reach this host."""
    async with HttpSender(LOCAL) as sender:
        yield sender
