"""Deactivates webhooks that nobody answers any more, after saying so (PRODUCT, section 3).

Failing for a day: `webhook.failing`. Failing for five days, or 410 Gone on every attempt of a delivery:
deactivated with the reason, and `webhook.disabled`. Attempts of tests count for neither.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from functools import partial
from typing import Final

import structlog

from dispatcher.core.delivery import State, Trigger
from dispatcher.core.ids import DeliveryKey
from dispatcher.daemon.shared import Shared
from dispatcher.store.ledger import FactRow
from dispatcher.store.streaks import Streaks

WARN_AFTER: Final = dt.timedelta(days=1)
DISABLE_AFTER: Final = dt.timedelta(days=5)
GONE: Final = "gone: every attempt of a delivery was answered with 410"
_LOOK_EVERY_S: Final = 600.0
_HTTP_GONE: Final = 410

log = structlog.get_logger("disabler")


class Disabler:
    """The one who gives up on webhooks, in one run."""

    def __init__(self, shared: Shared, streaks: Streaks) -> None:
        self._streaks = streaks
        self._outage = shared.outage
        self._gone: asyncio.Queue[DeliveryKey] = asyncio.Queue()

    def recorded(self, fact: FactRow) -> None:
        """Look at a durable fact, which may be the last attempt on a receiver that is gone."""
        if fact.status_code == _HTTP_GONE and fact.state is State.FAILED and fact.trigger is not Trigger.TEST:
            self._gone.put_nowait(DeliveryKey(fact.day, fact.outbox_id, fact.webhook_id))

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._outage.patiently("disabler", self._look)
            look_at = loop.time() + _LOOK_EVERY_S
            while (key := await self._gone_until(look_at)) is not None:
                await self._outage.patiently("disabler", partial(self._judge_gone, key))

    async def _gone_until(self, look_at: float) -> DeliveryKey | None:
        try:
            async with asyncio.timeout_at(look_at):
                return await self._gone.get()
        except TimeoutError:
            return None

    async def _look(self) -> None:
        now = dt.datetime.now(dt.UTC)
        for streak in await self._streaks.longer_than(WARN_AFTER):
            await self._streaks.announce(streak)
            if now - streak.since >= DISABLE_AFTER and now - streak.latest_at < DISABLE_AFTER:
                reason = f"failing since {streak.since:%Y-%m-%dT%H:%M:%SZ}: nothing but failures for 5 days"
                if await self._streaks.disable(streak.webhook_id, reason):
                    log.warning("webhook disabled", webhook=streak.public_id, reason=reason)

    async def _judge_gone(self, key: DeliveryKey) -> None:
        if await self._streaks.all_gone(key) and await self._streaks.disable(key.webhook_id, GONE):
            log.warning("webhook disabled", webhook=key.webhook_id, reason=GONE)
