"""Events as upstream writes them, of a size that makes a body of 450 bytes, inserted by SQL."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from bench.site import Site

# An earthquake with the guide's fields and, as real systems add, some of their own.
EVENT: Final = (
    '{"event_id":"evt_{n}","origin_time":"2018-01-14T09:18:45.540Z","latitude":-15.7675,"longitude":-74.7092,'
    '"depth_km":39,"magnitude":7.1,"magnitude_type":"Mww","location_description":"38 km SSW of Acarí, Peru",'
    '"network_id":"{network}","agency":"us","status":"reviewed","azimuthal_gap_deg":29,"stations_used":78,'
    '"rms_s":1.13,"origin_uncertainty_km":6.4}'
)
INSERT: Final = """
insert into outbox (type, data)
select 'event.detected', replace(replace($1, '{n}', lpad(n::text, 9, '0')), '{network}', $2)::json
  from generate_series($3::bigint, $4::bigint) as n
"""
_TOP_UP_EVERY_S: Final = 0.02


class Feed:
    """Writes one series' events, in turn."""

    def __init__(self, site: Site, series: str, webhooks: int) -> None:
        self.site: Final = site
        self.series: Final = series
        self.webhooks: Final = webhooks
        self.inserted = 0
        self._settled = 0  # requests of earlier rounds, which the sink may have forgotten

    async def insert(self, count: int) -> None:
        """Insert events in one transaction."""
        first = self.inserted + 1
        self.inserted += count
        await self.site.producer.execute(INSERT, EVENT, self.series, first, self.inserted)

    async def arrived(self) -> int:
        """Give how many requests of the series have arrived."""
        counts = await self.site.sink.ask("count", series=self.series)
        requests: int = counts["requests"]
        return requests

    @contextlib.asynccontextmanager
    async def flowing(self, ahead: int) -> AsyncIterator[None]:
        """Keep about `ahead` events inserted and not yet delivered, during the block."""
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(ahead, enough))
            try:
                yield
            finally:
                enough.set()

    async def _keep(self, ahead: int, enough: asyncio.Event) -> None:
        while not enough.is_set():
            missing = ahead - (self.inserted - await self.arrived() // self.webhooks)
            if missing * 5 > ahead:  # few at a time would cost a commit each
                await self.insert(missing)
            await asyncio.sleep(_TOP_UP_EVERY_S)

    async def drained(self, within_s: float = 60.0) -> None:
        """Wait until everything that was inserted has arrived and is recorded."""
        expected = self.inserted * self.webhooks
        await self.site.sink.ask("wait", series=self.series, requests=expected, within_s=within_s)
        deadline = time.monotonic() + within_s
        while await self.site.recorded(self.series) != (expected, expected):
            if time.monotonic() > deadline:
                counts = await self.site.sink.ask("count", series=self.series)
                recorded = await self.site.recorded(self.series)
                raise RuntimeError(
                    f"{self.series}: expected {expected} deliveries; arrived {counts}, recorded {recorded}"
                )
            await asyncio.sleep(0.1)
