"""One event for very many webhooks: when the first and the last request arrive, since COMMIT was sent.

Beside it: how long the bare client takes for as many requests, on the same core, moments before and after.
"""

from __future__ import annotations

import time
from typing import Final

from bench.feed import Feed
from bench.figures import Figure
from bench.site import Site

_CONNECTIONS: Final = 64
_WITHIN_S: Final = 60.0


class Wide:
    """All rounds of one width."""

    def __init__(self, site: Site, webhooks: int) -> None:
        self._site = site
        self._webhooks = webhooks
        self.feed = Feed(site, f"wide{webhooks}", webhooks)
        self.first_ms: list[float] = []
        self.last_s: list[float] = []
        self.bare_s: list[float] = []

    async def prepare(self) -> None:
        """Make the webhooks, and let one event through: afterwards connections are open."""
        await self._site.subscribe({self.feed.series: self._webhooks})
        await self._one()
        await self.feed.drained()

    async def round(self, seconds: float) -> None:
        """Measure the client, one event, and the client again."""
        before = await self._bare_rate(seconds / 2)
        first_ms, last_s = await self._one()
        await self.feed.drained()
        after = await self._bare_rate(seconds / 2)
        self.first_ms.append(first_ms)
        self.last_s.append(last_s)
        self.bare_s.append(self._webhooks * 2 / (before + after))

    async def _one(self) -> tuple[float, float]:
        sink, series = self._site.sink, self.feed.series
        await sink.ask("mark", series=series)
        transaction = self._site.producer.transaction()
        await transaction.start()
        await self.feed.insert(1)
        sent_ns = time.monotonic_ns()
        await transaction.commit()
        expected = self.feed.inserted * self._webhooks
        found = await sink.ask("wait", series=series, requests=expected, within_s=_WITHIN_S)
        if found != expected:
            raise RuntimeError(f"{series}: {found} of {expected} requests within {_WITHIN_S:g} s")
        first_ns = await sink.ask("first", series=series)
        last_ns = await sink.ask("newest", series=series)
        return (first_ns - sent_ns) / 1e6, (last_ns - sent_ns) / 1e9

    async def _bare_rate(self, seconds: float) -> float:
        answer = await self._site.baseline.ask("flood", seconds=seconds, connections=_CONNECTIONS)
        await self._site.sink.ask("forget", series="bare")
        rate: float = answer["requests"] / answer["seconds"]
        return rate

    def figures(self) -> list[Figure]:
        """Give the row of ARCHITECTURE.md's table, and when the first request arrived."""
        name = f"one event x {self._webhooks:,} webhooks"
        return [
            Figure(
                name=f"{name}: last arrival ÷ as many requests of the bare client",
                unit="s",
                ours=self.last_s,
                beside=self.bare_s,
                bound="at most",
                goal=1.8,
            ),
            Figure(
                name=f"{name}: first arrival ÷ 50 ms",
                unit="ms",
                ours=self.first_ms,
                beside=[50.0] * len(self.first_ms),
                bound="at most",
                goal=1.0,
            ),
        ]
