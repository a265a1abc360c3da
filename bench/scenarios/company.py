"""How long an event takes to reach everybody while others misbehave, or while a storm of sensors is unread.

Each time one event is committed and the arrival of the last healthy webhook's request awaited: first calm,
then in company. Times are from the moment before COMMIT is sent, by the machine's one monotonic clock.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from bench.feed import Feed
from bench.figures import Figure, Rounds, quantile
from bench.site import Site

_PAUSE_S: Final = (0.05, 0.15)
_WITHIN_S: Final = 60.0
HEALTHY: Final = "healthy"
HEALTHY_WEBHOOKS: Final = 40
_BAD_WEBHOOKS: Final = 5  # of each kind
STORM: Final = "storm"
STORM_WEBHOOKS: Final = 10
_ROWS: Final = 100_000
_SENSORS: Final = """
insert into outbox (type, data)
select 'sensor.offline', format(
           '{"sensor_id":"sen_%s","station_code":"S%s","last_seen":"2018-01-14T09:18:45Z","network_id":"storm"}',
           n, n)::json
  from generate_series(1, $1::bigint) as n
"""


class Company:
    """One series of events, calm and in company."""

    def __init__(self, site: Site, feed: Feed, counted: str, rounds: Rounds) -> None:
        self._site = site
        self._feed = feed
        self._counted = counted  # the sink's series
        self._rounds = rounds
        self._chance = random.Random(20261122)
        self.calm: list[list[float]] = []
        self.company: list[list[float]] = []

    async def rounds(self) -> list[list[float]]:
        """Give the times of every round."""
        return [await self.stretch() for _ in range(self._rounds.count)]

    async def stretch(self) -> list[float]:
        """Commit one event after the other; give their times in milliseconds."""
        times = []
        for _ in range(self._rounds.events):
            times.append(await self._one())
            await asyncio.sleep(self._chance.uniform(*_PAUSE_S))
        return times

    async def _one(self) -> float:
        transaction = self._site.producer.transaction()
        await transaction.start()
        await self._feed.insert(1)
        sent_ns = time.monotonic_ns()
        await transaction.commit()
        expected = self._feed.inserted * self._feed.webhooks
        found = await self._site.sink.ask("wait", series=self._counted, requests=expected, within_s=_WITHIN_S)
        if found != expected:
            raise RuntimeError(f"{self._counted}: {found} of {expected} requests within {_WITHIN_S:g} s")
        arrived_ns: int = await self._site.sink.ask("newest", series=self._counted)
        return (arrived_ns - sent_ns) / 1e6

    def figure(self, name: str, goal: float) -> Figure:
        """Give the row of ARCHITECTURE.md's table."""
        return Figure(
            name=name,
            unit="ms",
            ours=[quantile(times, 0.99) for times in self.company],
            beside=[quantile(times, 0.99) for times in self.calm],
            bound="at most",
            goal=goal,
            ours_whole=quantile([time for times in self.company for time in times], 0.99),
            beside_whole=quantile([time for times in self.calm for time in times], 0.99),
        )


class Bulkheads(Company):
    """Forty healthy webhooks, then five that hang and five that fail beside them."""

    def __init__(self, site: Site, rounds: Rounds) -> None:
        super().__init__(site, Feed(site, HEALTHY, HEALTHY_WEBHOOKS), HEALTHY, rounds)

    async def run(self) -> None:
        """Measure both."""
        await self._site.subscribe({HEALTHY: HEALTHY_WEBHOOKS})
        await self.stretch()  # opens the connections
        self.calm = await self.rounds()
        await self._site.subscribe({"hung": _BAD_WEBHOOKS, "fail": _BAD_WEBHOOKS}, network=HEALTHY)
        await self.stretch()  # until the hung ones have taken what they can
        self.company = await self.rounds()

    def figures(self) -> list[Figure]:
        """Give the row."""
        return [self.figure("healthy p99 beside 5 hung and 5 failing of 50 webhooks ÷ calm p99", 2.0)]


class Storm(Company):
    """Ten webhooks that hear everything; alerts, then alerts behind unread sensor rows."""

    def __init__(self, site: Site, rounds: Rounds) -> None:
        # The sink counts this series' alerts apart from its sensors.
        super().__init__(site, Feed(site, STORM, STORM_WEBHOOKS), f"{STORM}/event", rounds)
        self.behind = 0  # sensor deliveries that had not been sent when the last alert had arrived

    async def run(self) -> None:
        """Measure both; leaves a million deliveries behind."""
        await self._site.subscribe({STORM: STORM_WEBHOOKS}, events=("*",))
        await self.stretch()
        self.calm = await self.rounds()
        await self._site.producer.execute(_SENSORS, _ROWS)
        self.company = await self.rounds()
        sent = (await self._site.sink.ask("count", series=f"{STORM}/sensor"))["requests"]
        self.behind = _ROWS * STORM_WEBHOOKS - sent

    def figures(self) -> list[Figure]:
        """Give the row."""
        return [self.figure("alert behind 100,000 sensor rows x 10 webhooks: p99 ÷ calm p99", 5.0)]
