"""What tests of the store and the loops share: events, webhooks, and the parts of a run without its loops."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import json
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec
import pytest

from dispatcher.config import Config, Delivery
from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.delivery import STEP, Kind, State, Trigger
from dispatcher.core.ids import DeliveryIds, DeliveryKey, OutboxId, RunId, WebhookId
from dispatcher.core.lanes import Admission, Lanes
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.core.room import Limits
from dispatcher.core.sharing import Shard
from dispatcher.core.snapshot import BEGINNING, Position
from dispatcher.daemon.outage import Outage
from dispatcher.daemon.shared import Process, Shared
from dispatcher.sender import HttpSender
from dispatcher.store.backlog import Backlog
from dispatcher.store.connection import Database as Store
from dispatcher.store.lease import Lease
from dispatcher.store.ledger import FactRow, Ledger, MessageRow
from dispatcher.store.registry import Registry
from dispatcher.store.vault import Vault
from dispatcher.telemetry.health import Health
from dispatcher.telemetry.metrics import Metrics
from tests.postgres import Database

VAULT: Final = Vault(bytes(32))
DETECTED: Final = {
    "event_id": "evt_abc123",
    "origin_time": "2024-01-15T14:32:41.500Z",
    "latitude": 37.7749,
    "longitude": -122.4194,
    "depth_km": 8.5,
    "magnitude": 4.2,
    "magnitude_type": "ML",
    "location_description": "5 km NE of San Francisco, CA",
    "network_id": "net_xyz789",
}
_numbers = itertools.count(1)

Event: TypeAlias = tuple[dt.date, OutboxId]

# A body about an earthquake: what is about the same one leaves in order.
ABOUT_ONE: Final = b'{"type":"event.detected","timestamp":"2026-11-22T00:00:00Z","data":{"event_id":"evt_1"}}'


def detected(**changes: Any) -> str:
    """Give the text of an `event.detected` with these fields changed; `...` takes one out."""
    return json.dumps({name: value for name, value in {**DETECTED, **changes}.items() if value is not ...})


async def insert(
    connection: asyncpg.Connection, data: str | None = None, type_: str = "event.detected", **columns: Any
) -> Event:
    """Insert an event, other columns as given, and give its day and id."""
    values = {"type": type_, "data": data if data is not None else detected(), **columns}
    names, places = ", ".join(values), ", ".join(f"${place}" for place in range(1, len(values) + 1))
    row = await connection.fetchrow(
        f"insert into outbox ({names}) values ({places}) returning day, id", *values.values()
    )
    return row["day"], OutboxId(row["id"])


async def new_webhook(
    connection: asyncpg.Connection, url: str = "https://receiver.example/", **columns: Any
) -> WebhookId:
    """Make a webhook of the organization that hears of everything, and give its number."""
    public_id = f"whk_{next(_numbers):026}"
    values = {
        "public_id": public_id,
        "url": url,
        "events": ["*"],
        "secret": VAULT.seal("whsec_AAAA", public_id),
        **columns,
    }
    names, places = ", ".join(values), ", ".join(f"${place}" for place in range(1, len(values) + 1))
    number = await connection.fetchval(
        f"insert into webhook (organization_id, {names})"
        f" values ((select min(id) from organization), {places}) returning id",
        *values.values(),
    )
    return WebhookId(number)


def attempted(key: DeliveryKey, attempt_no: int = 1, **fields: Any) -> FactRow:
    """Give the fact of an attempt: by default one that was answered with 200."""
    fact = FactRow(
        day=key.day,
        outbox_id=key.outbox_id,
        webhook_id=key.webhook_id,
        attempt_no=attempt_no,
        step=STEP[Kind.ATTEMPTED],
        kind=Kind.ATTEMPTED,
        state=State.DELIVERED,
        trigger=Trigger.FIRST if attempt_no == 1 else Trigger.RETRY,
        failures=0,
        status_code=200,
    )
    return msgspec.structs.replace(fact, **fields)


def failed(key: DeliveryKey, attempt_no: int, next_attempt_at: dt.datetime, **fields: Any) -> FactRow:
    """Give the fact of an attempt that failed and is to be repeated."""
    return attempted(
        key,
        attempt_no,
        state=State.PENDING,
        status_code=500,
        error_class="server_error",
        failures=attempt_no,
        next_attempt_at=next_attempt_at,
        **fields,
    )


def key_of(event: Event, webhook_id: WebhookId) -> DeliveryKey:
    """Name the delivery of an event to a webhook."""
    return DeliveryKey(event[0], event[1], webhook_id)


@dataclass
class Parts:
    """What a run is made of, over a test's database; nothing runs by itself."""

    shared: Shared
    store: Store
    connection: asyncpg.Connection  # the owner's, for looking
    system_id: int  # of the server
    limits: Limits
    batch: int = 0

    def __post_init__(self) -> None:
        self._own = self.ledger()

    @property
    def lanes(self) -> Lanes:
        """What is held in memory."""
        return self.shared.lanes

    def ledger(self, run_id: RunId | None = None) -> Ledger:
        """Make a ledger with a link of its own."""
        return Ledger(self.store.link("ledger"), self.shared.run_id if run_id is None else run_id)

    def backlog(self) -> Backlog:
        """Make a backlog with a link of its own."""
        return Backlog(self.store.link("backlog"), self.shared.shard)

    async def record(self, *facts: FactRow) -> None:
        """Make facts durable."""
        await self._own.record(msgspec.json.encode(facts).decode())

    async def fan_out(
        self,
        events: Sequence[Event],
        webhook_ids: Sequence[WebhookId],
        *,
        claimed: bool = False,
        lane: Lane = Lane.ALERT,
        type_: str = "event.detected",
        body: bytes = b"{}",
        rest: Sequence[WebhookId] = (),
    ) -> list[DeliveryKey]:
        """Write a message and deliveries for each event, in one batch, as the tail does.

        With `rest` it is the first chunk of one event, which these webhooks are still to be told of.
        """
        self.batch += 1
        now = dt.datetime.now(dt.UTC)
        messages = [
            MessageRow(
                day=day,
                outbox_id=outbox_id,
                type=type_,
                occurred_at=now,
                recorded_at=now,
                body=body,
                test=False,
                webhook_ids=webhook_ids,
                claimed=[claimed] * len(webhook_ids),
                fan_out=len(webhook_ids) + len(rest),
            )
            for day, outbox_id in events
        ]
        position = Position.after(BEGINNING)
        if rest:
            position = position.advanced(BEGINNING, 0, events[-1][1])
        await self._own.fan_out(lane, self.batch, messages, position, self.system_id, now.date(), rest)
        return [key_of(event, webhook_id) for event in events for webhook_id in webhook_ids]

    async def facts(self, key: DeliveryKey) -> list[tuple[int, str, str]]:
        """Give what happened to a delivery: (attempt, kind, state)."""
        rows = await self.connection.fetch(
            "select attempt_no, kind, state from delivery_event"
            " where day = $1 and outbox_id = $2 and webhook_id = $3 order by attempt_no, step",
            *key,
        )
        return [tuple(row) for row in rows]

    def without_memory(self) -> Parts:
        """Give the same with nothing in memory, as after a crash."""
        return replace(self, shared=replace(self.shared, lanes=Lanes(self.limits)))

    def take_all(self) -> list[Pending]:
        """Take from the lanes whatever may go now."""
        return list(iter(partial(self.lanes.take, 0), None))

    def bring(self, key: DeliveryKey, lane: Lane = Lane.ALERT) -> Pending | None:
        """Admit a first attempt to send `ABOUT_ONE`; None where there is no room."""
        if self.lanes.admit(lane, key, len(ABOUT_ONE)) is not Admission.ADMITTED:
            return None
        return Pending(key, lane, Payload("event.detected", ABOUT_ONE, dt.datetime.now(dt.UTC), test=False))

    def land(self, pending: Pending) -> None:
        """End an attempt and free its room, as the recorder does when its fact is durable."""
        self.lanes.landed(pending)
        self.lanes.settled(pending)


@contextlib.asynccontextmanager
async def parts(
    database: Database, url: str | None = None, *, shard: Shard | None = None, **delivery: Any
) -> AsyncIterator[Parts]:
    """Take the lead over a database; `delivery` are settings, `url` another login than the owner's."""
    config = Config(delivery=Delivery(allowed_networks=("127.0.0.0/8",), **delivery))
    store = Store(url or database.url, DatabaseConfig())
    connection = await database.connect()
    metrics = Metrics()
    async with HttpSender(config.delivery) as sender:
        lease = Lease(store.link("lease"), shard or Shard())
        process = Process(
            config=config,
            database=store,
            vault=VAULT,
            ids=DeliveryIds(bytes(16)),
            sender=sender,
            outage=Outage(metrics),
            metrics=metrics,
            health=Health(),
        )
        limits = Limits(
            max_in_flight=config.delivery.max_in_flight,
            max_in_flight_per_webhook=config.delivery.max_in_flight_per_webhook,
            max_held=config.delivery.max_queued,
            max_bytes=config.delivery.max_queued_bytes,
        )
        run_id = await lease.take()
        assert run_id is not None
        registry = Registry(store.link("registry"), VAULT, lease.shard)
        shared = Shared(process, lease, run_id, Lanes(limits), registry)
        try:
            system_id = await connection.fetchval("select system_identifier from pg_control_system()")
            yield Parts(shared, store, connection, system_id, limits)
        finally:
            await store.close()
            await connection.close()


@contextlib.asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops for the block; one that breaks fails the test."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        yield
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def refused(error: type[asyncpg.PostgresError], *words: str) -> Iterator[None]:
    """Expect PostgreSQL to refuse what the block does, in words that hold these."""
    with pytest.raises(error) as problem:
        yield
    assert [] == [word for word in words if word not in str(problem.value)], str(problem.value)
