"""Keeps connections open to those who are told of earthquakes, so that the first alert pays no handshake.

How this works. Every few seconds a look is taken at the origins (scheme, host, port, trust) of the active
webhooks that subscribe to `event.detected`, at most `delivery.warm_connections` of them. Where no idle
connection will be open for two more looks, one is made; no request is sent on it. Only to a receiver that
left its connection open behind its last answer: one that serves a connection at a time must not be held by
an idle one. Where it fails, or the receiver soon ends it again, the pauses grow: who does not want it is let
be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from dispatcher.core.revisions import DETECTED
from dispatcher.core.routing import subscribes
from dispatcher.daemon.shared import Shared
from dispatcher.store.registry import Webhook

_LOOK_EVERY_S: Final = 5.0
_AHEAD_S: Final = 2 * _LOOK_EVERY_S  # a connection that will be closed before is replaced now
_AT_A_TIME: Final = 8  # handshakes
_BREATH_S: Final = 0.05  # between so many
_LONGEST_PAUSE_S: Final = 600.0


class Address(NamedTuple):
    """What webhooks have in common that share connections."""

    scheme: str
    host: str  # with the port
    ca_certificates: str


class _Care:
    """How it goes with one origin."""

    __slots__ = ("made_at", "next_at", "open", "pause_s", "url")

    def __init__(self, url: str) -> None:
        self.url = url  # of one of its webhooks
        self.open = False
        self.made_at = self.next_at = 0.0  # by the monotonic clock
        self.pause_s = _LOOK_EVERY_S


def origins(webhooks: Iterable[Webhook], most: int) -> dict[Address, str]:
    """Give the origins of those who are told of earthquakes, each with a URL; of too many the first."""
    found: dict[Address, str] = {}
    for one in webhooks:
        if len(found) == most:
            break
        if one.why_inactive is None and subscribes(one.events, DETECTED):
            scheme = one.url.partition(":")[0].lower()
            found.setdefault(Address(scheme, one.host, one.ca_certificates), one.url)
    return found


class Warmth:
    """The connections that are kept open ahead, in one run."""

    def __init__(self, shared: Shared) -> None:
        delivery = shared.process.config.delivery
        self._registry = shared.registry
        self._shard = shared.shard
        self._sender = shared.process.sender
        self._most = min(delivery.warm_connections, delivery.max_in_flight // 2)
        self._keepalive_s = delivery.keepalive_s
        self._version = -1
        self._cares: dict[Address, _Care] = {}

    @property
    def wanted(self) -> int:
        """Count the origins that are looked after."""
        return len(self._cares)

    @property
    def open(self) -> int:
        """Count those that had a connection when they were looked at last."""
        return sum(care.open for care in self._cares.values())

    async def run(self) -> None:
        """Look after them until cancelled; where none are wanted, do nothing."""
        while self._most and self._keepalive_s > _AHEAD_S:
            await self._look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        if self._registry.version != self._version:
            self._version = self._registry.version
            before, self._cares = self._cares, {}
            ours = (one for one in self._registry.webhooks.values() if self._shard.owns(one.id))
            for address, url in origins(ours, self._most).items():
                care = self._cares[address] = before.get(address) or _Care(url)
                care.url = url
        now = time.monotonic()
        cold = [item for item in self._cares.items() if self._is_cold(*item) and item[1].next_at <= now]
        for start in range(0, len(cold), _AT_A_TIME):
            async with asyncio.TaskGroup() as group:
                for address, care in cold[start : start + _AT_A_TIME]:
                    group.create_task(self._warm(address, care))
            await asyncio.sleep(_BREATH_S)

    def _is_cold(self, address: Address, care: _Care) -> bool:
        target = care.url, address.ca_certificates
        care.open = self._sender.ready(*target, for_s=0)
        return self._sender.keeps(*target) and not self._sender.ready(*target, for_s=_AHEAD_S)

    async def _warm(self, address: Address, care: _Care) -> None:
        now = time.monotonic()
        lasted = care.made_at > 0 and now - care.made_at > self._keepalive_s - 2 * _AHEAD_S
        made = await self._sender.warm(care.url, address.ca_certificates)
        care.pause_s = _LOOK_EVERY_S if made and lasted else min(2 * care.pause_s, _LONGEST_PAUSE_S)
        care.made_at = now if made else 0.0
        care.next_at = now + care.pause_s
        care.open = care.open or made
