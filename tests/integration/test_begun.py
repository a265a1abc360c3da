"""An event whose fan-out was begun and is not over, as all others see it who take a message for its end."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatcher.core.ids import WebhookId
from dispatcher.core.pending import Lane
from dispatcher.store import audience
from dispatcher.store.begun import read_begun
from dispatcher.store.outbox import OutboxReader
from dispatcher.store.recoveries import Walk, Window
from dispatcher.store.recovery_count import count
from tests.parts import Event, Parts, attempted, insert, new_webhook, parts
from tests.postgres import cloned

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
async def one(postgres_server: str, whole_template: str) -> AsyncIterator[Parts]:
    """Lead over a database with every partition that `migrate` makes."""
    async with cloned(postgres_server, whole_template) as database, parts(database) as made:
        yield made


async def begun(one: Parts, **columns: Any) -> tuple[Event, list[WebhookId]]:
    """Tell the first of three webhooks of an event; it is delivered. The second is to be told."""
    webhook_ids = [await new_webhook(one.connection) for _ in range(3)]
    event = await insert(one.connection, **columns)
    (key,) = await one.fan_out([event], webhook_ids[:1], claimed=True, body=b"bytes", rest=webhook_ids[1:2])
    await one.record(attempted(key))
    return event, webhook_ids


async def test_the_rest_stands_beside_the_position(one: Parts) -> None:
    """With the bytes of the message, and the batch that it was written with."""
    event, webhook_ids = await begun(one)
    link = one.store.link("tail")
    start = await OutboxReader(link, Lane.ALERT).newest_position()
    assert (event[1], (webhook_ids[1],)) == (start.position.outbox_id, start.rest)
    found = await read_begun(link, Lane.ALERT, event[1], start.rest)
    message = found.message
    assert (1, b"bytes", (webhook_ids[1],), 2) == (
        found.batch,
        message.body,
        message.webhook_ids,
        message.deliveries,
    )
    assert message.written


async def test_what_is_to_come_is_not_missing(one: Parts) -> None:
    """A recovery adds no delivery for a webhook that is to be told; it does for one that was passed over."""
    _, webhook_ids = await begun(one)
    now = dt.datetime.now(dt.UTC)
    missing = {}
    for webhook_id in webhook_ids:
        window = Window(webhook_id, now - MINUTE, now + MINUTE, ("missing",))
        counts, _ = await count(await Walk.of(one.store, window), window)
        missing[webhook_id] = counts.missing
    assert dict(zip(webhook_ids, [0, 0, 1], strict=True)) == missing


async def test_who_is_not_told_yet_waits_for_routing(one: Parts) -> None:
    """That is the reason, until the last chunk is written."""
    event, webhook_ids = await begun(one)
    organization_id = await one.connection.fetchval("select min(id) from organization")
    found = await audience.event(one.store, organization_id, event[1])
    assert found is not None
    listeners, _ = await audience.listeners(one.store, organization_id, found, offset=0, limit=9)
    assert ["waiting_for_routing", "waiting_for_routing", "delivered_to"] == [
        listener.reason for listener in listeners
    ]
    await one.fan_out([], [])  # another batch, with nobody left
    found = await audience.event(one.store, organization_id, event[1])
    assert found is not None
    assert found.scheduled
    assert webhook_ids


async def test_its_month_stays(one: Parts) -> None:
    """Though all that was written of it is finished."""
    today = await one.connection.fetchval("select (clock_timestamp() at time zone 'UTC')::date")
    first = today.replace(day=1)
    await begun(one, day=first - dt.timedelta(days=1))
    drop = "select drop_oldest_month($1)"
    assert await one.connection.fetchval(drop, first) is None
    await one.fan_out([], [])
    assert (first - dt.timedelta(days=1)).replace(day=1) == await one.connection.fetchval(drop, first)
