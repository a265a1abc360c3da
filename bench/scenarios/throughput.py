"""Recorded deliveries per second and the CPU they cost, beside the bare client's requests on the same core.

A delivery counts when its fact is durable. Events are inserted while the measurement runs, always a few ahead
of what has been delivered, so that the dispatcher never waits for upstream nor upstream for it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from bench.feed import Feed
from bench.figures import Figure
from bench.site import Site

FAST: Final = "fast"
SLOW: Final = "slow"  # answered after 100 ms
FAST_WEBHOOKS: Final = 10
SLOW_WEBHOOKS: Final = 200  # 16 requests each: more than the 2,000 that may be under way
_FAST_AHEAD: Final = 100  # events; what finds no room in memory would be measured on its way back
_SLOW_AHEAD: Final = 24
_CONNECTIONS: Final = 64
_WARM_UP_S: Final = 1.0
_RECORDED: Final = "dispatcher_facts_recorded_total"


class Rate(msgspec.Struct, frozen=True):
    """What was done in a measurement."""

    count: float
    seconds: float
    cpu_s: float  # of the client, or of the dispatcher
    postgresql_cpu_s: float = 0.0

    @property
    def per_second(self) -> float:
        """How many a second."""
        return self.count / self.seconds

    @property
    def core_share(self) -> float:
        """How much of its core the client or the dispatcher got."""
        return self.cpu_s / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU of the client or the dispatcher for each, in microseconds."""
        return self.cpu_s / self.count * 1e6

    @property
    def postgresql_cpu_us(self) -> float:
        """CPU of PostgreSQL for each, in microseconds."""
        return self.postgresql_cpu_s / self.count * 1e6


class Throughput:
    """All rounds."""

    def __init__(self, site: Site, seconds: float) -> None:
        self._site = site
        self._seconds = seconds
        self.fast_feed = Feed(site, FAST, FAST_WEBHOOKS)
        self.slow_feed = Feed(site, SLOW, SLOW_WEBHOOKS)
        self.bare: list[Rate] = []
        self.fast: list[Rate] = []
        self.slow: list[Rate] = []

    async def prepare(self) -> None:
        """Let one event through, and give its requests to the baseline's client."""
        await self.fast_feed.insert(2)
        await self.fast_feed.drained()
        samples = await self._site.sink.ask("samples", series=FAST)
        await self._site.baseline.ask("prepare", url=f"{self._site.sink_url}/bare", samples=samples)
        await self._site.baseline.ask("flood", seconds=0.5, connections=_CONNECTIONS)

    async def round(self) -> None:
        """Measure the client and the dispatcher with fast receivers, then with slow ones."""
        bare, fast = await self.side_by_side()
        self.bare.append(bare)
        self.fast.append(fast)
        self.slow.append(await self._recorded(self.slow_feed, _SLOW_AHEAD))
        self._site.dispatcher.trim_log()

    async def recorded_fast(self) -> Rate:
        """Measure the dispatcher alone, with fast receivers."""
        rate = await self._recorded(self.fast_feed, _FAST_AHEAD)
        self._site.dispatcher.trim_log()
        return rate

    async def side_by_side(self) -> tuple[Rate, Rate]:
        """Measure the client, the dispatcher with fast receivers, and the client again."""
        before = await self._flood()
        fast = await self.recorded_fast()
        after = await self._flood()
        bare = Rate(before.count + after.count, before.seconds + after.seconds, before.cpu_s + after.cpu_s)
        return bare, fast

    async def _flood(self) -> Rate:
        answer = await self._site.baseline.ask("flood", seconds=self._seconds / 2, connections=_CONNECTIONS)
        await self._site.sink.ask("forget", series="bare")
        return Rate(answer["requests"], answer["seconds"], answer["cpu_s"])

    async def _recorded(self, feed: Feed, ahead: int) -> Rate:
        site = self._site
        async with feed.flowing(ahead):
            await asyncio.sleep(_WARM_UP_S)
            cpu, postgresql_cpu = site.dispatcher.cpu_s(), site.postgresql_cpu_s()
            count, started = await site.dispatcher.metric(_RECORDED), time.monotonic()
            await asyncio.sleep(self._seconds)
            count, ended = await site.dispatcher.metric(_RECORDED) - count, time.monotonic()
            cpu, postgresql_cpu = site.dispatcher.cpu_s() - cpu, site.postgresql_cpu_s() - postgresql_cpu
        await feed.drained()
        return Rate(count, ended - started, cpu, postgresql_cpu)

    def figures(self) -> list[Figure]:
        """Give the rows of ARCHITECTURE.md's table."""
        return [
            Figure(
                name="recorded deliveries/s ÷ bare client's requests/s",
                unit="/s",
                ours=[rate.per_second for rate in self.fast],
                beside=[rate.per_second for rate in self.bare],
                bound="at least",
                goal=0.7,
            ),
            Figure(
                name="the same towards receivers that take 100 ms ÷ towards immediate ones",
                unit="/s",
                ours=[rate.per_second for rate in self.slow],
                beside=[rate.per_second for rate in self.fast],
                bound="at least",
                goal=0.5,
            ),
            Figure(
                name="CPU of dispatcher and PostgreSQL per delivery ÷ bare client's per request",
                unit="µs",
                ours=[rate.cpu_us + rate.postgresql_cpu_us for rate in self.fast],
                beside=[rate.cpu_us for rate in self.bare],
                bound="at most",
                goal=1.6,
            ),
        ]
