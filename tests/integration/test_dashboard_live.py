"""Streams of server-sent events: what is told, to whom, how many there may be, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from dispatcher.dashboard.live import Streams
from dispatcher.dashboard.visit import BASE
from dispatcher.store import accounts
from tests.dashboard import House, Visitor, dashboard
from tests.past import Past
from tests.postgres import Database, wait_for


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    """Run the dashboard."""
    async with dashboard(database.url) as running:
        yield running


@contextlib.asynccontextmanager
async def stream(visitor: Visitor, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """Open a stream and read until it is ready."""
    async with asyncio.timeout(30), visitor.session.get(visitor.house.url + path) as response:
        assert (200, "text/event-stream") == (response.status, response.content_type)
        await told(response, b"event: ready")
        yield response


async def told(response: aiohttp.ClientResponse, what: bytes) -> None:
    """Read lines until one is this."""
    while True:
        line = await response.content.readline()
        assert line, "the stream ended"
        if line.strip() == what:
            return


async def test_a_page_is_told_of_an_attempt_and_of_a_change(house: House, database: Database) -> None:
    """The webhook's stream and its delivery's; never what happened, only that something did."""
    connection = await database.connect()
    async with house.visitor() as visitor:
        webhook_id = await visitor.new_webhook()
        path = f"{BASE}/{webhook_id}"
        past = await Past.of(connection, webhook_id)
        key = await past.delivery()
        delivery = house.context.ids.encode(key)
        async with (
            stream(visitor, f"{BASE}/live") as listed,
            stream(visitor, f"{path}/live") as one,
            stream(visitor, f"{path}/live?delivery={delivery}") as other,
        ):
            await past.attempt(key, 1, 500)
            for response in (listed, one, other):
                await told(response, b"event: changed")
            await visitor.post(f"{path}/pause")
            for response in (listed, one):
                await told(response, b"event: changed")
    await connection.close()


async def test_streams_are_bounded(database: Database) -> None:
    """Who has too many is told not to ask again; a place that was left is free for the next one."""
    streams = Streams(most_of_key=1, most=2)
    async with (
        dashboard(database.url, streams=streams) as house,
        house.visitor() as visitor,
        house.visitor() as other,
        house.visitor() as third,
    ):
        async with stream(visitor, f"{BASE}/live"):
            assert 204 == (await visitor.get(f"{BASE}/live")).status
            async with stream(other, f"{BASE}/live"):
                assert 204 == (await third.get(f"{BASE}/live")).status
        await wait_for(lambda: streams.open == 0, "both places are free again")
        async with stream(visitor, f"{BASE}/live"):
            assert 1 == streams.open


async def test_a_stream_ends_with_its_session(database: Database) -> None:
    """Whose key was revoked is told nothing any more."""
    async with dashboard(database.url, streams=Streams(recheck=1)) as house:
        made = await accounts.create_key(house.context.database, scopes=("read:webhooks",))
        assert made is not None
        async with house.visitor(key=made.key) as visitor, stream(visitor, f"{BASE}/live") as response:
            await accounts.revoke_key(house.context.database, made.public_id)
            assert b"changed" not in await response.content.read()


async def test_a_stream_does_not_hold_up_the_end(database: Database) -> None:
    """When the dispatcher stops, open pages are let go at once."""
    async with contextlib.AsyncExitStack() as outside, asyncio.timeout(20):
        async with dashboard(database.url) as house:
            visitor = await outside.enter_async_context(house.visitor())
            response = await outside.enter_async_context(stream(visitor, f"{BASE}/live"))
        with contextlib.suppress(aiohttp.ClientPayloadError):
            await response.content.read()


async def test_another_organizations_webhook_is_not_followed(house: House) -> None:
    """Nor a delivery by way of a webhook that is not its own."""
    async with house.visitor() as owner:
        webhook_id = await owner.new_webhook()
        other_id = await owner.new_webhook()
        await owner.post(f"{BASE}/{webhook_id}/test", {"event": "webhook.test"})
        listed = (await owner.get(f"{BASE}/{webhook_id}/deliveries")).text
        assert "dlv_" not in listed  # nobody has read the outbox yet
    await accounts.create_organization(house.context.database, "other")
    made = await accounts.create_key(house.context.database, "other", scopes=("admin",))
    assert made is not None
    async with house.visitor(key=made.key) as stranger:
        for one in (webhook_id, other_id):
            assert 404 == (await stranger.get(f"{BASE}/{one}/live")).status
