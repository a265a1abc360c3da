"""Retention in a running daemon: whole months go, and none before everything in it is finished."""

from __future__ import annotations

import datetime as dt
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.clock import LIBRARY, Clock
from tests.acceptance.daemon import Daemon, daemons
from tests.acceptance.subscriber import Subscriber
from tests.commands import run
from tests.parts import detected, insert
from tests.postgres import Database, wait_for

if TYPE_CHECKING:
    import asyncpg

MONTHS: Final = (
    "select array_agg(month order by month) from pg_inherits, right(inhrelid::regclass::text, 7) month"
    " where inhparent = 'outbox'::regclass and month < $1"
)
# What the connection that looks after the months did last, once it has nothing more to do.
IDLE: Final = (
    "select count(*) = 1 from pg_stat_activity where datname = current_database() and state = 'idle'"
    " and application_name = 'dispatcher housekeeping' and query like 'COMMIT%'"
)


class Past:
    """Four months of one event each, the youngest three months ago."""

    def __init__(self, connection: asyncpg.Connection, today: dt.date) -> None:
        self.connection = connection
        first = today.replace(day=1)
        self.days = [(first - dt.timedelta(days=1 + 31 * back)).replace(day=15) for back in (5, 4, 3, 2)]
        self.this_month = f"{first:%Ym%m}"

    async def write(self) -> None:
        """Insert the events, as if they had been inserted then."""
        await self.connection.execute("select create_partitions($1, $2)", self.days[0], self.days[-1])
        for serial, day in enumerate(self.days):
            await insert(self.connection, detected(event_id=f"evt_{serial}", serial=serial), day=day)

    async def months(self) -> list[str]:
        """Give the months before this one that are there."""
        return await self.connection.fetchval(MONTHS, self.this_month) or []


async def looked_after(past: Past, daemon: Daemon) -> None:
    """Wait until the daemon has done what it does with the months at the start."""
    await daemon.says("leading")
    await wait_for(lambda: past.connection.fetchval(IDLE), "the months were looked after")


async def test_months_stay_until_the_last_delivery_in_them_is_finished(
    database: Database, tmp_path: Path
) -> None:
    """A receiver that refuses for months keeps the oldest month and all after it, and no longer."""
    mended = False
    oldest = Subscriber(["*"], lambda seen: (0, 200 if mended or seen.serial else 500))
    connection = await database.connect()
    settings = {"DELIVERY__RETRY_DELAYS_S": ",".join(["2"] * 20), "RETENTION__DAYS": "40"}
    try:
        past = Past(connection, await connection.fetchval("select current_date"))
        async with AsyncExitStack() as stack:
            await oldest.register(stack, database.url)
            await past.write()
            before = await past.months()
            async with daemons(database.url, tmp_path, **settings) as house:
                daemon = await house.start()
                await wait_for(lambda: len(oldest.delivered) == 3, "all but the oldest are delivered")
                await looked_after(past, daemon)
                daemon.terminate()
                assert 0 == await daemon.ended()
                again = await house.start()
                await looked_after(past, again)
                assert before == await past.months()
                assert [] == again.said("a month was dropped by retention")
                assert 4 == await connection.fetchval("select count(*) from delivery")

                mended = True
                await wait_for(lambda: len(oldest.delivered) == 4, "the oldest is delivered")
                again.terminate()
                assert 0 == await again.ended()
                last = await house.start()
                kept = before[-1:]  # last month: within the days that are kept
                await last.says("a month was dropped by retention", len(before) - len(kept))
                assert kept == await past.months()
                assert 0 == await connection.fetchval("select count(*) from delivery")
                # What follows goes on as ever.
                await insert(connection, detected(serial=9))
                await wait_for(lambda: 9 in oldest.delivered, "a new event is delivered")
                assert [] == house.complaints()
                ended = await run("verify", url=database.url)
                assert 0 == ended.status, ended.out
    finally:
        await connection.close()


async def test_a_redelivery_that_was_asked_for_keeps_its_month(database: Database, tmp_path: Path) -> None:
    """What was delivered long ago and is to be sent once more is not finished."""
    well = Subscriber(["*"], lambda _: (0, 200))
    connection = await database.connect()
    try:
        past = Past(connection, await connection.fetchval("select current_date"))
        async with AsyncExitStack() as stack:
            await well.register(stack, database.url)
            await past.write()
            async with daemons(database.url, tmp_path) as house:
                daemon = await house.start()
                await wait_for(lambda: len(well.delivered) == 4, "everything is delivered")
                daemon.terminate()
                assert 0 == await daemon.ended()
        await connection.execute(
            "insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger,"
            " next_attempt_at) select day, outbox_id, webhook_id, 2, 0, 'requested', 'delivered', 'manual',"
            " now() from delivery order by day limit 1"
        )
        drop = "select drop_oldest_month(current_date - 40)"
        assert await connection.fetchval(drop) is None
        await connection.execute(
            "insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger,"
            " status_code) select day, outbox_id, webhook_id, 2, 2, 'attempted', 'delivered', 'manual', 200"
            " from delivery order by day limit 1"
        )
        assert past.days[0].replace(day=1) == await connection.fetchval(drop)
    finally:
        await connection.close()


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (Debian's package `faketime`)")
async def test_a_clock_that_is_far_ahead_drops_nothing(database: Database, tmp_path: Path) -> None:
    """By the clock of the daemon's machine all was over long ago, and by the server's it was not."""
    clock = Clock(tmp_path / "step")
    clock.step(f"+{800 * 86_400}")
    connection = await database.connect()
    try:
        past = Past(connection, await connection.fetchval("select current_date"))
        await past.write()
        expected = await past.months()
        async with daemons(database.url, tmp_path, RETENTION__DAYS="400") as house:
            daemon = await house.start(clock.environ)
            routed = "select count(*) = 4 from message"
            await wait_for(lambda: connection.fetchval(routed), "nothing in these months is unfinished")
            await looked_after(past, daemon)
            daemon.terminate()
            assert 0 == await daemon.ended()
            assert expected == await past.months()
            again = await house.start(clock.environ)
            await looked_after(past, again)
            again.terminate()
            assert 0 == await again.ended()
        assert expected == await past.months()
    finally:
        await connection.close()


async def test_a_start_after_the_last_month_that_was_made(database: Database, tmp_path: Path) -> None:
    """No daemon ran for so long that this month has no partitions: they are made before anything is written.

    A webhook had been failing meanwhile, which is told of as soon as a daemon leads.
    """
    well = Subscriber(["*"], lambda _: (0, 200))
    connection = await database.connect()
    try:
        past = Past(connection, await connection.fetchval("select current_date"))
        async with AsyncExitStack() as stack:
            await well.register(stack, database.url)
            await connection.execute("select create_partitions($1, $1)", past.days[-1])
            await connection.execute(
                "update webhook set judged_from = moment, updated_at = moment"
                " from (select now() - interval '9 days' as moment) c"
            )
            await connection.execute(
                "insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state,"
                " trigger, status_code, recorded_at) select $1, 1, id, 1, 2, 'attempted', 'failed',"
                " 'first', 500, now() - interval '2 days' from webhook",
                past.days[-1],
            )
            for (part,) in await connection.fetch(
                "select inhrelid::regclass::text from pg_inherits, unnest(partitioned_tables()) as name"
                " where inhparent = name::regclass and right(inhrelid::regclass::text, 7) >= $1",
                past.this_month,
            ):
                await connection.execute(f"drop table {part}")
            async with daemons(database.url, tmp_path, RETENTION__DAYS="400") as house:
                daemon = await house.start()
                await wait_for(
                    lambda: connection.fetchval(
                        "select count(*) = 1 from outbox where type = 'webhook.failing'"
                    ),
                    "the webhook is said to fail",
                )
                await insert(connection, detected(serial=9))
                await wait_for(lambda: 9 in well.delivered, "a new event is delivered")
                assert [] == house.complaints()
                daemon.terminate()
                assert 0 == await daemon.ended()
    finally:
        await connection.close()
