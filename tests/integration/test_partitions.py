"""The months: made ahead without standing in anybody's way, dropped only when all in them is finished."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import asyncpg
import pytest

from dispatcher.core.delivery import State
from dispatcher.core.errors import OperatorError
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import Position, Snapshot
from dispatcher.store.outbox import OutboxReader
from tests.parts import Parts, attempted, detected, failed, insert, new_webhook, parts, refused
from tests.postgres import Database, cloned

MONTH = dt.timedelta(days=31)


@pytest.fixture
async def database(postgres_server: str, whole_template: str) -> AsyncIterator[Database]:
    """Clone a database with every partition that `migrate` makes."""
    async with cloned(postgres_server, whole_template) as fresh:
        yield fresh


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


def first_of(day: dt.date, months: int = 0) -> dt.date:
    """Give the first day of a month so many months after this day's."""
    number = day.year * 12 + day.month - 1 + months
    return dt.date(number // 12, number % 12 + 1, 1)


async def today(one: Parts) -> dt.date:
    """Give the server's day."""
    day: dt.date = await one.connection.fetchval("select (clock_timestamp() at time zone 'UTC')::date")
    return day


async def months_of(one: Parts, table: str = "outbox") -> list[str]:
    """Give the months that a table has partitions for, the oldest first."""
    rows = await one.connection.fetch(
        "select right(inhrelid::regclass::text, 7) from pg_inherits"
        " where inhparent = $1::text::regclass order by 1",
        table,
    )
    return [row[0] for row in rows]


async def drop(one: Parts, before: dt.date) -> dt.date | None:
    """Drop the oldest month, if it may go."""
    month: dt.date | None = await one.connection.fetchval("select drop_oldest_month($1)", before)
    return month


async def test_a_year_is_made_ahead(one: Parts) -> None:
    """The last month, this one and the thirteen to come; every table has the same."""
    day = await today(one)
    expected = [f"{first_of(day, n):%Ym%m}" for n in range(-1, 14)]
    assert expected == [month for month in await months_of(one) if month >= expected[0]]
    tables = await one.connection.fetchval("select partitioned_tables()")
    assert 7 == len(tables)
    for table in tables:
        assert await months_of(one) == await months_of(one, table)
    strangers = await one.connection.fetch(
        "select relname from pg_class where relkind = 'p' and relname <> all (partitioned_tables())"
    )
    assert [] == strangers


async def test_making_months_is_idempotent(one: Parts) -> None:
    """What is there stays; what is missing is made, a hole included."""
    day = await today(one)
    make = "select create_partitions($1, $2)"
    assert 0 == await one.connection.fetchval(make, day, first_of(day, 13))
    assert 14 == await one.connection.fetchval(make, day, first_of(day, 15))
    await one.connection.execute(f"drop table claim_y{first_of(day, 15):%Ym%m}")
    assert 1 == await one.connection.fetchval(make, day, first_of(day, 15))


async def test_events_around_the_end_of_a_month(one: Parts) -> None:
    """Each finds its partition; an event of a month that has none is refused, not lost in a corner."""
    day = await today(one)
    for month in (0, 1, 13):
        start = first_of(day, month)
        for each in (start - dt.timedelta(days=1), start):
            assert each == (await insert(one.connection, day=each))[0]
    assert 6 == await one.connection.fetchval("select count(*) from outbox")
    with refused(asyncpg.CheckViolationError, "no partition"):
        await insert(one.connection, day=first_of(day, 14))


async def test_made_while_a_producer_is_at_work(database: Database, one: Parts) -> None:
    """A transaction that has inserted and stays open neither holds up a new month nor the next producer."""
    day = await today(one)
    other = await database.connect()
    try:
        async with other.transaction():
            await insert(other)
            async with asyncio.timeout(10):
                make = "select create_partitions($1, $2)"
                assert 0 < await one.connection.fetchval(make, day, first_of(day, 16))
                await insert(one.connection)
    finally:
        await other.close()


async def old_delivery(one: Parts, *facts: str) -> dt.date:
    """Let an event have been recorded last month and sent to a webhook; give the day."""
    day = first_of(await today(one)) - dt.timedelta(days=3)
    event = await insert(one.connection, day=day)
    (key,) = await one.fan_out([event], [await new_webhook(one.connection)])
    due = dt.datetime.now(dt.UTC)
    for place, fact in enumerate(facts, start=1):
        match fact:
            case "failed attempt":
                await one.record(failed(key, place, due))
            case "failed":
                await one.record(attempted(key, place, state=State.FAILED, status_code=500))
            case "delivered":
                await one.record(attempted(key, place))
    return day


@pytest.mark.parametrize(
    ("facts", "goes"),
    [
        ([], False),
        (["failed attempt"], False),
        (["failed attempt", "failed attempt"], False),
        (["delivered"], True),
        (["failed attempt", "failed attempt", "delivered"], True),
        (["failed attempt", "failed"], True),
    ],
)
async def test_month_with_an_unfinished_delivery_stays(one: Parts, facts: list[str], *, goes: bool) -> None:
    """However long ago it was."""
    day = await old_delivery(one, *facts)
    expected = first_of(day) if goes else None
    assert expected == await drop(one, await today(one))
    assert goes == (f"{day:%Ym%m}" not in await months_of(one))
    assert (0 if goes else 1) == await one.connection.fetchval("select count(*) from delivery")


async def test_unread_event_keeps_its_month(one: Parts) -> None:
    """What no lane has read yet, whoever it would go to."""
    day = first_of(await today(one)) - dt.timedelta(days=1)
    event = await insert(one.connection, day=day)
    assert await drop(one, await today(one)) is None
    await one.fan_out([event], [])
    assert first_of(day) == await drop(one, await today(one))


async def test_only_finished_months_go(one: Parts) -> None:
    """The oldest first, one at a time, none that reaches into the days that are kept."""
    day = await today(one)
    assert await drop(one, first_of(day) - dt.timedelta(days=1)) is None
    assert first_of(day, -1) == await drop(one, first_of(day))
    assert await drop(one, first_of(day)) is None
    assert await drop(one, first_of(day, 1) - dt.timedelta(days=1)) is None
    assert f"{first_of(day):%Ym%m}" == (await months_of(one))[0]
    for table in await one.connection.fetchval("select partitioned_tables()"):
        assert await months_of(one) == await months_of(one, table)


async def test_dropping_gives_way(database: Database, one: Parts) -> None:
    """An open producer is not waited for, and keeps nobody else waiting: later is soon enough."""
    day = first_of(await today(one))
    other = await database.connect()
    try:
        async with other.transaction():
            await insert(other)
            async with asyncio.timeout(10):
                assert await drop(one, day) is None
            await insert(one.connection)
            assert f"{first_of(day, -1):%Ym%m}" == (await months_of(one))[0]
    finally:
        await other.close()
    assert first_of(day, -1) == await drop(one, day)


async def test_quiet_lane_keeps_its_place(one: Parts) -> None:
    """Its position and checkpoint move to the oldest month that stays, from where it reads everything."""
    day = await today(one)
    event = await insert(one.connection, day=first_of(day) - dt.timedelta(days=1))
    await one.fan_out([event], [])
    await one.ledger().checkpoint(Lane.ALERT, 1, [])
    # As if both had been written last month.
    for table in ("tail_position", "tail_checkpoint"):
        await one.connection.execute(f"alter table {table} disable trigger append_only")
        await one.connection.execute(f"update {table} set day = $1", event[0])
    reader = OutboxReader(one.store.link("tail"), Lane.ALERT)
    before = await reader.newest_position()
    assert 1 == before.batch
    assert first_of(day, -1) == await drop(one, day)
    after = await reader.newest_position()
    assert (1, before.position, first_of(day)) == (after.batch, after.position, after.day)
    assert (1, []) == await one.backlog().checkpoint(Lane.ALERT)


async def test_a_month_before_missing_ones_goes(one: Parts) -> None:
    """Nobody made partitions for months: a quiet lane's position moves to the oldest month that is there."""
    day = await today(one)
    old = first_of(day, -4)
    await one.connection.execute("select create_partitions($1, $1)", old)
    await one.fan_out([await insert(one.connection, day=old)], [])
    await one.ledger().checkpoint(Lane.ALERT, 1, [])
    for table in ("tail_position", "tail_checkpoint"):
        await one.connection.execute(f"alter table {table} disable trigger append_only")
        await one.connection.execute(f"update {table} set day = $1", old)
    assert old == await drop(one, day)
    newest = await OutboxReader(one.store.link("tail"), Lane.ALERT).newest_position()
    assert (1, first_of(day, -1)) == (newest.batch, newest.day)
    assert (1, []) == await one.backlog().checkpoint(Lane.ALERT)


async def test_long_backlog_is_read_to_its_end(one: Parts) -> None:
    """A restart in the midst of a backlog of weeks finds what is left, whatever day it was recorded on."""
    day = await today(one)
    days = [day - dt.timedelta(days=n) for n in (20, 15, 10, 1)]
    await one.connection.execute("select create_partitions($1, $2)", days[0], day)
    for n, each in enumerate(days):
        await insert(one.connection, detected(event_id=f"e{n}"), day=each)
    reader = OutboxReader(one.store.link("tail"), Lane.ALERT)
    start = await reader.newest_position()
    page = await reader.read(start.position, start.day, 2)
    assert not page.exhausted
    position = page.position_after(2)
    await one.ledger().fan_out(Lane.ALERT, 1, [], position, start.system_id, page.day)
    again = await reader.newest_position()
    assert (1, position) == (again.batch, again.position)
    rest = await reader.read(again.position, again.day, 10)
    assert days[2:] == [row.day for row in rest.rows]
    assert rest.position_after(2).complete


@pytest.mark.parametrize("ahead", [True, False])
async def test_clock_that_was_far_ahead_hides_no_event(one: Parts, *, ahead: bool) -> None:
    """The server's clock is put back by ten days: what was recorded before, or is recorded after, is read.

    Somebody read by the clock that was ahead, or nobody did.
    """
    day = await today(one)
    later = day + dt.timedelta(days=10)
    reader = OutboxReader(one.store.link("tail"), Lane.ALERT)
    start = await reader.newest_position()
    page = await reader.read(start.position, start.day, 10)
    assert ([], True) == (page.rows, page.exhausted)
    for each in (later, day):
        await insert(one.connection, detected(event_id=f"{each}"), day=each)
    if ahead:
        found = await reader.read(Position.after(page.target), later, 10)
    else:
        again = OutboxReader(one.store.link("tail"), Lane.ALERT)  # another session
        found = await again.read(Position.after(page.target), day, 10)
    assert [later, day] == [row.day for row in found.rows]


async def test_position_of_another_server_is_refused(one: Parts) -> None:
    """A restored dump has other transaction ids: its rows would be taken for read, or unread."""
    reader = OutboxReader(one.store.link("tail"), Lane.ALERT)
    start = await reader.newest_position()
    future = Position.after(Snapshot(10**12, 10**12, frozenset()))
    for position, system_id in ((start.position, start.system_id + 1), (future, start.system_id)):
        one.batch += 1
        await one.ledger().fan_out(Lane.ALERT, one.batch, [], position, system_id, await today(one))
        with pytest.raises(OperatorError, match="dispatcher rebase"):
            await reader.newest_position()
