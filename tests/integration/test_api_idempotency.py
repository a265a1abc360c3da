"""The management API: a POST that is sent again is answered again, and done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dispatcher.core.ids import DeliveryKey
from dispatcher.store.idempotency import Ticket
from tests.management import Management, management
from tests.postgres import Database

WANTED = {"url": "https://receiver.example/hook", "events": ["event.detected"]}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over a fresh database, with a client that may read and write."""
    async with management(database.url) as running:
        yield running


async def test_a_repeated_request_gets_the_first_answer(api: Management, database: Database) -> None:
    """The secret that was made included, which is nowhere readable in the database; nothing is made twice."""
    headers = {"Idempotency-Key": "3f2c"}
    first = await api.ask("POST", "/v1/webhooks", WANTED, headers=headers)
    again = await api.ask("POST", "/v1/webhooks", WANTED, headers=headers)
    assert (201, first.data) == (again.status, again.data)
    for name in ("Location", "ETag"):
        assert first.headers[name] == again.headers[name]
    assert (None, "true") == (
        first.headers.get("Idempotent-Replayed"),
        again.headers.get("Idempotent-Replayed"),
    )
    assert first.headers["X-Request-Id"] != again.headers["X-Request-Id"] == again.body["meta"]["request_id"]
    assert 1 == (await api.ask("GET", "/v1/webhooks")).body["pagination"]["total"]
    connection = await database.connect()
    [answer] = await connection.fetchrow("select answer from idempotency_key")
    await connection.close()
    assert first.data["secret"].encode() not in answer


async def test_a_key_belongs_to_one_request_and_one_api_key(api: Management) -> None:
    """409 for another body or path; another API key's Idempotency-Keys are another matter."""
    headers = {"Idempotency-Key": "one"}
    made = await api.ask("POST", "/v1/webhooks", WANTED, headers=headers)
    for path, body in (
        ("/v1/webhooks", {**WANTED, "events": ["*"]}),
        (f"/v1/webhooks/{made.data['id']}/test", WANTED),
        (f"/v1/webhooks/{made.data['id']}/test", {}),
    ):
        reply = await api.ask("POST", path, body, headers=headers)
        if reply.status == 400:
            continue  # refused before the key is looked at
        assert (409, "conflict") == (reply.status, reply.code), reply.text
        assert [("Idempotency-Key", "was used for another request")] == reply.details
    other = await api.ask("POST", "/v1/webhooks", WANTED, headers=headers, key=await api.new_key())
    assert (201, True) == (other.status, other.data["id"] != made.data["id"])


async def test_a_refused_request_keeps_no_key(api: Management) -> None:
    """Nothing was done, so the mended request may use the same key."""
    headers = {"Idempotency-Key": "two"}
    refused = await api.ask("POST", "/v1/webhooks", {**WANTED, "events": []}, headers=headers)
    made = await api.ask("POST", "/v1/webhooks", WANTED, headers=headers)
    assert (400, 201) == (refused.status, made.status)


@pytest.mark.parametrize("key", ["", " ", "é", "x" * 256])
async def test_a_bad_key_is_refused(api: Management, key: str) -> None:
    """An Idempotency-Key is printable ASCII of 1 to 255 characters."""
    reply = await api.ask("POST", "/v1/webhooks", WANTED, headers={"Idempotency-Key": key})
    assert (400, ["Idempotency-Key"]) == (reply.status, [field for field, _ in reply.details])


async def test_requests_at_the_same_time_do_it_once(api: Management) -> None:
    """One of them does it; the others get its answer, or are asked to come back."""
    headers = {"Idempotency-Key": "three"}
    replies = await asyncio.gather(
        *(api.ask("POST", "/v1/webhooks", WANTED, headers=headers) for _ in range(6))
    )
    assert {reply.status for reply in replies} <= {201, 409}
    assert 1 == len({reply.data["id"] for reply in replies if reply.status == 201})
    for reply in replies:
        if reply.status == 409:
            assert (["Idempotency-Key"], "1") == (
                [field for field, _ in reply.details],
                reply.headers["Retry-After"],
            )
    assert 1 == (await api.ask("GET", "/v1/webhooks")).body["pagination"]["total"]


async def test_while_a_request_is_worked_on_its_key_is_in_use(api: Management) -> None:
    """409 with Retry-After, without waiting for the other one to end."""
    context = api.context
    async with context.database.transaction() as database:
        assert await Ticket(database, context.vault, 1, "five").turn()
        reply = await api.ask("POST", "/v1/webhooks", WANTED, headers={"Idempotency-Key": "five"})
        assert (409, "1") == (reply.status, reply.headers["Retry-After"])
    reply = await api.ask("POST", "/v1/webhooks", WANTED, headers={"Idempotency-Key": "five"})
    assert reply.status == 201


async def test_a_key_is_forgotten_after_a_day(api: Management, database: Database) -> None:
    """It may then be used again, and its row is deleted by whoever comes next."""
    for name in ("old", "older"):
        await api.ask("POST", "/v1/webhooks", WANTED, headers={"Idempotency-Key": name})
    connection = await database.connect()
    await connection.execute("update idempotency_key set created_at = now() - interval '25 hours'")
    again = await api.ask("POST", "/v1/webhooks", WANTED, headers={"Idempotency-Key": "old"})
    assert (201, None) == (again.status, again.headers.get("Idempotent-Replayed"))
    assert 1 == await connection.fetchval("select count(*) from idempotency_key")
    await connection.close()


async def test_every_post_is_honoured(api: Management, database: Database) -> None:
    """Tests and rotations too: one event, one secret."""
    webhook = (await api.new_webhook())["id"]
    for path, body in (("test", {}), ("rotate-secret", {"grace_seconds": 5})):
        headers = {"Idempotency-Key": path}
        replies = [
            await api.ask("POST", f"/v1/webhooks/{webhook}/{path}", body, headers=headers) for _ in range(2)
        ]
        assert replies[0].data == replies[1].data
    connection = await database.connect()
    [day, outbox_id, webhook_id] = await connection.fetchrow("select day, id, target_webhook_id from outbox")
    await connection.close()
    delivery = api.context.ids.encode(DeliveryKey(day, outbox_id, webhook_id))
    assert (await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries/{delivery}")).status == 200
