"""A steady stream for a long time, beside receivers that fail and hang, to see whether anything drifts.

How this works. Events and sensor rows come at a steady rate for twenty healthy webhooks, three that answer
500 and three that never answer. All the while one alert after the other is committed for a webhook of its
own, and its arrival awaited, as in `latency.py`. The time is cut into slices; each has its latencies, the
memory of the dispatcher, and the CPU for each attempt recorded. The first slices warm up; then the last third
should be as the first third was. Retries come so much sooner than the guide's that all of them have set in by
then: what joins later would be taken for drift.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Final

import asyncpg
import msgspec

from bench.dispatcher_process import RETRY_DELAYS_S
from bench.feed import EVENT, INSERT, Feed
from bench.figures import Figure, quantile
from bench.machine import cpu_s
from bench.site import Site

PROBE: Final = "probe"
SOAK: Final = "soak"
HEALTHY: Final = 20
BAD: Final = 3  # of each kind
_TICK_S: Final = 0.25
_EVENTS_A_TICK: Final = 3
_SENSORS_A_TICK: Final = 7
_SLICES: Final = 12
_WARM_UP_SLICES: Final = 3
_PAUSE_S: Final = (0.05, 0.15)
_WITHIN_S: Final = 60.0
_RECORDED: Final = "dispatcher_facts_recorded_total"
_SENSORS: Final = """
insert into outbox (type, data)
select 'sensor.online', format(
           '{"sensor_id":"sen_%s","station_code":"S%s","offline_duration_seconds":60,"network_id":"soak"}',
           n, n)::json
  from generate_series($1::bigint, $2::bigint) as n
"""


def retry_delays_s(seconds: float) -> list[float]:
    """Give the delays of retries in a soak: the guide's, or what half the warm-up has room for."""
    pace = min(1.0, seconds * _WARM_UP_SLICES / _SLICES / 2 / sum(RETRY_DELAYS_S))
    return [round(delay_s * pace, 3) for delay_s in RETRY_DELAYS_S]


class Slice(msgspec.Struct, frozen=True):
    """What was seen in one part of the time."""

    seconds: float
    latency_ms: list[float]
    memory_mib: float
    recorded: float
    cpu_us: float  # of dispatcher and PostgreSQL, for each attempt recorded


class Soak:
    """All of it."""

    def __init__(self, site: Site, seconds: float) -> None:
        self._site = site
        self._seconds = seconds
        self._chance = random.Random(20261122)
        self._probe = Feed(site, PROBE, 1)
        self._inserted = 0
        self._events = 0
        self._arrived = 0
        self._twice = 0
        self.slices: list[Slice] = []

    async def run(self) -> None:
        """Soak; raises RuntimeError where a healthy webhook missed something or got it twice."""
        site = self._site
        await site.subscribe({PROBE: 1})
        await site.subscribe({SOAK: HEALTHY, "hung": BAD, "fail": BAD}, network=SOAK, events=("*",))
        upstream = await asyncpg.connect(site.database_url, ssl=False)
        try:
            await self._alert()
            over = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._stream(upstream, over))
                for _ in range(_SLICES):
                    self.slices.append(await self._slice(self._seconds / _SLICES, upstream.get_server_pid()))
                over.set()
            await self._drained()
        finally:
            await upstream.close()

    async def _stream(self, upstream: asyncpg.Connection, over: asyncio.Event) -> None:
        """Insert at a steady rate, whatever the dispatcher does."""
        started, ticks = time.monotonic(), 0
        while not over.is_set():
            first = self._inserted + 1
            self._events += _EVENTS_A_TICK
            self._inserted += _EVENTS_A_TICK + _SENSORS_A_TICK
            await upstream.execute(INSERT, EVENT, SOAK, first, first + _EVENTS_A_TICK - 1)
            await upstream.execute(_SENSORS, first, first + _SENSORS_A_TICK - 1)
            ticks += 1
            await asyncio.sleep(max(0.0, started + ticks * _TICK_S - time.monotonic()))

    async def _slice(self, seconds: float, upstream_pid: int) -> Slice:
        site = self._site
        cpu, recorded = self._cpu_s(upstream_pid), await site.dispatcher.metric(_RECORDED)
        started = time.monotonic()
        latency_ms = []
        while time.monotonic() - started < seconds:
            latency_ms.append(await self._alert())
            await asyncio.sleep(self._chance.uniform(*_PAUSE_S))
        lasted_s = time.monotonic() - started
        cpu = self._cpu_s(upstream_pid) - cpu
        recorded = await site.dispatcher.metric(_RECORDED) - recorded
        memory_mib = site.dispatcher.memory_mib()
        site.dispatcher.trim_log()
        await self._count()
        return Slice(lasted_s, latency_ms, memory_mib, recorded, cpu / recorded * 1e6)

    def _cpu_s(self, upstream_pid: int) -> float:
        return self._site.dispatcher.cpu_s() + self._site.postgresql_cpu_s() - cpu_s(upstream_pid)

    async def _alert(self) -> float:
        """Commit one alert and give the milliseconds until it has arrived."""
        transaction = self._site.producer.transaction()
        await transaction.start()
        await self._probe.insert(1)
        sent_ns = time.monotonic_ns()
        await transaction.commit()
        expected = self._probe.inserted
        found = await self._site.sink.ask("wait", series=PROBE, requests=expected, within_s=_WITHIN_S)
        if found != expected:
            raise RuntimeError(f"an alert did not arrive within {_WITHIN_S:g} s")
        arrived_ns: int = await self._site.sink.ask("newest", series=PROBE)
        return (arrived_ns - sent_ns) / 1e6

    async def _count(self) -> None:
        """Count what the healthy ones got since the last look, and let the sink forget it."""
        counts = await self._site.sink.ask("take", series=SOAK)
        self._arrived += counts["requests"]
        self._twice += counts["requests"] - counts["deliveries"]

    async def _drained(self) -> None:
        expected = self._inserted * HEALTHY
        deadline = time.monotonic() + _WITHIN_S
        while self._arrived < expected and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            await self._count()
        if (self._arrived, self._twice) != (expected, 0):
            raise RuntimeError(f"soak: {self._arrived} of {expected} arrived, {self._twice} of them twice")

    def remark(self) -> str:
        """Say what it was."""
        seconds = sum(one.seconds for one in self.slices)
        recorded = sum(one.recorded for one in self.slices)
        rate = (_EVENTS_A_TICK + _SENSORS_A_TICK) / _TICK_S
        return (
            f"soak: {seconds:,.0f} s at {rate:g} rows a second for {HEALTHY} healthy, {BAD} hung and {BAD}"
            f" failing webhooks: {recorded:,.0f} attempts recorded, none lost, none twice"
        )

    def table(self) -> str:
        """Draw the slices as a Markdown table."""
        lines = ["| soak, from second | p50 | p99 | memory | CPU an attempt | attempts |"]
        lines.append("|---|---|---|---|---|---|")
        begins = 0.0
        for one in self.slices:
            p50, p99 = quantile(one.latency_ms, 0.5), quantile(one.latency_ms, 0.99)
            lines.append(
                f"| {begins:,.0f} | {p50:.2f} ms | {p99:.2f} ms | {one.memory_mib:.0f} MiB"
                f" | {one.cpu_us:.0f} µs | {one.recorded:,.0f} |"
            )
            begins += one.seconds
        return "\n".join(lines)

    def figures(self) -> list[Figure]:
        """Give the drift: the last third beside the first one after the warm-up."""
        calm = self.slices[_WARM_UP_SLICES:]
        third = len(calm) // 3
        first, last = calm[:third], calm[-third:]

        def drift(name: str, unit: str, of: Callable[[list[Slice]], float], goal: float) -> Figure:
            name = f"soak, last third ÷ first: {name}"
            return Figure(
                name=name, unit=unit, ours=[of(last)], beside=[of(first)], bound="at most", goal=goal
            )

        def latency(share: float) -> Callable[[list[Slice]], float]:
            return lambda part: quantile([ms for one in part for ms in one.latency_ms], share)

        return [
            drift("memory", "MiB", lambda part: median(one.memory_mib for one in part), 1.1),
            drift("CPU an attempt", "µs", lambda part: median(one.cpu_us for one in part), 1.2),
            drift("p50 of an alert", "ms", latency(0.5), 1.2),
            drift("p99 of an alert", "ms", latency(0.99), 1.5),
        ]
