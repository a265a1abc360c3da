"""Two daemons that share the webhooks, beside one: what they deliver, what a delivery costs, how late it is.

How this works. PostgreSQL, the receiver and the bench need cores as well, so what is compared is what a
machine delivers: one daemon and all of these on one core, then two daemons and all of these on two. Beside it
one daemon on both cores: it has one to itself then, and two daemons are bounded by what everything costs
together, which says little about machines with more cores. CPU per delivery does: two daemons on cores of
their own deliver twice what one does, over what a delivery costs more when it is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from bench.dispatcher_process import Dispatcher, running_dispatcher
from bench.feed import Feed
from bench.figures import Figure, Rounds, quantile
from bench.machine import confine_family, cores
from bench.scenarios.throughput import Rate
from bench.site import Site, running_site
from dispatcher.config import Database as DatabaseConfig
from dispatcher.store.connection import Link
from dispatcher.store.membership import reshard

_SHARED: Final = "shared"
_LED: Final = "led"  # in the shard that reads the outbox
_FOLLOWED: Final = "followed"  # in another one
_SHARDS: Final = 4
_WEBHOOKS: Final = 40
_AHEAD: Final = 60  # events
_WARM_UP_S: Final = 2.0
_WITHIN_S: Final = 20.0
_PATIENCE_S: Final = 10.0
_RECORDED: Final = "dispatcher_facts_recorded_total"


class Sharing:
    """All rounds."""

    def __init__(self, site: Site, seconds: float, events: int) -> None:
        self._site = site
        self._seconds = seconds
        self._events = events
        self._chance = random.Random(20261122)
        self._feed = Feed(site, _SHARED, _WEBHOOKS)
        self._quiet = {series: Feed(site, series, 1) for series in (_LED, _FOLLOWED)}
        self.one_core: list[Rate] = []
        self.one: list[Rate] = []
        self.two: list[Rate] = []
        self.late_ms: dict[str, list[float]] = {_LED: [], _FOLLOWED: []}

    async def prepare(self) -> None:
        """Make the webhooks, in each shard as many."""
        # Numbers are given in turn, so the last of these are in the shards 1, 2, 3 and 0.
        await self._site.subscribe({_SHARED: _WEBHOOKS, _FOLLOWED: 1, "spare": 2, _LED: 1})

    async def round(self) -> None:
        """Measure one daemon on one core and on two, and two that share."""
        async with self._daemons(1, 1, cores()[:1]) as daemons:
            self.one_core.append(await self._rate(daemons))
        async with self._daemons(1, 1, cores()) as daemons:
            self.one.append(await self._rate(daemons))
        async with self._daemons(2, _SHARDS, cores()) as daemons:
            self.two.append(await self._rate(daemons))
            for _ in range(self._events):
                for series, feed in self._quiet.items():
                    self.late_ms[series].append(await self._one(feed))
                    await asyncio.sleep(self._chance.uniform(0.05, 0.15))

    @contextlib.asynccontextmanager
    async def _daemons(self, count: int, shards: int, on: tuple[int, ...]) -> AsyncIterator[list[Dispatcher]]:
        """Run daemons, and everything else with them, on some cores."""
        os.sched_setaffinity(0, on)
        for pid in (self._site.postmaster_pid, self._site.sink.pid):
            confine_family(pid, on)
        link = Link(self._site.database_url, "bench", DatabaseConfig())
        await reshard(link, shards)
        await link.close()
        async with contextlib.AsyncExitStack() as stack:
            daemons = []
            for number in range(count):
                directory = self._site.directory / f"daemon-{number}"
                await asyncio.to_thread(Path.mkdir, directory, exist_ok=True)
                running = running_dispatcher(
                    directory,
                    core=on,
                    database_url=self._site.database_url,
                    vault_key=self._site.vault_key,
                )
                daemons.append(await stack.enter_async_context(running))
            await self._fair(daemons, shards)
            yield daemons

    async def _fair(self, daemons: Sequence[Dispatcher], shards: int) -> None:
        share = [shards / len(daemons)] * len(daemons)
        async with asyncio.timeout(_WITHIN_S):
            while True:
                if share == [await one.metric("dispatcher_shards_held") for one in daemons]:
                    return
                await asyncio.sleep(0.1)

    async def _rate(self, daemons: Sequence[Dispatcher]) -> Rate:
        async def recorded() -> float:
            return sum([await one.metric(_RECORDED) for one in daemons])

        async with self._feed.flowing(_AHEAD):
            await asyncio.sleep(_WARM_UP_S)
            cpu, postgresql_cpu = sum(one.cpu_s() for one in daemons), self._site.postgresql_cpu_s()
            count, started = await recorded(), time.monotonic()
            await asyncio.sleep(self._seconds)
            count, ended = await recorded() - count, time.monotonic()
            cpu = sum(one.cpu_s() for one in daemons) - cpu
            postgresql_cpu = self._site.postgresql_cpu_s() - postgresql_cpu
        await self._feed.drained()
        for one in daemons:
            one.trim_log()
        return Rate(count, ended - started, cpu, postgresql_cpu)

    async def _one(self, feed: Feed) -> float:
        """Commit one event and wait for its request; give the milliseconds."""
        transaction = self._site.producer.transaction()
        await transaction.start()
        await feed.insert(1)
        sent_ns = time.monotonic_ns()
        await transaction.commit()
        expected = feed.inserted
        found = await self._site.sink.ask("wait", series=feed.series, requests=expected, within_s=_PATIENCE_S)
        if found != expected:
            raise RuntimeError(f"an event did not arrive within {_PATIENCE_S:g} s")
        arrived_ns: int = await self._site.sink.ask("newest", series=feed.series)
        return (arrived_ns - sent_ns) / 1e6

    def figures(self) -> list[Figure]:
        """Give the row of ARCHITECTURE.md's table, what it would be on more cores, and the second hop."""
        return [
            Figure(
                name="two daemons, the receiver and PostgreSQL on two cores ÷ one daemon and these on one",
                unit="/s",
                ours=[rate.per_second for rate in self.two],
                beside=[rate.per_second for rate in self.one_core],
                bound="at least",
                goal=1.5,
            ),
            Figure(
                name="the same ÷ one daemon and these on two cores",
                unit="/s",
                ours=[rate.per_second for rate in self.two],
                beside=[rate.per_second for rate in self.one],
                bound="at least",
                goal=1.5,
            ),
            Figure(
                name="by CPU: twice what one delivers ÷ what a shared delivery costs more",
                unit="µs",
                ours=[2 * rate.cpu_us for rate in self.one],
                beside=[rate.cpu_us for rate in self.two],
                bound="at least",
                goal=1.5,
            ),
            Figure(
                name="COMMIT → arrival, p50, in a shard that follows ÷ in the one that leads",
                unit="ms",
                ours=[quantile(self.late_ms[_FOLLOWED], 0.5)],
                beside=[quantile(self.late_ms[_LED], 0.5)],
                bound="at most",
                goal=3.0,
            ),
        ]

    def remark(self) -> str:
        """Say what PostgreSQL's share was."""
        one, two = self.one[-1], self.two[-1]
        led, followed = (quantile(self.late_ms[series], 0.99) for series in (_LED, _FOLLOWED))
        return (
            f"PostgreSQL's share of a delivery: {two.postgresql_cpu_us:.0f} µs where two daemons share, "
            f"{one.postgresql_cpu_us:.0f} µs with one. Two daemons had {two.core_share:.0%} of a core "
            f"together, one {one.core_share:.0%}. p99 was {followed:.1f} ms in the shard that follows, "
            f"{led:.1f} ms in the one that leads"
        )


async def measure_sharing(rounds: Rounds, say: Callable[[str], None]) -> tuple[list[Figure], list[str]]:
    """Give the figures and what is to be said of them."""
    async with running_site({}, serve=False) as site:
        sharing = Sharing(site, rounds.seconds, rounds.events)
        await sharing.prepare()
        for number in range(1, rounds.count + 1):
            say(f"two daemons beside one, round {number} of {rounds.count}")
            await sharing.round()
    return sharing.figures(), [sharing.remark()]
