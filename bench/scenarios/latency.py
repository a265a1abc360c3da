"""From a producer's COMMIT to the arrival of the request, when nothing else happens; and beside open writers.

One event at a time, with pauses of chance, and a few in each situation before the next one has its turn: a
disk that is slow for some seconds, because of others, is slow for all of them. What lies beside it: a
transaction that inserts a row into a bare table and notifies, from its COMMIT to the callback of a listening
client, plus a bare POST, from handing it over to its arrival. All times are of the machine's one monotonic
clock. The figures begin when COMMIT is sent, so that both sides hold upstream's own flush to the disk; the
details also give them since it was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import asyncpg
import msgspec

from bench.baseline import CHANNEL
from bench.feed import EVENT, Feed
from bench.figures import Figure, quantile
from bench.site import Site

QUIET: Final = "quiet"
_BARE_POST: Final = "bare"
_PAUSE_S: Final = (0.05, 0.15)
_A_TURN: Final = 8  # events
_PATIENCE_S: Final = 10.0


class Spans(msgspec.Struct):
    """Latencies of one situation in milliseconds, by round."""

    from_sent: list[list[float]] = msgspec.field(default_factory=list)
    from_acknowledged: list[list[float]] = msgspec.field(default_factory=list)

    def begin_round(self) -> None:
        """Start another round."""
        self.from_sent.append([])
        self.from_acknowledged.append([])

    def add(self, sent_ns: int, acknowledged_ns: int, arrived_ns: int, more_ns: int = 0) -> None:
        """Add one."""
        self.from_sent[-1].append((arrived_ns - sent_ns + more_ns) / 1e6)
        self.from_acknowledged[-1].append((arrived_ns - acknowledged_ns + more_ns) / 1e6)


class Latency:
    """All rounds."""

    def __init__(self, site: Site, events: int) -> None:
        self._site = site
        self._events = events
        self._chance = random.Random(20261121)
        self._event = EVENT.replace("{network}", "nobody")
        self._heard = 0
        self.feed = Feed(site, QUIET, 1)
        self.bare, self.calm, self.beside_writers = Spans(), Spans(), Spans()

    async def prepare(self) -> None:
        """Open the baseline's listening connection, and the path to the receiver."""
        await self._site.producer.execute(
            """create table bench_heard (
                   id bigint generated always as identity primary key, type text, data json)"""
        )
        await self._site.baseline.ask("listen", database_url=self._site.database_url)
        await self._one(Spans([[]], [[]]))

    async def round(self) -> None:
        """Measure the bare parts, the dispatcher alone, and the dispatcher beside open writers, in turns."""
        for spans in (self.bare, self.calm, self.beside_writers):
            spans.begin_round()
        for begun in range(0, self._events, _A_TURN):
            count = min(_A_TURN, self._events - begun)
            await self._turn(count, self._bare_one)
            await self._turn(count, partial(self._one, self.calm))
            async with self._open_writers():
                await self._turn(count, partial(self._one, self.beside_writers))

    async def _turn(self, count: int, one: Callable[[], Awaitable[None]]) -> None:
        for _ in range(count):
            await self._pause()
            await one()

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.uniform(*_PAUSE_S))

    async def _one(self, spans: Spans) -> None:
        """Commit one event and wait for its request."""
        transaction = self._site.producer.transaction()
        await transaction.start()
        await self.feed.insert(1)
        sent_ns = time.monotonic_ns()
        await transaction.commit()
        acknowledged_ns = time.monotonic_ns()
        expected = self.feed.inserted
        found = await self._site.sink.ask("wait", series=QUIET, requests=expected, within_s=_PATIENCE_S)
        if found != expected:
            raise RuntimeError(f"an event did not arrive within {_PATIENCE_S:g} s")
        arrived_ns = await self._site.sink.ask("newest", series=QUIET)
        spans.add(sent_ns, acknowledged_ns, arrived_ns)

    async def _bare_one(self) -> None:
        """Commit one NOTIFY and wait until it is heard; then make one POST."""
        transaction = self._site.producer.transaction()
        await transaction.start()
        await self._site.producer.execute(
            "insert into bench_heard (type, data) values ('event.detected', $1)", self._event
        )
        await self._site.producer.execute(f"notify {CHANNEL}")
        sent_ns = time.monotonic_ns()
        await transaction.commit()
        acknowledged_ns = time.monotonic_ns()
        self._heard += 1
        heard_ns = await self._site.baseline.ask("heard", count=self._heard)
        handed_over_ns = await self._site.baseline.ask("post")
        arrived_ns = await self._site.sink.ask("newest", series=_BARE_POST)
        self.bare.add(sent_ns, acknowledged_ns, heard_ns, arrived_ns - handed_over_ns)

    @contextlib.asynccontextmanager
    async def _open_writers(self) -> AsyncIterator[None]:
        """Keep a transaction open that wrote a table and the outbox, and one in another database."""
        here = await asyncpg.connect(self._site.database_url, ssl=False)
        elsewhere = await asyncpg.connect(self._site.database_url, ssl=False, database="postgres")
        try:
            await here.execute(
                "begin; create table bench_unrelated (n int); insert into bench_unrelated values (1)"
            )
            await here.execute(
                """insert into outbox (type, data) values ('sensor.online', '{"sensor_id": "sen_1",
                   "station_code": "S1", "offline_duration_seconds": 1, "network_id": "nobody"}')"""
            )
            await elsewhere.execute("begin; create table bench_unrelated (n int)")
            yield
        finally:
            await here.close()  # which rolls back
            await elsewhere.close()

    def figures(self) -> list[Figure]:
        """Give the rows of ARCHITECTURE.md's table."""
        calm, bare, beside = self.calm.from_sent, self.bare.from_sent, self.beside_writers.from_sent
        return [
            _figure("idle COMMIT → arrival, p50 ÷ (bare NOTIFY + bare POST)", calm, bare, 0.5, 4.0),
            _figure("the same, p99", calm, bare, 0.99, 4.0),
            _figure("p50 beside unrelated open writers ÷ without", beside, calm, 0.5, 1.1),
            _figure("the same, p99", beside, calm, 0.99, 1.1),
        ]


def _figure(
    name: str, ours: list[list[float]], beside: list[list[float]], share: float, goal: float
) -> Figure:
    return Figure(
        name=name,
        unit="ms",
        ours=[quantile(values, share) for values in ours],
        beside=[quantile(values, share) for values in beside],
        ours_whole=quantile([one for values in ours for one in values], share),
        beside_whole=quantile([one for values in beside for one in values], share),
        bound="at most",
        goal=goal,
    )
