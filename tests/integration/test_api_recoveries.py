"""The management API: recoveries, as they are asked for and counted; the daemon's part is tested with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dispatcher.store import accounts
from dispatcher.store.recovery_count import COUNTED
from tests.management import Management, management
from tests.past import Past
from tests.postgres import Database

LONG_AGO = "2026-01-01T00:00:00Z"
EVERYTHING = ["failed", "cancelled", "missing"]


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


@pytest.fixture
async def webhook(api: Management) -> str:
    """Make a webhook and give its public id."""
    return str((await api.new_webhook(events=["sensor.*"]))["id"])


@pytest.fixture
async def past(connection: asyncpg.Connection, webhook: str) -> Past:
    """Give the webhook's past, empty as yet."""
    return await Past.of(connection, webhook)


def hours_ago(hours: float) -> str:
    """Write a time before now."""
    return (dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)).isoformat()


async def counted(api: Management, webhook: str, **fields: Any) -> dict[str, int]:
    """Count without sending."""
    wanted = {"since": hours_ago(1), "include": EVERYTHING, "dry_run": True, **fields}
    reply = await api.ask("POST", f"/v1/webhooks/{webhook}/recover", wanted)
    assert (202, None, "dry_run", True) == (
        reply.status,
        reply.data["id"],
        reply.data["status"],
        reply.data["counted_all"],
    )
    counts: dict[str, int] = reply.data["counts"]
    assert sum(counts.values()) == reply.data["count"]
    return counts


async def test_a_window_is_counted_by_what_there_is(api: Management, webhook: str, past: Past) -> None:
    """The last word counts: what was redelivered since, or waits, is neither failed nor missing."""
    for state in ("failed", "failed", "cancelled"):
        key = await past.delivery()
        await past.attempt(key, 1, 500, state=state)
    mended, waiting, tested = [await past.delivery() for _ in range(3)]
    await past.attempt(mended, 1, 500)
    await past.attempt(mended, 2, 200, trigger="manual")
    await past.attempt(waiting, 1, 500, state="pending", next_attempt_at=dt.datetime.now(dt.UTC))
    del tested
    assert {"failed": 2, "cancelled": 1, "missing": 0} == await counted(api, webhook)
    assert {"failed": 2, "cancelled": 0, "missing": 0} == await counted(api, webhook, include=["failed"])
    nothing = {"failed": 0, "cancelled": 0, "missing": 0}
    assert nothing == await counted(api, webhook, since=hours_ago(2), until=hours_ago(1))
    assert [] == (await api.ask("GET", f"/v1/webhooks/{webhook}/recoveries")).data


async def test_missing_is_what_matches_now_and_was_never_scheduled(
    api: Management, webhook: str, past: Past, connection: asyncpg.Connection
) -> None:
    """By type and network; what the dispatcher has not come to yet is not missing."""
    organization = await accounts.create_organization(api.context.database, "b", network_ids=["net_b"])
    assert organization is not None
    key = await api.new_key(organization="b")
    made = await api.ask(
        "POST", "/v1/webhooks", {"url": "https://b.example/", "events": ["sensor.*"]}, key=key
    )
    for network in ("net_a", "net_b", None):
        delivered = await past.delivery()
        await connection.execute(
            "insert into outbox (type, data, network_id)"
            " select type, data, $2 from outbox where (day, id) = ($3, $1)",
            delivered.outbox_id,
            network,
            delivered.day,
        )
    unread = await connection.fetchval("select max(id) from outbox")
    await connection.execute(
        'insert into outbox (type, data) select \'event.updated\', \'{"event_id": "e", "changes": {}}\''
    )
    await connection.execute(
        "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, 9, type, occurred_at, recorded_at, 0, '{}' from outbox o where id <> $1"
        " and not exists (select from message m where m.outbox_id = o.id)",
        unread,
    )
    assert {"failed": 0, "cancelled": 0, "missing": 2} == await counted(api, webhook)
    narrow = (await api.new_webhook(events=["*"], network_ids=["net_a"]))["id"]
    assert 1 == (await counted(api, narrow))["missing"]
    reply = await api.ask(
        "POST",
        f"/v1/webhooks/{made.data['id']}/recover",
        {"since": hours_ago(1), "include": ["missing"], "dry_run": True},
        key=key,
    )
    assert 1 == reply.data["count"]


async def test_a_count_is_bounded(api: Management, webhook: str, past: Past) -> None:
    """Up to 10,000 deliveries are counted; then the answer says that there are more."""
    await past.connection.execute(
        "with o as (insert into outbox (type, data) select 'sensor.offline', $1::json"
        " from generate_series(1, 10050) returning day, id, lane, type, occurred_at, recorded_at)"
        " insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, 1, type, occurred_at, recorded_at, 0, '{}' from o",
        '{"sensor_id":"s","station_code":"G","last_seen":"2024-01-15T14:30:00Z"}',
    )
    wanted = {"since": hours_ago(1), "include": ["missing"], "dry_run": True}
    reply = await api.ask("POST", f"/v1/webhooks/{webhook}/recover", wanted)
    assert (COUNTED, False) == (reply.data["count"], reply.data["counted_all"])


async def test_a_recovery_can_be_followed(api: Management, webhook: str, past: Past) -> None:
    """It is there at once, is listed, and is the only one of its webhook until it has ended."""
    key = await past.delivery()
    await past.attempt(key, 1, 500)
    path = f"/v1/webhooks/{webhook}"
    wanted = {"since": hours_ago(1), "include": ["failed", "missing"]}
    reply = await api.ask("POST", f"{path}/recover", wanted)
    made = reply.data
    assert (202, "running", 1, {"failed": 1, "cancelled": 0, "missing": 0}) == (
        reply.status,
        made["status"],
        made["count"],
        made["counts"],
    )
    assert f"{path}/recoveries/{made['id']}" == reply.headers["Location"]
    assert made == (await api.ask("GET", reply.headers["Location"])).data
    listed = await api.ask("GET", f"{path}/recoveries")
    assert ([made], 1) == (listed.data, listed.body["pagination"]["total"])
    again = await api.ask("POST", f"{path}/recover", wanted)
    assert (409, "conflict") == (again.status, again.code)
    assert made["id"] in again.body["error"]["message"]
    assert 1 == (await counted(api, webhook))["failed"]
    other = (await api.new_webhook())["id"]
    for missing in (f"/v1/webhooks/{other}/recoveries/{made['id']}", f"{path}/recoveries/rcv_x"):
        assert (await api.ask("GET", missing)).status == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"since": None}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": LONG_AGO}, "since"),
        ({"since": "2999-01-01T00:00:00Z"}, "since"),
        ({"until": LONG_AGO}, "since"),
        ({"until": "x"}, "until"),
        ({"include": []}, "include"),
        ({"include": ["failed", "failed"]}, "include"),
        ({"include": ["lost"]}, "include"),
        ({"dry_run": 1}, "dry_run"),
    ],
)
async def test_a_bad_window_is_refused(api: Management, webhook: str, fields: Any, field: str) -> None:
    """A window is in the past, begins before it ends, and is a month long at most."""
    wanted = {"since": hours_ago(1), "include": EVERYTHING, **fields}
    reply = await api.ask("POST", f"/v1/webhooks/{webhook}/recover", wanted)
    assert (400, [field]) == (reply.status, [name for name, _ in reply.details])


async def test_the_first_day_that_there_is_can_be_asked_for(api: Management, webhook: str) -> None:
    """Nothing was recorded then, and there is no day before it."""
    window = {"since": "0001-01-01T00:00:00Z", "until": "0001-01-02T00:00:00Z"}
    assert {"failed": 0, "cancelled": 0, "missing": 0} == await counted(api, webhook, **window)


async def test_nothing_is_recovered_for_a_paused_webhook(api: Management, webhook: str, past: Past) -> None:
    """But it can be counted."""
    key = await past.delivery()
    await past.attempt(key, 1, 500)
    await api.ask("PATCH", f"/v1/webhooks/{webhook}", {"active": False})
    wanted = {"since": hours_ago(1), "include": EVERYTHING}
    assert (await api.ask("POST", f"/v1/webhooks/{webhook}/recover", wanted)).status == 409
    assert 1 == (await counted(api, webhook))["failed"]
