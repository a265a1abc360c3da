"""The sender on aiohttp's pool and parser: one POST, one bounded answer, one `Outcome`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self, cast

from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.outcome import NoAnswer, Outcome, Timings
from dispatcher.sender.connector import CheckedConnector
from dispatcher.sender.endpoint import Endpoint
from dispatcher.sender.exchange import exchange
from dispatcher.sender.failure import SendError
from dispatcher.sender.resolver import Lookup, Resolver, getaddrinfo
from dispatcher.sender.trust import Trust

if TYPE_CHECKING:
    from types import TracebackType

    from dispatcher.config import Delivery
    from dispatcher.core.message import Message
    from dispatcher.sender.connection import ReceiverConnection

_MAX_ENDPOINTS: Final = 16_384  # URLs kept ready
_NO_TIMINGS: Final = Timings()


class AiohttpSender:
    """A `Sender`; an async context manager, to be entered in the event loop that sends."""

    def __init__(self, config: Delivery, *, lookup: Lookup = getaddrinfo) -> None:
        """Take `lookup` in place of the system's name resolution."""
        self._config: Final = config
        self._lookup: Final = lookup
        self._endpoints: Final[dict[tuple[str, str], Endpoint]] = {}
        self._trust: Final = Trust()
        self._loop: asyncio.AbstractEventLoop
        self._connector: CheckedConnector

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        policy = AddressPolicy(self._config.allowed_networks)
        self._connector = CheckedConnector(self._config, policy, Resolver(self._lookup))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connector.close()

    async def send(self, message: Message) -> Outcome:
        """Perform one attempt; see `Sender.send`."""
        deadline = self._loop.time() + self._config.timeout_s
        try:
            target = message.url, message.ca_certificates
            endpoint = self._endpoints.get(target) or self._keep(target)
            request = endpoint.request(message)
            connection = await self._connector.connection_to(endpoint)
        except SendError as error:
            return NoAnswer(error.error, error.message, error.address, _NO_TIMINGS, error.own_fault)
        protocol = cast("ReceiverConnection", connection.protocol)  # the only kind the connector makes
        try:
            outcome = await exchange(protocol, request, deadline=deadline, config=self._config)
        finally:
            if protocol.idle:
                connection.release()
            else:
                protocol.abort()  # not close(): a receiver that reads nothing would keep our buffer for ever
                connection.close()
        return outcome

    def _keep(self, target: tuple[str, str]) -> Endpoint:
        url, ca_certificates = target
        endpoint = Endpoint(url, self._trust, ca_certificates)
        while len(self._endpoints) >= _MAX_ENDPOINTS:
            del self._endpoints[next(iter(self._endpoints))]
        self._endpoints[target] = endpoint
        return endpoint
