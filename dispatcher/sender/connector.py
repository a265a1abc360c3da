"""Makes connections: resolve, check every address, connect to one of those, TLS."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from dispatcher.core.outcome import ErrorClass, Timings
from dispatcher.sender.answer import AnswerReader
from dispatcher.sender.connection import ReceiverConnection
from dispatcher.sender.failure import SendError, connect_error
from dispatcher.sender.lending import lent
from dispatcher.sender.pool import GOODBYE_S, Pool
from dispatcher.sender.proxy import Proxy, Stage
from dispatcher.sender.race import race

if TYPE_CHECKING:
    import socket

    from dispatcher.config import Delivery
    from dispatcher.core.addresses import Address, AddressPolicy
    from dispatcher.sender.endpoint import Endpoint
    from dispatcher.sender.resolver import Resolver

_STOPPED_S: Final = 1.0  # timers that are so late say that what arrived was not looked at
_MAX_JUDGEMENTS: Final = 4096  # of addresses, remembered


class Connector:
    """Makes connections for a pool; limits nothing, the lanes do that."""

    def __init__(self, config: Delivery, policy: AddressPolicy, resolver: Resolver, pool: Pool) -> None:
        self._config: Final = config
        self._blocked: Final = lru_cache(_MAX_JUDGEMENTS)(policy.blocked)
        self._resolver: Final = resolver
        self._pool: Final = pool
        self._loop: Final = asyncio.get_running_loop()
        self._connect_timeout_s: Final = min(config.connect_timeout_s, config.timeout_s)
        self._proxy: Final = (
            Proxy(config.proxy_url, resolver, self._connect_timeout_s) if config.proxy_url else None
        )

    async def connect(self, endpoint: Endpoint) -> ReceiverConnection:
        """Make a connection; raises `SendError`."""
        stage = Stage(f"{endpoint.target.host} was not resolved")
        addresses: tuple[Address, ...] = ()
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                addresses = await self._addresses(endpoint)
                resolved = time.monotonic()
                connection, connected = await self._make(addresses, endpoint, stage)
        except TimeoutError as error:
            if error.errno is not None:  # the kernel's own
                raise connect_error(error, stage.words, _first(addresses)) from None
            message = f"{stage.words} within {self._connect_timeout_s:g} s"
            if not addresses and self._resolver.is_queued(endpoint.target.host):
                message += ", nor looked up: too many other names are"
                raise SendError(ErrorClass.DNS, message, own_fault=True) from None
            if time.monotonic() - started > self._connect_timeout_s + _STOPPED_S:
                message += ", in which this process was stopped or too busy"
                raise SendError(
                    ErrorClass.CONNECT_TIMEOUT, message, _first(addresses), own_fault=True
                ) from None
            if stage.own_fault:
                raise SendError(ErrorClass.PROXY, message, own_fault=True) from None
            raise SendError(ErrorClass.CONNECT_TIMEOUT, message, _first(addresses)) from None
        except (OSError, RuntimeError) as error:
            raise connect_error(error, stage.words, _first(addresses)) from None
        tls_s = time.monotonic() - connected
        connection.fresh = Timings(
            dns_ms=None if endpoint.target.address else round((resolved - started) * 1000, 3),
            connect_ms=round((connected - resolved) * 1000, 3),
            tls_ms=round(tls_s * 1000, 3) if endpoint.target.tls else None,
        )
        return connection

    async def _addresses(self, endpoint: Endpoint) -> tuple[Address, ...]:
        """Give the endpoint's addresses, every one of them checked; one that is refused refuses all."""
        target = endpoint.target
        addresses = (
            (target.address,) if target.address is not None else await self._resolver.resolve(target.host)
        )
        for address in addresses:
            if reason := self._blocked(address):
                message = f"{target.host} leads to {address}, {reason}, which is not allowed"
                raise SendError(ErrorClass.BLOCKED_ADDRESS, message, str(address))
        return addresses

    async def _make(
        self, addresses: tuple[Address, ...], endpoint: Endpoint, stage: Stage
    ) -> tuple[ReceiverConnection, float]:
        """Make a connection to one of the addresses; also give when there was one, before TLS."""
        connection: ReceiverConnection | None = None
        self._pool.opening()
        try:
            if len(addresses) == 1 and endpoint.trust is None and self._proxy is None:
                connection = await self._connect_straight(addresses[0], endpoint, stage)
                return connection, time.monotonic()
            sock, address = await self._connect(addresses, endpoint.target.port, stage)
            connected = time.monotonic()
            stage.at("TLS was not agreed on")
            connection = await self._converse(sock, address, endpoint)
            return connection, connected
        finally:
            self._pool.opened(connection)

    async def _connect(
        self, addresses: tuple[Address, ...], port: int, stage: Stage
    ) -> tuple[socket.socket, str]:
        """Give a socket that leads to one of the addresses, and that address."""
        if self._proxy is not None:
            return await self._proxy.connect(addresses, port, stage)
        stage.at("no connection was made")
        sock = await race(addresses, port, self._loop)
        try:
            return sock, str(sock.getpeername()[0])
        except OSError:
            sock.close()
            raise

    async def _connect_straight(
        self, address: Address, endpoint: Endpoint, stage: Stage
    ) -> ReceiverConnection:
        """Make a plain connection where there is nothing to choose from: cheaper than a race of one."""
        stage.at("no connection was made")
        connection = self._connection(str(address), endpoint)
        # An address is not looked up by any loop.
        await self._loop.create_connection(lambda: connection, str(address), endpoint.target.port)
        return connection

    async def _converse(self, sock: socket.socket, address: str, endpoint: Endpoint) -> ReceiverConnection:
        connection = self._connection(address, endpoint)
        with lent(sock):
            if endpoint.trust is not None:
                await self._loop.create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=endpoint.trust,
                    server_hostname=endpoint.target.host,
                    ssl_shutdown_timeout=GOODBYE_S,
                )
            else:
                await self._loop.create_connection(lambda: connection, sock=sock)
        return connection

    def _connection(self, address: str, endpoint: Endpoint) -> ReceiverConnection:
        config = self._config
        answer = AnswerReader(max_bytes=config.max_response_bytes, keep_bytes=config.keep_response_bytes)
        return ReceiverConnection(self._pool, endpoint.origin, address=address, answer=answer)


def _first(addresses: tuple[Address, ...]) -> str | None:
    return str(addresses[0]) if addresses else None
