"""An event for many webhooks is written in chunks: whatever happens between two of them, each is told once.

A chunk is held up by a transaction of the test's that has written one of its deliveries and does not end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import WebhookId
from dispatcher.core.pending import Lane
from dispatcher.store import webhooks
from dispatcher.store.connection import Database as Store
from dispatcher.store.vault import Vault
from tests import commands
from tests.acceptance.conservation import UNFINISHED
from tests.acceptance.daemon import ENCRYPTION_KEY, Daemon, daemons
from tests.acceptance.subscriber import SECRET
from tests.acceptance.waiting import eventually
from tests.parts import detected
from tests.postgres import Database, wait_for
from tests.receiver import Receiver

WEBHOOKS: Final = 40
CHUNK: Final = 5
HELD: Final = CHUNK + 2  # in the second chunk
WITHIN_S: Final = 60.0
UPDATE: Final = json.dumps({"event_id": "evt_abc123", "changes": {"magnitude": {"old": 4.2, "new": 4.4}}})
END_WHO_WAITS: Final = (
    "select bool_or(pg_terminate_backend(pid)) from pg_stat_activity"
    " where application_name = 'dispatcher tail alert' and wait_event_type = 'Lock'"
    " and datname = current_database()"
)
INSERT: Final = "insert into outbox (type, data) values ($1, $2)"


async def subscribed(url: str, receiver: Receiver, count: int = WEBHOOKS) -> list[WebhookId]:
    """Make webhooks for everything, each with a path of its own: the first /1, the second /2, and so on."""
    store = Store(url, DatabaseConfig())
    async with store.acquire() as connection:
        organization_id: int = await connection.fetchval("select min(id) from organization")
    made = []
    for number in range(1, count + 1):
        fields = webhooks.WebhookFields(url=receiver.url(f"/{number}"), events=("*",))
        made.append(
            await webhooks.create(
                store, Vault(ENCRYPTION_KEY), organization_id, fields, secret=SECRET, actor="test"
            )
        )
    await store.close()
    return [one.id for one in made]


@contextlib.asynccontextmanager
async def held_up(database: Database, lane: Lane, webhook_id: WebhookId) -> AsyncIterator[None]:
    """For the block, let the chunk of the next event that holds this webhook's delivery not be written."""
    holder = await database.connect()
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(
            "insert into delivery (day, outbox_id, webhook_id, lane)"
            " select (clock_timestamp() at time zone 'UTC')::date,"
            " coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'id')::regclass), 0) + 1,"
            " $1, $2",
            webhook_id,
            lane,
        )
        yield
        await transaction.rollback()
    finally:
        await holder.close()


@contextlib.asynccontextmanager
async def looking(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Connect for the block."""
    connection = await database.connect()
    try:
        yield connection
    finally:
        await connection.close()


async def settled(connection: asyncpg.Connection, count: int) -> None:
    """Wait until there are so many deliveries and none is unfinished."""

    async def all_are() -> bool:
        written: int = await connection.fetchval("select count(*) from delivery")
        return written == count and not await connection.fetchval(UNFINISHED)

    await eventually(all_are, f"{count} deliveries, all finished", WITHIN_S)


async def lag_s(daemon: Daemon, lane: str) -> float:
    """Ask how old the oldest row is that a lane has read and not written."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{daemon.address('ops')}/metrics") as page,
    ):
        found = re.search(
            rf'^dispatcher_tail_lag_seconds{{lane="{lane}"}} (\S+)$', await page.text(), re.MULTILINE
        )
    assert found is not None
    return float(found[1])


async def test_kill_between_two_chunks(database: Database, tmp_path: Path) -> None:
    """Those of the first chunk are told while the second is written; kill -9; the others are told afterwards.

    What became of webhooks meanwhile changes nothing for the first ones, and nobody is told twice.
    """
    async with (
        Receiver() as receiver,
        looking(database) as connection,
        daemons(database.url, tmp_path, TAIL__CHUNK_DELIVERIES=str(CHUNK)) as house,
    ):
        webhook_ids = await subscribed(database.url, receiver)
        daemon = await house.start()
        async with held_up(database, Lane.ALERT, webhook_ids[HELD - 1]):
            await connection.execute(INSERT, "event.detected", detected())
            await receiver.wait_for(CHUNK)
            await settled(connection, CHUNK)
            verified = await commands.run("verify", url=database.url)
            assert 0 == verified.status, verified.out
            daemon.kill()
            await daemon.ended()
        # Of the first chunk; to come; and one that was not there when the event was routed.
        await connection.execute("update webhook set events = '{sensor.*}' where id = $1", webhook_ids[0])
        await connection.execute("update webhook set events = '{sensor.*}' where id = $1", webhook_ids[-1])
        await connection.execute("update webhook set active = false where id = $1", webhook_ids[-2])
        daemon = await house.start()
        await settled(connection, WEBHOOKS)
        assert {f"/{number}": 1 for number in range(1, WEBHOOKS + 1) if number != WEBHOOKS - 1} == Counter(
            one.path for one in receiver.requests
        )
        assert 1 == len({one.body for one in receiver.requests})
        assert {f"/{number}" for number in range(1, CHUNK + 1)} == {
            one.path for one in receiver.requests[:CHUNK]
        }
        # The second chunk may have been written when nobody held it up any more: its requests are second
        # attempts then, since nobody knows that the first ones were not made.
        state = "select kind, attempt_no from delivery_event where webhook_id = $1"
        assert [("cancelled", 1)] == [tuple(row) for row in await connection.fetch(state, webhook_ids[-2])]
        daemon.terminate()
        assert 0 == await daemon.ended()
        verified = await commands.run("verify", url=database.url)
        assert 0 == verified.status, verified.out
        assert [] == house.complaints()


async def test_rebase_ends_what_was_begun(database: Database, tmp_path: Path) -> None:
    """After a restore the rest is told as well, each as a second attempt: it may have been told before."""
    async with (
        Receiver() as receiver,
        looking(database) as connection,
        daemons(database.url, tmp_path, TAIL__CHUNK_DELIVERIES=str(CHUNK)) as house,
    ):
        webhook_ids = await subscribed(database.url, receiver)
        daemon = await house.start()
        async with held_up(database, Lane.ALERT, webhook_ids[HELD - 1]):
            await connection.execute(INSERT, "event.detected", detected())
            await receiver.wait_for(CHUNK)
            await settled(connection, CHUNK)
            daemon.kill()
            await daemon.ended()
        config = tmp_path / "rebase.toml"
        config.write_text(f'[secrets]\nencryption_key = "{base64.b64encode(ENCRYPTION_KEY).decode()}"\n')
        rebased = await commands.run("rebase", "--yes", "--config", str(config), url=database.url)
        assert 0 == rebased.status, rebased.err
        await house.start()
        await settled(connection, WEBHOOKS)
        assert {"1": CHUNK, "2": WEBHOOKS - CHUNK} == Counter(
            request.header("x-grillo-attempt") for request in receiver.requests
        )
        verified = await commands.run("verify", url=database.url)
        assert 0 == verified.status, verified.out


async def test_second_kill_between_later_chunks(database: Database, tmp_path: Path) -> None:
    """What was taken up after a crash can be taken up again after another one."""
    async with (
        Receiver() as receiver,
        looking(database) as connection,
        daemons(database.url, tmp_path, TAIL__CHUNK_DELIVERIES=str(CHUNK)) as house,
    ):
        webhook_ids = await subscribed(database.url, receiver)
        async with (
            held_up(database, Lane.ALERT, webhook_ids[-1]),
            contextlib.AsyncExitStack() as earlier,
        ):
            await earlier.enter_async_context(held_up(database, Lane.ALERT, webhook_ids[HELD - 1]))
            daemon = await house.start()
            await connection.execute(INSERT, "event.detected", detected())
            await receiver.wait_for(CHUNK)
            daemon.kill()
            await daemon.ended()
            await earlier.aclose()
            daemon = await house.start()
            # It begins with a small chunk again: 5, then 5, 10 and the rest.
            await receiver.wait_for(CHUNK + CHUNK + 2 * CHUNK)
            daemon.kill()
            await daemon.ended()
        await house.start()
        await wait_for(
            lambda: len({one.path for one in receiver.requests}) == WEBHOOKS, "each is told", WITHIN_S
        )
        told_again = Counter(one.path for one in receiver.requests if one.header("x-grillo-attempt") == "1")
        assert {1} == set(told_again.values()), "a second request is a second attempt, after `interrupted`"


async def test_connection_lost_in_the_midst_of_a_chunk(database: Database, tmp_path: Path) -> None:
    """It was not written then: it is written again, and nobody is told twice."""
    async with (
        Receiver() as receiver,
        looking(database) as connection,
        daemons(database.url, tmp_path, TAIL__CHUNK_DELIVERIES=str(CHUNK)) as house,
    ):
        webhook_ids = await subscribed(database.url, receiver)
        daemon = await house.start()
        async with held_up(database, Lane.ALERT, webhook_ids[HELD - 1]):
            await connection.execute(INSERT, "event.detected", detected())
            await receiver.wait_for(CHUNK)

            async def ended() -> bool:
                """End the session that waits for the test's transaction, once it does."""
                return await connection.fetchval(END_WHO_WAITS) or False

            await eventually(ended, "the chunk is at work", WITHIN_S)
        await settled(connection, WEBHOOKS)
        assert {(f"/{number}", "1"): 1 for number in range(1, WEBHOOKS + 1)} == Counter(
            (one.path, one.header("x-grillo-attempt")) for one in receiver.requests
        )
        # At no moment would a kill -9 have lost those who were still to be told.
        nobody_left = "select array_agg(rest is null order by batch) from tail_position where lane = 0"
        *before, last = await connection.fetchval(nobody_left)
        assert ([False] * len(before), True) == (before, last)
        await connection.execute(INSERT, "event.detected", detected(event_id="evt_other"))
        await settled(connection, 2 * WEBHOOKS)
        verified = await commands.run("verify", url=database.url)
        assert 0 == verified.status, verified.out
        assert [] == daemon.complaints()


async def test_alerts_pass_between_the_chunks_of_lower_lanes(database: Database, tmp_path: Path) -> None:
    """A revision that is being told to many, and is held up, holds up no alert."""
    async with (
        Receiver() as receiver,
        looking(database) as connection,
        daemons(database.url, tmp_path, TAIL__CHUNK_DELIVERIES=str(CHUNK)) as house,
    ):
        webhook_ids = await subscribed(database.url, receiver)
        await house.start()
        async with held_up(database, Lane.EVENT, webhook_ids[HELD - 1]):
            await connection.execute(INSERT, "event.updated", UPDATE)
            await receiver.wait_for(CHUNK)
            await connection.execute(INSERT, "event.detected", detected(event_id="evt_other"))
            await receiver.wait_for(CHUNK + WEBHOOKS)
        await receiver.wait_for(2 * WEBHOOKS)


async def test_revision_waits_for_the_last_chunk_of_what_it_revises(
    database: Database, tmp_path: Path
) -> None:
    """Everybody hears of an earthquake before its revision, also those of the last chunk."""
    async with (
        Receiver() as receiver,
        looking(database) as connection,
        daemons(database.url, tmp_path, TAIL__CHUNK_DELIVERIES=str(CHUNK)) as house,
    ):
        webhook_ids = await subscribed(database.url, receiver)
        daemon = await house.start()
        async with held_up(database, Lane.ALERT, webhook_ids[HELD - 1]):
            await connection.execute(INSERT, "event.detected", detected())
            await receiver.wait_for(CHUNK)
            await connection.execute(INSERT, "event.updated", UPDATE)

            async def read() -> bool:
                return await lag_s(daemon, "event") > 0

            await eventually(read, "the revision is read", WITHIN_S)
        await receiver.wait_for(2 * WEBHOOKS)
        told: dict[str, list[str | None]] = defaultdict(list)
        for request in receiver.requests:
            told[request.path].append(request.header("x-grillo-event"))
        assert {f"/{n}": ["event.detected", "event.updated"] for n in range(1, WEBHOOKS + 1)} == told
        assert [] == house.complaints()
