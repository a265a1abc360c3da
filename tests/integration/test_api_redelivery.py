"""The management API: asking for one more attempt of a delivery."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import asyncpg
import pytest

from dispatcher.core.delivery import Fact, Kind, State, fold
from dispatcher.core.ids import DeliveryKey
from tests.management import Management, Reply, management
from tests.past import Past, delivery_id
from tests.postgres import Database


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


@pytest.fixture
async def past(api: Management, connection: asyncpg.Connection) -> Past:
    """Give a new webhook's past."""
    return await Past.of(connection, (await api.new_webhook(events=["*"]))["id"])


async def redeliver(api: Management, past: Past, key: DeliveryKey) -> Reply:
    """Ask for one more attempt."""
    webhook = await past.connection.fetchval("select public_id from webhook where id = $1", past.webhook_id)
    name = await delivery_id(past.connection, key)
    return await api.ask("POST", f"/v1/webhooks/{webhook}/deliveries/{name}/redeliver")


async def requests(past: Past, key: DeliveryKey) -> list[tuple[int, str, str, int]]:
    """Give the requests of a delivery: attempt, state, trigger, failures of the schedule."""
    rows = await past.connection.fetch(
        "select attempt_no, state, trigger, failures from delivery_event where kind = 'requested'"
        " and (day, outbox_id, webhook_id) = ($1, $2, $3) order by attempt_no",
        *key,
    )
    return [tuple(row) for row in rows]


async def amounts_to(past: Past, key: DeliveryKey) -> State:
    """Fold a delivery's facts anew."""
    rows = await past.connection.fetch(
        "select attempt_no, kind, state, next_attempt_at, status_code from delivery_event"
        " where (day, outbox_id, webhook_id) = ($1, $2, $3) order by attempt_no, step",
        *key,
    )
    return fold(
        Fact(
            row["attempt_no"],
            Kind(row["kind"]),
            State(row["state"]),
            retry_due=row["next_attempt_at"] is not None,
            delivered=row["status_code"] == 200,
        )
        for row in rows
    )


async def test_what_is_over_is_attempted_once_more(api: Management, past: Past) -> None:
    """Failed and cancelled deliveries are pending again; a delivered one stays delivered. The bell rings."""
    heard: asyncio.Queue[object] = asyncio.Queue()
    await past.connection.add_listener("dispatcher_outbox", lambda *said: heard.put_nowait(said[-1]))
    failed, cancelled, delivered = [await past.delivery() for _ in range(3)]
    await past.attempt(failed, 1, 500, failures=4)
    await past.fact(cancelled, 1, 1, kind="cancelled", state="cancelled", reason="webhook deactivated")
    await past.attempt(delivered, 1, 200)
    for key, state, failures in (
        (failed, "pending", 4),
        (cancelled, "pending", 0),
        (delivered, "delivered", 0),
    ):
        reply = await redeliver(api, past, key)
        shown = reply.data
        assert (202, await delivery_id(past.connection, key), state) == (
            reply.status,
            shown["id"],
            shown["status"],
        )
        assert dt.datetime.fromisoformat(shown["next_attempt_at"]) <= dt.datetime.now(dt.UTC)
        assert reply.headers["Location"].endswith(shown["id"])
        assert [(2, state, "manual", failures)] == await requests(past, key)
        assert state == await amounts_to(past, key)
        async with asyncio.timeout(10):
            assert "due" == await heard.get()
        detail = (await api.ask("GET", reply.headers["Location"])).data
        actor = await past.connection.fetchval("select public_id from api_key")
        assert (actor, "requested") == (detail["facts"][-1]["actor"], detail["facts"][-1]["kind"])


async def test_asking_twice_is_asking_once(api: Management, past: Past) -> None:
    """One request is pending at a time, however many ask for it at once."""
    key = await past.delivery()
    await past.attempt(key, 1, 500)
    first = await redeliver(api, past, key)
    path = f"{first.headers['Location']}/redeliver"
    await past.attempt(key, 2, 500, trigger="manual")
    replies = await asyncio.gather(*(api.ask("POST", path) for _ in range(5)))
    assert {202} == {reply.status for reply in replies}
    assert {first.data["id"]} == {reply.data["id"] for reply in replies}
    assert [(number, "pending", "manual", 0) for number in (2, 3)] == await requests(past, key)


async def test_a_pending_retry_is_not_doubled(api: Management, past: Past) -> None:
    """It is made now instead of later, as the retry that it is; the schedule goes on from there."""
    key = await past.delivery()
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    await past.attempt(key, 1, 500, state="pending", next_attempt_at=later, failures=1)
    for _ in range(2):
        shown = (await redeliver(api, past, key)).data
        assert "pending" == shown["status"]
        assert dt.datetime.fromisoformat(shown["next_attempt_at"]) < later
    assert [(2, "pending", "retry", 1)] == await requests(past, key)
    await past.attempt(key, 2, 500, trigger="retry", state="pending", next_attempt_at=later, failures=2)
    webhook = await past.connection.fetchval("select public_id from webhook")
    name = await delivery_id(past.connection, key)
    shown = (await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries/{name}")).data
    assert [("first", False), ("manual", True)] == [
        (one["trigger"], one["actor"] is not None) for one in shown["attempts"]
    ]


async def test_what_is_attempted_anyway_is_left_alone(api: Management, past: Past) -> None:
    """A delivery whose first attempt is still to come, one that a crash interrupted, a test not yet sent."""
    fresh, interrupted = [await past.delivery() for _ in range(2)]
    now = dt.datetime.now(dt.UTC)
    await past.fact(
        interrupted, 1, 2, kind="interrupted", state="pending", trigger="first", next_attempt_at=now
    )
    for key in (fresh, interrupted):
        reply = await redeliver(api, past, key)
        assert (202, "pending") == (reply.status, reply.data["status"])
        assert [] == await requests(past, key)
    webhook = await past.connection.fetchval("select public_id from webhook")
    sent = await api.ask("POST", f"/v1/webhooks/{webhook}/test")
    reply = await api.ask("POST", f"{sent.headers['Location']}/redeliver", {})
    assert (202, sent.data["id"]) == (reply.status, reply.data["id"])


async def test_a_paused_webhook_gets_tests_alone(api: Management, past: Past) -> None:
    """409 where the attempt would only be cancelled; unknown and others' deliveries do not exist."""
    key = await past.delivery()
    await past.attempt(key, 1, 500)
    webhook = await past.connection.fetchval("select public_id from webhook")
    await api.ask("PATCH", f"/v1/webhooks/{webhook}", {"active": False})
    reply = await redeliver(api, past, key)
    assert (409, "conflict") == (reply.status, reply.code)
    assert [] == await requests(past, key)
    other = (await api.new_webhook())["id"]
    name = await delivery_id(past.connection, key)
    for path in (f"{other}/deliveries/{name}", f"{webhook}/deliveries/dlv_x"):
        assert (await api.ask("POST", f"/v1/webhooks/{path}/redeliver")).status == 404
    reply = await api.ask("POST", f"/v1/webhooks/{webhook}/deliveries/{name}/redeliver", {"now": True})
    assert (400, ["now"]) == (reply.status, [field for field, _ in reply.details])
