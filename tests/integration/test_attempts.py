"""The workers: what is cut off has its fact, and who waits for the right of way goes on by himself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from dispatcher.core.delivery import STEP, Kind, State
from dispatcher.core.pending import Lane
from dispatcher.daemon.attempts import Attempts
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.relevance import OFFLINE
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.shared import utc_now
from tests.parts import ABOUT_ONE, Parts, attempted, insert, new_webhook, parts, running
from tests.postgres import Database, wait_for
from tests.receiver import Receiver

if TYPE_CHECKING:
    from dispatcher.core.ids import DeliveryKey


class Silent:
    """A receiver that reads and never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.url = ""

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection, until the other side ends it."""
        self.asked.set()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[Silent]:
    """Listen on a free port."""
    one = Silent()
    async with await asyncio.start_server(one.hear, "127.0.0.1", 0) as server:
        one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield one


@contextlib.asynccontextmanager
async def working(one: Parts, url: str, lane: Lane) -> AsyncIterator[tuple[Attempts, Recorder, DeliveryKey]]:
    """Let workers work, and queue a delivery for this receiver, which nobody tells them of."""
    webhook_id = await new_webhook(one.connection, url)
    await one.shared.registry.refresh()
    event = await insert(one.connection)
    (key,) = await one.fan_out([event], [webhook_id], claimed=True, lane=lane, body=ABOUT_ONE)
    recorder = Recorder(one.shared, one.store.link("recorder"), lambda *_: None)
    attempts = Attempts(one.shared, recorder)
    async with running(recorder.run()), asyncio.TaskGroup() as group:
        attempts.begin(group)
        pending = one.bring(key, lane)
        assert pending is not None
        one.shared.order.push(pending)
        try:
            yield attempts, recorder, key
        finally:
            attempts.close()
            attempts.cut_off("the test is over")
            await attempts.landed()


async def test_what_is_cut_off_twice_has_its_fact(database: Database) -> None:
    """The lead could not be confirmed as the shard was handed over: `interrupted`, and it goes on."""
    async with (
        parts(database) as one,
        silent() as receiver,
        working(one, receiver.url, Lane.ALERT) as (attempts, recorder, key),
    ):
        attempts.pump()
        await receiver.asked.wait()
        attempts.cut_off("the lead could not be confirmed in time")
        attempts.cut_off("the webhook's shard was handed over")
        attempts.close()
        await attempts.landed()
        await recorder.drained()
        assert [(1, Kind.INTERRUPTED, "pending")] == await one.facts(key)
        assert 0 == one.lanes.in_flight


async def test_what_was_signed_for_another_secret_does_not_leave(database: Database) -> None:
    """A webhook was changed while its connection was being made: what follows is made for what it is now."""
    asked, may_go = asyncio.Event(), asyncio.Event()
    sent = bytearray()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await may_go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            sent.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy:
        proxy_url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with (
            parts(database, proxy_url=proxy_url) as one,
            working(one, "http://127.0.0.1:9/", Lane.ALERT) as (attempts, recorder, key),
        ):
            attempts.pump()
            await asked.wait()
            await one.connection.execute("update webhook set description = 'rotated'")
            await one.shared.registry.refresh()
            attempts.close()
            may_go.set()
            await attempts.landed()
            await recorder.drained()
            assert [(1, Kind.INTERRUPTED, "pending")] == await one.facts(key)
            reason = await one.connection.fetchval("select reason from delivery_event")
            assert "the webhook was changed" == reason
    assert not sent


async def test_who_gives_way_goes_on_by_himself(database: Database) -> None:
    """The alert does not come, and nobody gives the way back: what waits leaves all the same."""
    async with (
        parts(database) as one,
        silent() as receiver,
        working(one, receiver.url, Lane.ROUTINE) as (attempts, _, _),
    ):
        one.lanes.right_of_way.take(time.monotonic_ns() + 2 * 10**8)
        attempts.pump()
        assert 0 == one.lanes.in_flight
        await wait_for(receiver.asked.is_set, "it leaves")


async def test_what_was_put_off_keeps_its_time(database: Database) -> None:
    """`settle_s` was raised while a `sensor.offline` waited: put off again, it would be lost."""
    body = b'{"type":"sensor.offline","timestamp":"2026-11-22T00:00:00Z","data":{"sensor_id":"sen_1"}}'
    async with parts(database) as one, Receiver() as receiver:
        webhook_id = await new_webhook(one.connection, receiver.url("/"), settle_s=3600)
        await one.shared.registry.refresh()
        (key,) = await one.fan_out(
            [await insert(one.connection)], [webhook_id], lane=Lane.ROUTINE, type_=OFFLINE, body=body
        )
        put_off = attempted(key, kind=Kind.POSTPONED, step=STEP[Kind.POSTPONED], state=State.PENDING)
        await one.record(msgspec.structs.replace(put_off, status_code=None, next_attempt_at=utc_now()))
        recorder = Recorder(one.shared, one.store.link("recorder"), lambda *_: None)
        retries = Retries(one.shared, one.backlog(), one.ledger(), stopped=lambda _: None)
        attempts = Attempts(one.shared, recorder)
        async with running(recorder.run(), retries.run()), asyncio.TaskGroup() as group:
            attempts.begin(group)
            await retries.pushed.wait()
            attempts.pump()
            await attempts.landed()
            await recorder.drained()
        assert [(1, "postponed", "pending"), (1, "attempted", "delivered")] == await one.facts(key)
