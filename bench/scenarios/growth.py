"""Whether cost grows with size: CPU a delivery, and memory, with 10,000 webhooks and a million pending.

Minutes lie between the measurements, in which a machine that others share becomes faster or slower. So CPU is
counted in requests of the bare client, which runs before and after on the same core.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench.feed import Feed
from bench.figures import Figure, Rounds
from bench.scenarios.throughput import FAST, FAST_WEBHOOKS, Throughput
from bench.site import Site

_PARKED: Final = "hungparked"  # never answered
_PARKED_WEBHOOKS: Final = 100
_PARKED_EVENTS: Final = 10_000
_WITHIN_S: Final = 180.0


class Growth:
    """Ten webhooks' throughput, again and again while everything else grows."""

    def __init__(self, site: Site, rounds: Rounds) -> None:
        self._site = site
        self._rounds = rounds.count
        self._throughput = Throughput(site, rounds.seconds)
        self._parked = Feed(site, _PARKED, _PARKED_WEBHOOKS)
        self.alone: list[float] = []  # requests of the bare client that cost as much as a delivery
        self.webhooks: list[float] = []
        self.pending: list[float] = []
        self.calm_mib = self.pending_mib = 0.0
        self.deliveries_pending = 0

    async def begin(self) -> None:
        """Measure with ten webhooks, and give the baseline's client its requests."""
        await self._site.subscribe({FAST: FAST_WEBHOOKS})
        await self._throughput.prepare()
        await self._cpu()  # until everything is warm
        self.alone = await self._cpu()

    async def beside_webhooks(self) -> None:
        """Measure once there are very many webhooks."""
        self.webhooks = await self._cpu()

    async def beside_pending(self) -> None:
        """Measure once a million deliveries wait for receivers that do not answer."""
        self.calm_mib = self._site.dispatcher.memory_mib()
        await self._site.subscribe({_PARKED: _PARKED_WEBHOOKS})
        await self._parked.insert(_PARKED_EVENTS)
        deadline = time.monotonic() + _WITHIN_S
        while await self._routed() < _PARKED_EVENTS:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{_PARKED}: {await self._routed()} of {_PARKED_EVENTS} events written")
            await asyncio.sleep(0.5)
        self.pending = await self._cpu()
        self.pending_mib = self._site.dispatcher.memory_mib()
        self.deliveries_pending = _PARKED_EVENTS * _PARKED_WEBHOOKS

    async def _routed(self) -> int:
        count: int = await self._site.producer.fetchval(
            "select count(*) from message m join outbox o on o.day = m.day and o.id = m.outbox_id"
            " where o.network_id = $1",
            _PARKED,
        )
        return count

    async def _cpu(self) -> list[float]:
        return [await cost(self._throughput) for _ in range(self._rounds)]

    def figures(self) -> list[Figure]:
        """Give the rows of ARCHITECTURE.md's table."""
        return [
            Figure(
                name="CPU a delivery beside 11,000 other webhooks ÷ at 10 webhooks",
                unit="bare requests",
                ours=self.webhooks,
                beside=self.alone,
                bound="at most",
                goal=1.2,
            ),
            Figure(
                name="CPU a delivery with a million pending ÷ with none",
                unit="bare requests",
                ours=self.pending,
                beside=self.alone,
                bound="at most",
                goal=1.2,
            ),
            Figure(
                name="memory with a million pending ÷ with none",
                unit="MiB",
                ours=[self.pending_mib],
                beside=[self.calm_mib],
                bound="at most",
                goal=1.5,
            ),
        ]


async def cost(throughput: Throughput) -> float:
    """Give the CPU a delivery, PostgreSQL's included, in requests of the bare client beside it."""
    bare, ours = await throughput.side_by_side()
    return (ours.cpu_us + ours.postgresql_cpu_us) / bare.cpu_us
