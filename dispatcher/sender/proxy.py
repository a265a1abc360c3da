"""An egress proxy: a tunnel (CONNECT) to an address that was checked here; the proxy resolves no name.

How this works: names are resolved and judged as without a proxy. The proxy is asked for the literal address,
`CONNECT 93.184.216.34:443`, and TLS with the receiver's name goes through the tunnel: what was checked is
what is connected to, and the proxy can neither be rebound nor read along. Plain http goes by CONNECT as well,
so that the bytes of a request are the same on every way. The proxy itself may have a private address: the
operator chose it.
"""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from dispatcher.core.addresses import host_address
from dispatcher.core.outcome import ErrorClass
from dispatcher.sender.failure import SendError, connect_error
from dispatcher.sender.race import race

if TYPE_CHECKING:
    import socket

    from dispatcher.core.addresses import Address
    from dispatcher.sender.resolver import Resolver

_MAX_HEAD_BYTES: Final = 16_384
_END_OF_HEAD: Final = b"\r\n\r\n"
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")
_AUTHENTICATION_REQUIRED: Final = 407


class Stage:
    """How far a connect has come: what to say when its time is over, and whose fault that is."""

    __slots__ = ("own_fault", "words")

    def __init__(self, words: str) -> None:
        self.words = words
        self.own_fault = False

    def at(self, words: str, *, own_fault: bool = False) -> None:
        """Say what has not been done yet."""
        self.words = words
        self.own_fault = own_fault


class Proxy:
    """The way out for every request."""

    def __init__(self, url: str, resolver: Resolver, timeout_s: float) -> None:
        """Take `delivery.proxy_url`, which the configuration has checked, and how long a connect may take."""
        parts = urlsplit(url)
        self._timeout_s: Final = timeout_s
        self._resolver: Final = resolver
        self._host: Final = parts.hostname or ""
        self._port: Final = parts.port or 80
        self._credentials: Final = _credentials(parts.username, parts.password)

    def __repr__(self) -> str:
        return f"<Proxy {self._host}:{self._port}>"

    async def connect(
        self, addresses: tuple[Address, ...], port: int, stage: Stage
    ) -> tuple[socket.socket, str]:
        """Give a tunnel to the first address that the proxy can connect to, and that address.

        One on which it says nothing leaves the others their share of the time. Raises `SendError`: as a fault
        of our own where the proxy itself is the trouble.
        """
        *others, last = addresses
        for address in others:
            try:
                async with asyncio.timeout(self._timeout_s / len(addresses)):
                    return await self._tunnel(address, port, stage), str(address)
            except TimeoutError:
                continue
            except SendError as error:
                if error.own_fault:
                    raise
        return await self._tunnel(last, port, stage), str(last)

    async def _tunnel(self, address: Address, port: int, stage: Stage) -> socket.socket:
        stage.at("the egress proxy was not reached", own_fault=True)
        loop = asyncio.get_running_loop()
        try:
            sock = await race(await self._addresses(), self._port, loop)
        except (OSError, RuntimeError, SendError) as error:
            cause = error if isinstance(error, SendError) else connect_error(error, stage.words, None)
            raise _fault(f"could not be reached: {cause.message}") from None
        stage.at("the egress proxy made no connection")
        try:
            await loop.sock_sendall(sock, self._request(address, port))
            status = await _answer(sock, loop)
        except OSError as error:
            sock.close()
            raise _fault(f"ended the connection: {error.strerror or error}") from None
        except BaseException:
            sock.close()
            raise
        if 200 <= status < 300:
            return sock
        sock.close()
        if status == _AUTHENTICATION_REQUIRED:
            raise _fault("wants a user name and password (407): see delivery.proxy_url")
        message = f"the egress proxy made no connection: it answered {status}"
        raise SendError(ErrorClass.PROXY, message, str(address))

    async def _addresses(self) -> tuple[Address, ...]:
        literal = host_address(self._host)
        return (literal,) if literal is not None else await self._resolver.resolve(self._host)

    def _request(self, address: Address, port: int) -> bytes:
        authority = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        if self._credentials:
            head += f"Proxy-Authorization: Basic {self._credentials}\r\n"
        return f"{head}\r\n".encode()


async def _answer(sock: socket.socket, loop: asyncio.AbstractEventLoop) -> int:
    """Read the header of the proxy's final answer and give its status."""
    received = b""
    while True:
        head, found, rest = received.partition(_END_OF_HEAD)
        if found:
            line = _STATUS_LINE.match(head + b"\r\n")
            if line is None:
                raise _fault("answered with something that is not HTTP/1.1")
            status = int(line[1])
            if status >= 200:
                if rest and status < 300:  # nobody speaks before us in a tunnel
                    raise _fault("sent more than the header of its answer")
                return status
            received = rest
            continue
        if len(received) > _MAX_HEAD_BYTES:
            raise _fault(f"answered with a header of more than {_MAX_HEAD_BYTES} bytes")
        chunk = await loop.sock_recv(sock, 4096)
        if not chunk:
            raise _fault("ended the connection without an answer")
        received += chunk


def _fault(words: str) -> SendError:
    return SendError(ErrorClass.PROXY, f"the egress proxy {words}", own_fault=True)


def _credentials(user: str | None, password: str | None) -> str:
    if user is None:
        return ""
    return base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
