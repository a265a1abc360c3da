"""The management API: the history of a webhook, and tests."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.management import Management, management
from tests.past import NOW, SENSOR, Past, delivery_id
from tests.postgres import Database


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


@pytest.fixture
async def webhook(api: Management) -> str:
    """Make a webhook and give its public id."""
    return str((await api.new_webhook(events=["*"]))["id"])


@pytest.fixture
async def past(connection: asyncpg.Connection, webhook: str) -> Past:
    """Give the webhook's past, empty as yet."""
    return await Past.of(connection, webhook)


async def listed(api: Management, webhook: str, query: str = "") -> list[str]:
    """Give the ids of the deliveries that a query finds."""
    reply = await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries{query}")
    return [one["id"] for one in reply.data]


async def test_deliveries_come_newest_first(api: Management, webhook: str, past: Past) -> None:
    """A list tells of each delivery its state, attempts and last outcome."""
    keys = [await past.delivery() for _ in range(3)]
    await past.attempt(keys[0], 1, 500, state="pending", next_attempt_at=NOW)
    await past.attempt(keys[0], 2, 200)
    await past.attempt(keys[1], 1, None, state="pending", next_attempt_at=NOW)
    ids = [await delivery_id(past.connection, key) for key in keys]
    reply = await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries")
    assert ids[::-1] == [one["id"] for one in reply.data]
    expected = {"page": 1, "limit": 20, "total": 3, "pages": 1, "next_cursor": None}
    assert expected == reply.body["pagination"]
    waiting, retrying, delivered = reply.data
    assert ("pending", 0, None, None) == (
        waiting["status"],
        waiting["attempt_count"],
        waiting["error"],
        waiting["next_attempt_at"],
    )
    assert ("pending", 1, {"class": "refused", "message": "in words"}, "2026-01-01T00:00:00Z") == (
        retrying["status"],
        retrying["attempt_count"],
        retrying["error"],
        retrying["next_attempt_at"],
    )
    assert ("delivered", 2, 200, None, None) == (
        delivered["status"],
        delivered["attempt_count"],
        delivered["status_code"],
        delivered["error"],
        delivered["next_attempt_at"],
    )
    assert (webhook, "sensor.offline", False) == (
        delivered["webhook_id"],
        delivered["event"],
        delivered["test"],
    )


async def test_another_webhooks_deliveries_are_not_listed(api: Management, webhook: str, past: Past) -> None:
    """A history is one webhook's; a delivery is not found under another one."""
    key = await past.delivery()
    other = (await api.new_webhook())["id"]
    assert [] == await listed(api, other)
    name = await delivery_id(past.connection, key)
    assert (await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries/{name}")).status == 200
    assert (await api.ask("GET", f"/v1/webhooks/{other}/deliveries/{name}")).status == 404


async def test_a_clock_that_was_ahead_hides_no_delivery(api: Management, webhook: str, past: Past) -> None:
    """The server's clock was ahead by five days and is put right: what comes then is listed."""
    days = [dt.timedelta(days=count) for count in (5, 0, 0)]
    early, *right = [await delivery_id(past.connection, await past.delivery(ahead=one)) for one in days]
    now = dt.datetime.now(dt.UTC)
    since, until = (f"{now + dt.timedelta(days=count):%Y-%m-%dT%H:%M:%SZ}" for count in (-1, 9))
    for query in ("", f"?since={since}", f"?until={until}", f"?since={since}&until={until}"):
        assert [*right[::-1], early] == await listed(api, webhook, query), query


async def test_a_list_can_be_narrowed(api: Management, webhook: str, past: Past) -> None:
    """By state, by type and by time; the total counts what matches."""
    failed, pending, delivered = [await past.delivery() for _ in range(3)]
    update = await past.delivery("event.updated", '{"event_id":"e","changes":{}}')
    await past.attempt(failed, 1, 500, state="pending")
    await past.attempt(failed, 2, 500, state="failed")
    await past.attempt(delivered, 1, 500, state="failed")  # and redelivered afterwards
    await past.attempt(delivered, 2, 200, trigger="manual")
    await past.fact(update, 1, 1, kind="cancelled", state="cancelled", reason="deleted")
    names = {
        name: await delivery_id(past.connection, key)
        for name, key in (("f", failed), ("p", pending), ("d", delivered), ("u", update))
    }
    for query, found in (
        ("?status=failed", "f"),
        ("?status=pending", "p"),
        ("?status=delivered", "d"),
        ("?status=cancelled", "u"),
        ("?event=event.updated", "u"),
        ("?event=sensor.offline", "dpf"),
        ("?event=sensor.offline&status=pending", "p"),
        ("?since=2020-01-01T00:00:00Z", "udpf"),
        ("?until=2020-01-01T00:00:00Z", ""),
        ("?since=2999-01-01T00:00:00Z", ""),
        ("?since=2020-01-01T00:00:00%2B02:00&until=2999-01-01T00:00:00+02:00", "udpf"),
    ):
        reply = await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries{query}")
        assert [names[one] for one in found] == [one["id"] for one in reply.data], query
        assert len(found) == reply.body["pagination"]["total"], query


async def test_since_is_inclusive_and_until_exclusive(api: Management, webhook: str, past: Past) -> None:
    """`created_at` of a delivery, given back as `since`, finds it; as `until` it does not."""
    older, newer = [await delivery_id(past.connection, await past.delivery()) for _ in range(2)]
    moment = (await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries/{newer}")).data["created_at"]
    assert [newer] == await listed(api, webhook, f"?since={moment}")
    assert [older] == await listed(api, webhook, f"?until={moment}")


async def test_a_walk_by_cursor_is_stable(api: Management, webhook: str, past: Past) -> None:
    """What arrives during a walk neither repeats nor hides what the walk has still to show."""
    ids = [await delivery_id(past.connection, await past.delivery()) for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        reply = await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries?limit=2{cursor}")
        seen += [one["id"] for one in reply.data]
        await past.delivery()
        following = reply.body["pagination"]["next_cursor"]
        if following is None:
            break
        cursor = f"&cursor={following}"
    assert ids[::-1] == seen
    assert ids[2::-1] == (await listed(api, webhook, "?page=2&limit=5"))[-3:]


async def test_a_long_history_takes_bounded_work(api: Management, webhook: str, past: Past) -> None:
    """Totals stop at 10,000, and a search for something rare goes on by cursor where a page's reach ends."""
    old = await past.delivery("event.updated", '{"event_id":"e","changes":{}}')
    await past.attempt(old, 1, 500)
    await past.many(10_050)
    name = await delivery_id(past.connection, old)
    path = f"/v1/webhooks/{webhook}/deliveries"
    reply = await api.ask("GET", path)
    assert (20, 10_000) == (len(reply.data), reply.body["pagination"]["total"])
    reply = await api.ask("GET", f"{path}?event=event.updated")
    assert [] == reply.data
    following = reply.body["pagination"]["next_cursor"]
    reply = await api.ask("GET", f"{path}?event=event.updated&cursor={following}")
    assert ([name], None) == ([one["id"] for one in reply.data], reply.body["pagination"]["next_cursor"])
    reply = await api.ask("GET", f"{path}?status=failed")
    assert [name] == [one["id"] for one in reply.data]
    expected = {"page": 1, "limit": 20, "total": 1, "pages": 1, "next_cursor": None}
    assert expected == reply.body["pagination"]
    reply = await api.ask("GET", f"{path}?page=101&limit=100")
    assert [("page", "reaches beyond 10000 deliveries; walk with cursor instead")] == reply.details
    assert len(await listed(api, webhook, "?page=100&limit=100")) == 100


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=broken", "status"),
        ("status=null", "status"),
        ("page=null", "page"),
        ("event=event.detcted", "event"),
        ("event=%00", "event"),
        ("since=yesterday", "since"),
        ("since=2024-02-30T00:00:00Z", "since"),
        ("until=2024-01-15T14:32:50", "until"),
        ("cursor=x", "cursor"),
        ("cursor=AQ%3D%3D", "cursor"),
        ("cursor=Af__________", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        ("cursor=AQAAAAAAAAAB&page=2", "page"),
        ("limit=1e9", "limit"),
        ("stauts=failed", "stauts"),
    ],
)
async def test_a_bad_query_is_refused(api: Management, webhook: str, query: str, field: str) -> None:
    """A query that is not understood is an error, not an unfiltered list."""
    reply = await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries?{query}")
    assert (400, [field]) == (reply.status, [name for name, _ in reply.details])


async def test_a_delivery_shows_everything_that_happened(api: Management, webhook: str, past: Past) -> None:
    """Payload as sent, and each attempt with what was sent and what came back."""
    key = await past.delivery()
    await past.attempt(
        key,
        1,
        500,
        state="pending",
        next_attempt_at=NOW,
        address="192.0.2.1",
        request_headers=[["X-Grillo-Attempt", "1"], ["webhook-id", "dlv_x"]],
        response_headers=[["Set-Cookie", "a=1"], ["set-cookie", "b=2"], ["Server", "s"]],
        response_body=b"caf\xc3\xa9",
        response_truncated=False,
        timings={"dns_ms": 1.5},
        duration_ms=7.572,
    )
    await past.fact(key, 2, 2, kind="interrupted", state="pending", trigger="retry", reason="crash")
    await past.fact(key, 3, 0, kind="requested", state="pending", trigger="manual", actor="key_x")
    await past.attempt(
        key,
        3,
        200,
        trigger="manual",
        request_headers=[],
        response_headers=[],
        response_body=b"\xff\x00",
        response_truncated=True,
    )
    name = await delivery_id(past.connection, key)
    reply = await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries/{name}")
    shown = reply.data
    payload = f'{{"type":"sensor.offline","timestamp":"2026-01-01T00:00:00Z","data":{SENSOR}}}'
    assert f'"payload":{payload},' in reply.text
    assert (name, "delivered", 3, 200) == (
        shown["id"],
        shown["status"],
        shown["attempt_count"],
        shown["status_code"],
    )
    first, crashed, last = shown["attempts"]
    assert first == {
        "number": 1,
        "kind": "attempted",
        "trigger": "first",
        "recorded_at": first["recorded_at"],
        "started_at": "2026-01-01T00:01:00Z",
        "duration_ms": 7.572,
        "address": "192.0.2.1",
        "request": {"headers": {"X-Grillo-Attempt": "1", "webhook-id": "dlv_x"}},
        "status_code": 500,
        "error": {"class": "server_error", "message": "in words"},
        "response": {
            "headers": {"Set-Cookie": "a=1, b=2", "Server": "s"},
            "body": "café",
            "body_bytes": 5,
            "truncated": False,
        },
        "reason": None,
        "actor": None,
        "next_attempt_at": "2026-01-01T00:00:00Z",
        "timings": {
            "dns_ms": 1.5,
            "connect_ms": None,
            "tls_ms": None,
            "first_byte_ms": None,
            "total_ms": 7.572,
        },
    }
    assert [
        (1, "attempted", "first", None, None),
        (2, "interrupted", "retry", "crash", None),
        (3, "requested", "manual", None, "key_x"),
        (3, "attempted", "manual", None, None),
    ] == [(one["number"], one["kind"], one["trigger"], one["reason"], one["actor"]) for one in shown["facts"]]
    assert [(2, "interrupted", None), (3, "attempted", "key_x")] == [
        (one["number"], one["kind"], one["actor"]) for one in (crashed, last)
    ]
    assert shown["reason"] is None
    assert len(payload.encode()) == shown["payload_bytes"]
    assert (None, None) == (crashed["request"], crashed["response"])
    assert b"\xff\x00" == base64.b64decode(last["response"]["body_base64"])
    assert ("\N{REPLACEMENT CHARACTER}\x00", True) == (
        last["response"]["body"],
        last["response"]["truncated"],
    )


async def test_a_cancelled_delivery_says_why(api: Management, webhook: str, past: Past) -> None:
    """What was not attempted is no attempt; the history of a deleted webhook stays readable, nothing else."""
    key = await past.delivery()
    await past.attempt(key, 1, 500, state="pending", next_attempt_at=NOW)
    await past.fact(key, 2, 1, kind="cancelled", state="cancelled", reason="webhook deleted")
    path = f"/v1/webhooks/{webhook}/deliveries"
    name = await delivery_id(past.connection, key)
    assert (await api.ask("DELETE", f"/v1/webhooks/{webhook}")).status == 204
    shown = (await api.ask("GET", f"{path}/{name}")).data
    assert ("cancelled", "webhook deleted", 1) == (
        shown["status"],
        shown["reason"],
        shown["attempt_count"],
    )
    assert ([1], ["attempted", "cancelled"]) == (
        [one["number"] for one in shown["attempts"]],
        [one["kind"] for one in shown["facts"]],
    )
    assert [name] == await listed(api, webhook, "?status=cancelled")
    for method, gone in (("GET", ""), ("POST", "/test"), ("POST", f"/deliveries/{name}/redeliver")):
        assert (await api.ask(method, f"/v1/webhooks/{webhook}{gone}")).status == 404


@pytest.mark.parametrize("name", ["dlv_x", "whk_x", "dlv_" + "0" * 26, "dlv_" + "z" * 26, "%00", "%FF"])
async def test_an_unknown_delivery_is_not_found(api: Management, webhook: str, name: str) -> None:
    """Ids that were never given out answer 404."""
    assert (await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries/{name}")).status == 404


async def test_a_test_is_a_delivery_at_once(
    api: Management, webhook: str, connection: asyncpg.Connection
) -> None:
    """202 with a pending delivery that can be looked at before the daemon has seen it."""
    reply = await api.ask("POST", f"/v1/webhooks/{webhook}/test")
    sent = reply.data
    assert (202, "webhook.test", "pending", True, 0) == (
        reply.status,
        sent["event"],
        sent["status"],
        sent["test"],
        sent["attempt_count"],
    )
    assert f"/v1/webhooks/{webhook}/deliveries/{sent['id']}" == reply.headers["Location"]
    shown = (await api.ask("GET", reply.headers["Location"])).data
    assert sent == {name: shown[name] for name in sent}
    assert ([], []) == (shown["attempts"], shown["facts"])
    assert ("webhook.test", True, webhook) == (
        shown["payload"]["type"],
        shown["payload"]["test"],
        shown["payload"]["data"]["webhook_id"],
    )
    row = await connection.fetchrow(
        "select o.test, w.public_id from outbox o join webhook w on w.id = o.target_webhook_id"
    )
    assert (True, webhook) == tuple(row)


async def test_a_test_can_send_the_sample_of_a_type(api: Management) -> None:
    """Any registered type can be tried, on an inactive webhook too, and is marked as a drill."""
    webhook = (await api.new_webhook(active=False))["id"]
    for kind in (await api.ask("GET", "/v1/event-types")).data:
        reply = await api.ask("POST", f"/v1/webhooks/{webhook}/test", {"event": kind["name"]})
        assert (202, kind["name"]) == (reply.status, reply.data["event"])
        payload = (await api.ask("GET", reply.headers["Location"])).data["payload"]
        assert (kind["name"], True) == (payload["type"], payload["test"])
        if kind["name"] != "webhook.test":
            assert kind["sample"] == payload["data"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"event": "sensor.ofline"}, ("event", 'not a known event type; did you mean "sensor.offline"?')),
        ({"event": "*"}, ("event", "not a known event type")),
        ({"event": None}, ("event", "expected string, got null")),
        ({"type": "event.detected"}, ("type", "is not a known field")),
    ],
)
async def test_a_bad_test_is_refused(
    api: Management, webhook: str, body: Any, detail: tuple[str, str]
) -> None:
    """Only a registered type has a sample."""
    reply = await api.ask("POST", f"/v1/webhooks/{webhook}/test", body)
    assert reply.status == 400
    [(field, message)] = reply.details
    assert field == detail[0]
    assert message.endswith(detail[1])


async def test_event_types_come_with_schema_and_sample(api: Management) -> None:
    """Each type tells what its data must hold, and gives an example of it."""
    reply = await api.ask("GET", "/v1/event-types")
    kinds = {one["name"]: one for one in reply.data}
    assert {"page": 1, "limit": 100, "total": 7, "pages": 1} == reply.body["pagination"]
    offline = kinds["sensor.offline"]
    assert json.loads(SENSOR)["station_code"] == offline["sample"]["station_code"]
    assert ("routine", True) == (offline["priority"], offline["built_in"])
    assert ["sensor_id", "station_code", "last_seen"] == offline["schema"]["required"]
    detected = kinds["event.detected"]["schema"]
    assert {"type": ["number", "null"]} == detected["properties"]["magnitude"]
    assert "magnitude" in detected["required"]
    assert "depth_km" not in detected["required"]
    assert {"type": "number", "minimum": -90, "maximum": 90} == detected["properties"]["latitude"]
