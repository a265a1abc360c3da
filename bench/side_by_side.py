"""Measures any dispatcher from outside, with one receiver for all; `bench/systems` says what it has to offer.

Each measurement has a database of its own. One event at a time for one receiver, with pauses; one event for a
hundred; then as many as it can take for ten. Times are from before the INSERT is sent to the arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from bench.feed import EVENT
from bench.figures import Rounds, quantile
from bench.machine import cores, cpu_s, family_cpu_s
from bench.site import Site, running_site
from bench.systems import Place, System, named

WIDE: Final = 100
BUSY: Final = 10
_AHEAD: Final = 100
_WARM_UP_S: Final = 1.0
_WITHIN_S: Final = 60.0
_PAUSE_S: Final = (0.05, 0.15)


class Compared(msgspec.Struct, frozen=True):
    """What was measured of one system."""

    name: str
    latency_ms: list[float]
    wide_ms: float  # median
    per_second: float
    cpu_us: float  # of its processes and PostgreSQL, producer's session included, for each delivery


async def measure_systems(names: Sequence[str], rounds: Rounds, say: Callable[[str], None]) -> list[Compared]:
    """Measure one system after the other; raises RuntimeError where one loses something."""
    found = []
    async with running_site({}, serve=False) as site:
        for name in names:
            say(f"system {name}")
            found.append(await _Measurement(site, name).all(rounds))
    return found


class _Measurement:
    """Of one system."""

    def __init__(self, site: Site, name: str) -> None:
        self._site = site
        self._name = name
        self._chance = random.Random(20261122)
        self._system: System
        self._series = ""
        self._webhooks = 0
        self._inserted = 0

    async def all(self, rounds: Rounds) -> Compared:
        """Measure everything."""
        async with self._running("one", 1):
            await self._arrival_ms()
            latency_ms = []
            for _ in range(rounds.events * 2):
                await asyncio.sleep(self._chance.uniform(*_PAUSE_S))
                latency_ms.append(await self._arrival_ms())
        async with self._running("wide", WIDE):
            await self._arrival_ms()
            wide_ms = [await self._arrival_ms() for _ in range(rounds.events // 2)]
        async with self._running("busy", BUSY):
            per_second, cpu_us = await self._flood(rounds.seconds * 2)
        return Compared(self._name, latency_ms, quantile(wide_ms, 0.5), per_second, cpu_us)

    @contextlib.asynccontextmanager
    async def _running(self, what: str, webhooks: int) -> AsyncIterator[None]:
        """Run the system with so many receivers and a database of its own for the block."""
        site = self._site
        self._series, self._webhooks, self._inserted = f"{what}{id(self)}", webhooks, 0
        database = f"bench_{what}_{id(self)}"
        await site.producer.execute(f'create database "{database}"')
        place = Place(
            urlsplit(site.database_url)._replace(path=f"/{database}").geturl(), site.directory, cores()[0]
        )
        url = f"http://127.0.0.1:{await site.sink.ask('port')}/{self._series}"
        self._system = named(self._name)()
        try:
            await self._system.start(place, [f"{url}/{number}" for number in range(webhooks)])
            yield
            await self._all_arrived()
        finally:
            await self._system.stop()
            await site.producer.execute(f'drop database "{database}" with (force)')
            await site.sink.ask("forget", series=self._series)

    async def _insert(self, count: int) -> None:
        first = self._inserted + 1
        self._inserted += count
        event = EVENT.replace("{network}", "bench")
        await self._system.insert(
            [event.replace("{n}", f"{number:09}") for number in range(first, self._inserted + 1)]
        )

    async def _all_arrived(self) -> None:
        expected = self._inserted * self._webhooks
        found = await self._site.sink.ask("wait", series=self._series, requests=expected, within_s=_WITHIN_S)
        if found != expected:
            raise RuntimeError(f"{self._name}: {found} of {expected} requests arrived")

    async def _arrival_ms(self) -> float:
        """Commit one event and give the milliseconds until its last request has arrived."""
        sent_ns = time.monotonic_ns()
        await self._insert(1)
        await self._all_arrived()
        arrived_ns: int = await self._site.sink.ask("newest", series=self._series)
        return (arrived_ns - sent_ns) / 1e6

    async def _flood(self, seconds: float) -> tuple[float, float]:
        """Keep it busy; give the deliveries a second, and the microseconds of CPU that each costs."""
        await self._top_up(_WARM_UP_S)
        cpu, count, started = self._cpu_s(), await self._count(), time.monotonic()
        await self._top_up(seconds)
        count, lasted_s = await self._count() - count, time.monotonic() - started
        return count / lasted_s, (self._cpu_s() - cpu) / count * 1e6

    async def _top_up(self, seconds: float) -> None:
        """Keep some events inserted and not yet delivered."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            missing = _AHEAD - (self._inserted - await self._count() // self._webhooks)
            if missing * 5 > _AHEAD:
                await self._insert(missing)
            await asyncio.sleep(0.02)

    async def _count(self) -> int:
        counts = await self._site.sink.ask("count", series=self._series)
        requests: int = counts["requests"]
        return requests

    def _cpu_s(self) -> float:
        return family_cpu_s(self._site.postmaster_pid) + sum(map(cpu_s, self._system.pids()))


def systems_table(compared: Sequence[Compared]) -> str:
    """Draw what was measured as a Markdown table."""
    lines = [
        "| system | one event, p50 | p99 | one event for 100 receivers | deliveries/s | CPU a delivery |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {quantile(one.latency_ms, 0.5):.2f} ms | {quantile(one.latency_ms, 0.99):.2f} ms"
        f" | {one.wide_ms:.1f} ms | {one.per_second:,.0f} | {one.cpu_us:.0f} µs |"
        for one in compared
    ]
    return "\n".join(lines)


def check_names(names: Sequence[str]) -> str | None:
    """Say what is wrong with the names of systems, before anything is started."""
    try:
        for name in names:
            named(name)
    except ValueError as error:
        return str(error)
    return None
