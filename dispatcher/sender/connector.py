"""aiohttp's connection pool, with connections made our way: resolve, check, connect to what was checked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final, cast

import aiohappyeyeballs
from aiohttp import BaseConnector, ClientTimeout

from dispatcher.core.outcome import ErrorClass, Timings
from dispatcher.sender.connection import ReceiverConnection
from dispatcher.sender.failure import SendError, connect_error

if TYPE_CHECKING:
    from aiohttp import ClientRequest
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from dispatcher.config import Delivery
    from dispatcher.core.addresses import Address, AddressPolicy
    from dispatcher.sender.endpoint import Endpoint
    from dispatcher.sender.resolver import Resolver

_NO_TIMEOUT: Final = ClientTimeout()  # deadlines are our own
_NEXT_ADDRESS_AFTER_S: Final = 0.25  # RFC 8305: a silent address is joined by the next after this
_TLS_GOODBYE_S: Final = 1.0  # a receiver gets this long to end TLS politely


class CheckedConnector(BaseConnector):
    """Keeps connections alive by host, port and scheme; limits nothing, the lanes do that."""

    def __init__(self, config: Delivery, policy: AddressPolicy, resolver: Resolver) -> None:
        super().__init__(limit=0, limit_per_host=0, keepalive_timeout=config.keepalive_s)
        self._config: Final = config
        self._policy: Final = policy
        self._resolver: Final = resolver
        self._connect_timeout_s: Final = min(config.connect_timeout_s, config.timeout_s)
        self._tls: Final = ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])

    async def connection_to(self, endpoint: Endpoint) -> Connection:
        """Take an idle connection or make one; raises `SendError`."""
        # Of a request, the pool reads `connection_key` and `proxy`, and hands it to `_create_connection`.
        return await self.connect(cast("ClientRequest", endpoint), [], _NO_TIMEOUT)

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> ResponseHandler:
        del traces, timeout
        endpoint = cast("Endpoint", req)
        stage = f"{endpoint.target.host} was not resolved"
        addresses: tuple[Address, ...] = ()
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                addresses = await self._addresses(endpoint)
                resolved = time.monotonic()
                stage = "no connection was made"
                sock = await self._connect(addresses, endpoint.target.port)
                connected = time.monotonic()
                stage = "TLS was not agreed on"
                connection = await self._converse(sock, endpoint)
        except TimeoutError as error:
            if error.errno is not None:  # the kernel's own
                raise connect_error(error, stage, _first(addresses)) from None
            message = f"{stage} within {self._connect_timeout_s:g} s"
            raise SendError(ErrorClass.CONNECT_TIMEOUT, message, _first(addresses)) from None
        except (OSError, RuntimeError) as error:
            raise connect_error(error, stage, _first(addresses)) from None
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
            if reason := self._policy.blocked(address):
                message = f"{target.host} leads to {address}, {reason}, which is not allowed"
                raise SendError(ErrorClass.BLOCKED_ADDRESS, message, str(address))
        return addresses

    async def _connect(self, addresses: tuple[Address, ...], port: int) -> socket.socket:
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
            loop=self._loop,
        )

    async def _converse(self, sock: socket.socket, endpoint: Endpoint) -> ReceiverConnection:
        def protocol() -> ReceiverConnection:
            return ReceiverConnection(
                self._loop,
                address=address,
                max_response_bytes=self._config.max_response_bytes,
                keepalive_s=self._config.keepalive_s,
            )

        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            address = str(sock.getpeername()[0])
            if endpoint.target.tls:
                _, connection = await self._loop.create_connection(
                    protocol,
                    sock=sock,
                    ssl=self._tls,
                    server_hostname=endpoint.target.host,
                    ssl_shutdown_timeout=_TLS_GOODBYE_S,
                )
            else:
                _, connection = await self._loop.create_connection(protocol, sock=sock)
            undo.pop_all()
        connection.start_parser()
        return connection


def _first(addresses: tuple[Address, ...]) -> str | None:
    return str(addresses[0]) if addresses else None
