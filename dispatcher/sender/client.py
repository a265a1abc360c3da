"""The sender: one POST, one bounded answer, one `Outcome`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self, overload

from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.outcome import NoAnswer, Outcome, Timings
from dispatcher.sender.connector import Connector
from dispatcher.sender.endpoint import Endpoint
from dispatcher.sender.exchange import keep_alive_hint_s, outcome_of
from dispatcher.sender.failure import SendError
from dispatcher.sender.pool import Pool
from dispatcher.sender.resolver import Lookup, Resolver, getaddrinfo
from dispatcher.sender.resumption import ResumingObject
from dispatcher.sender.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from dispatcher.config import Delivery
    from dispatcher.core.message import Message

_MAX_ENDPOINTS: Final = 16_384  # URLs kept ready
_NO_TIMINGS: Final = Timings()


class HttpSender:
    """A `Sender`; an async context manager, to be entered in the event loop that sends."""

    def __init__(self, config: Delivery, *, lookup: Lookup = getaddrinfo) -> None:
        """Take `lookup` in place of the system's name resolution."""
        self._config: Final = config
        self._timeout_s: Final = config.timeout_s
        self._lookup: Final = lookup
        self._endpoints: Final[dict[tuple[str, str], Endpoint]] = {}
        self._trust: Final = Trust()
        self._loop: asyncio.AbstractEventLoop
        self._pool: Pool
        self._connector: Connector

    async def __aenter__(self) -> Self:
        config = self._config
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(keepalive_s=config.keepalive_s or 0.0, max_open=config.max_in_flight)
        policy = AddressPolicy(config.allowed_networks)
        self._connector = Connector(config, policy, Resolver(self._lookup), self._pool)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    @overload
    async def send(self, message: Message, may_send: None = None) -> Outcome: ...
    @overload
    async def send(self, message: Message, may_send: Callable[[], bool] | None) -> Outcome | None: ...
    async def send(self, message: Message, may_send: Callable[[], bool] | None = None) -> Outcome | None:
        """Perform one attempt; see `Sender.send`."""
        deadline = self._loop.time() + self._timeout_s
        try:
            target = message.url, message.ca_certificates
            endpoint = self._endpoints.get(target) or self._keep(target)
            request = endpoint.request(message)
            connection = self._pool.take(endpoint.origin)
            if connection is None:
                connection = await self._connector.connect(endpoint)
        except SendError as error:
            return NoAnswer(error.error, error.message, error.address, _NO_TIMINGS, error.own_fault)
        if may_send is not None and not may_send():
            self._pool.put_back(connection)
            return None
        was_kept = connection.fresh is None
        try:
            await connection.begin(request, deadline)
        except BaseException:
            connection.abort()
            raise
        if connection.proved:
            connection.origin.closes = connection.unanswered
        elif connection.answer.status:
            connection.proved = True
            tls = connection.tls()
            if isinstance(tls, ResumingObject):
                tls.keep_session()
        if was_kept and not connection.first_byte_ns:
            self._pool.distrust(connection)
        outcome = outcome_of(connection, self._timeout_s)
        self._pool.keep(connection, keep_alive_hint_s(connection.answer))
        return outcome

    def ready(self, url: str, ca_certificates: str, *, for_s: float) -> bool:
        """Say whether there is a connection; see `Sender.ready`."""
        endpoint = self._endpoint(url, ca_certificates)
        return endpoint is not None and self._pool.ready(endpoint.origin, for_s)

    def keeps(self, url: str, ca_certificates: str) -> bool:
        """Say what the receiver did with the last connection; see `Sender.keeps`."""
        endpoint = self._endpoint(url, ca_certificates)
        return endpoint is not None and endpoint.origin.keeps

    def _endpoint(self, url: str, ca_certificates: str) -> Endpoint | None:
        target = url, ca_certificates
        try:
            return self._endpoints.get(target) or self._keep(target)
        except SendError:
            return None

    async def warm(self, url: str, ca_certificates: str) -> bool:
        """Open a connection ahead; see `Sender.warm`."""
        if self._pool.crowded:
            return False
        target = url, ca_certificates
        try:
            endpoint = self._endpoints.get(target) or self._keep(target)
            connection = await self._connector.connect(endpoint)
        except (SendError, OSError):
            return False  # a request will say why
        connection.fresh = None  # no request took this time
        return self._pool.park(connection)

    def _keep(self, target: tuple[str, str]) -> Endpoint:
        url, ca_certificates = target
        endpoint = Endpoint(url, self._pool, self._trust, ca_certificates)
        while len(self._endpoints) >= _MAX_ENDPOINTS:
            del self._endpoints[next(iter(self._endpoints))]
        self._endpoints[target] = endpoint
        return endpoint
