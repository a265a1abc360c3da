"""The management API: whom an event reached, and why not the others."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dispatcher.store import accounts
from tests.management import Management, management
from tests.past import SENSOR, Past, delivery_id
from tests.postgres import Database


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


async def reasons(api: Management, outbox_id: int, key: str | None = None) -> dict[str, str]:
    """Give the reason for each webhook."""
    reply = await api.ask("GET", f"/v1/events/{outbox_id}/routing", key=key)
    return {one["webhook_id"]: one["reason"] for one in reply.data["webhooks"]}


async def test_every_webhook_has_a_reason(api: Management, connection: asyncpg.Connection) -> None:
    """The one that was told has its delivery; each of the others what kept the event from it."""
    subscriptions: dict[str, dict[str, Any]] = {
        "told": {"events": ["sensor.*"]},
        "other type": {"events": ["event.*"]},
        "other network": {"events": ["*"], "network_ids": ["net_b"]},
        "paused": {"events": ["*"], "active": False},
        "changed": {"events": ["*"]},
    }
    names = {name: str((await api.new_webhook(**fields))["id"]) for name, fields in subscriptions.items()}
    past = await Past.of(connection, names["told"])
    delivery = await past.delivery()
    names["later"] = str((await api.new_webhook(events=["*"]))["id"])
    assert {
        names["told"]: "delivered_to",
        names["other type"]: "not_subscribed",
        names["other network"]: "network_not_selected",
        names["paused"]: "inactive",
        names["changed"]: "not_matching_then",
        names["later"]: "created_later",
    } == await reasons(api, delivery.outbox_id)
    reply = await api.ask("GET", f"/v1/events/{delivery.outbox_id}/routing?limit=1&page=6")
    assert ("sensor.offline", True, False, None) == tuple(
        reply.data[name] for name in ("event", "scheduled", "test", "network_id")
    )
    [told] = reply.data["webhooks"]
    assert (await delivery_id(connection, delivery), "pending") == (told["delivery_id"], told["status"])
    assert {"page": 6, "limit": 1, "total": 6, "pages": 6} == reply.body["pagination"]


async def test_an_event_that_was_not_read_yet_waits(api: Management, connection: asyncpg.Connection) -> None:
    """The daemon has not come to it; a test is for one webhook alone."""
    webhook, other = [str((await api.new_webhook(events=["*"]))["id"]) for _ in range(2)]
    await api.ask("POST", f"/v1/webhooks/{webhook}/test")
    outbox_id = await connection.fetchval("select id from outbox")
    assert {"waiting_for_routing"} == set((await reasons(api, outbox_id)).values())
    past = await Past.of(connection, webhook)
    await connection.execute(
        "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, 1, type, occurred_at, recorded_at, 1, '{}' from outbox"
    )
    await connection.execute(
        "insert into delivery (day, outbox_id, webhook_id, lane) select day, id, $1, lane from outbox",
        past.webhook_id,
    )
    assert {webhook: "delivered_to", other: "test_of_another_webhook"} == await reasons(api, outbox_id)


async def test_an_event_of_a_clock_that_was_ahead_exists(
    api: Management, connection: asyncpg.Connection
) -> None:
    """The server's clock was ahead by five days and is put right: what it recorded can be asked about."""
    webhook = str((await api.new_webhook(events=["*"]))["id"])
    delivery = await (await Past.of(connection, webhook)).delivery(ahead=dt.timedelta(days=5))
    assert {webhook: "delivered_to"} == await reasons(api, delivery.outbox_id)


async def test_other_organizations_events_do_not_exist(
    api: Management, connection: asyncpg.Connection
) -> None:
    """An event is seen by who owns its network, or was told of it; an operational one by whom it is about."""
    for name, networks in (("a", ["net_a"]), ("b", ["net_b"])):
        await accounts.create_organization(api.context.database, name, network_ids=networks)
    keys = {name: await api.new_key(organization=name) for name in ("a", "b")}
    made = {
        name: (
            await api.ask("POST", "/v1/webhooks", {"url": "https://r.example/", "events": ["*"]}, key=key)
        ).data["id"]
        for name, key in keys.items()
    }
    event = await connection.fetchval(
        "insert into outbox (type, data, network_id)"
        " values ('sensor.offline', $1::json, 'net_a') returning id",
        SENSOR,
    )
    about = await connection.fetchval(
        "insert into outbox (type, data) values ('webhook.disabled', json_build_object("
        "'webhook_id', $1::text, 'url', 'https://r.example/', 'reason', 'gone')) returning id",
        made["b"],
    )
    nobodys = await connection.fetchval(
        "insert into outbox (type, data) values ('sensor.offline', $1::json) returning id", SENSOR
    )
    for outbox_id, seen_by in ((event, "a"), (about, "b"), (nobodys, "")):
        for name, key in keys.items():
            reply = await api.ask("GET", f"/v1/events/{outbox_id}/routing", key=key)
            assert (200 if name in seen_by else 404) == reply.status, (outbox_id, name)
    past = await Past.of(connection, made["b"])
    told = await past.delivery()
    await connection.execute(
        "insert into delivery (day, outbox_id, webhook_id, lane) values ($1, $2, $3, 2)",
        told.day,
        event,
        past.webhook_id,
    )
    assert {made["b"]: "delivered_to"} == await reasons(api, event, keys["b"])
    for outbox_id in ("0", "x", "-1", "99", "9223372036854775807", "9223372036854775808", "1e3", "%00"):
        assert (await api.ask("GET", f"/v1/events/{outbox_id}/routing")).status == 404, outbox_id
