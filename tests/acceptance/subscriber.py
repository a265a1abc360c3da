"""A subscriber whose server remembers each request: what came, when, and what it answered."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import WebhookId
from dispatcher.core.routing import subscribes
from dispatcher.store import webhooks
from dispatcher.store.connection import Database as Store
from dispatcher.store.vault import Vault
from tests.acceptance.daemon import ENCRYPTION_KEY
from tests.receiver import Exchange, Receiver, Request, response

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Seen:
    """One request as it arrived, and the answer once it was written (None: the other side went away)."""

    request: Request
    delivery: str
    attempt: int
    serial: int  # of the event, in its data
    subject: str  # the earthquake or sensor that it is about
    started_at: float
    ended_at: float | None = None
    status: int | None = None


# What to do with a request: after how many seconds to answer, and with which status.
Manner: TypeAlias = "Callable[[Seen], tuple[float, int]]"


def prompt(_: Seen) -> tuple[float, int]:
    """Answer 200 at once."""
    return 0, 200


def slow(delay_s: float) -> Manner:
    """Answer 200 after a while."""
    return lambda _: (delay_s, 200)


def moody(rng: random.Random, share: float) -> Manner:
    """Answer 500 to this share of requests."""
    return lambda _: (0, 500 if rng.random() < share else 200)


class Subscriber:
    """A webhook and the server that it leads to."""

    def __init__(self, events: Sequence[str], manner: Manner) -> None:
        self.events = frozenset(events)
        self.manner = manner
        self.receiver = Receiver(self._answer)
        self.webhook_id = WebhookId(0)
        self.seen: list[Seen] = []
        self.delivered: set[int] = set()  # serials of the events that were answered 200
        self.open = 0  # requests being answered

    def wants(self, event_type: str) -> bool:
        """Say whether it subscribes to an event type."""
        return subscribes(self.events, event_type)

    async def register(self, stack: AsyncExitStack, url: str) -> None:
        """Start the server and create its webhook in the database."""
        await stack.enter_async_context(self.receiver)
        self.webhook_id = await create_webhook(url, self.receiver.url("/hook"), sorted(self.events))

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        assert request is not None
        data = json.loads(request.body)["data"]
        seen = Seen(
            request,
            request.header("x-grillo-delivery") or "",
            int(request.header("x-grillo-attempt") or 0),
            data["serial"],
            str(data.get("event_id") or data.get("sensor_id")),
            time.monotonic(),
        )
        self.seen.append(seen)
        self.open += 1
        try:
            delay_s, status = self.manner(seen)
            if delay_s and await _went_away(exchange, delay_s):
                exchange.close()
                return
            await exchange.send(response(status))
            seen.status = status
            if status == 200:
                self.delivered.add(seen.serial)
        finally:
            seen.ended_at = time.monotonic()
            self.open -= 1


async def _went_away(exchange: Exchange, delay_s: float) -> bool:
    """Wait; true as soon as the other side closes the connection (nobody pipelines requests here)."""
    try:
        async with asyncio.timeout(delay_s):
            return not await exchange.reader.read(1)
    except TimeoutError:
        return False
    except OSError:
        return True


async def create_webhook(
    url: str, endpoint: str, events: Sequence[str], secret: str = SECRET, **fields: Any
) -> WebhookId:
    """Create a webhook of the default organization, as the management API does."""
    store = Store(url, DatabaseConfig())
    try:
        async with store.acquire() as connection:
            organization_id: int = await connection.fetchval("select min(id) from organization")
        made = await webhooks.create(
            store,
            Vault(ENCRYPTION_KEY),
            organization_id,
            webhooks.WebhookFields(url=endpoint, events=tuple(events), **fields),
            secret=secret,
            actor="test",
        )
    finally:
        await store.close()
    return made.id
