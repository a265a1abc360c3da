"""Connects to one of several addresses, the first one that answers (RFC 8305)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import aiohappyeyeballs

if TYPE_CHECKING:
    import asyncio

    from dispatcher.core.addresses import Address

_NEXT_ADDRESS_AFTER_S: Final = 0.25  # a silent address is joined by the next after this


async def race(addresses: tuple[Address, ...], port: int, loop: asyncio.AbstractEventLoop) -> socket.socket:
    """Give a connected socket; raises `OSError`, or `RuntimeError`, where no address took the connection."""
    return await aiohappyeyeballs.start_connection(
        [
            (
                socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (str(address), port, 0, 0) if address.version == 6 else (str(address), port),
            )
            for address in addresses
        ],
        happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S,
        loop=loop,
    )
