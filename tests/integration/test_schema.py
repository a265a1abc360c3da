"""The schema's promises: append-only tables, deduplication, the tables that change."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import asyncpg
import pytest

from dispatcher.core.pending import Lane
from tests.parts import detected, failed, insert, new_webhook, parts, refused
from tests.postgres import Database, wait_for

APPEND_ONLY: Final = (
    "outbox", "message", "delivery", "delivery_event", "claim", "tail_position", "tail_checkpoint", "audit",
)  # fmt: skip


async def refusals(connection: asyncpg.Connection, tables: list[str]) -> dict[str, str]:
    """Try to change rows of tables, also of those without rows; give what was not refused."""
    accepted = {}
    for table in tables:
        column = "at" if table == "audit" else "day"
        for statement in (
            f"update {table} set {column} = {column}",
            f"update {table} set {column} = {column} where false",
            f"delete from {table}",
            f"delete from only {table} where false",
            f"truncate {table}",
            f"truncate {table} cascade",
            f"merge into {table} t using (values (1)) v on false when matched then delete",
        ):
            if statement.startswith("merge") and connection.get_server_version() < (15,):
                continue
            try:
                async with connection.transaction():
                    await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError as error:
                if "append-only" in str(error):
                    continue
                accepted[statement] = str(error)
            else:
                accepted[statement] = "accepted"
    return accepted


async def partitions(connection: asyncpg.Connection, table: str) -> list[str]:
    """Give the names of a table's partitions, the oldest first."""
    rows = await connection.fetch(
        "select inhrelid::regclass::text from pg_inherits where inhparent = $1::text::regclass order by 1",
        table,
    )
    return [row[0] for row in rows]


async def test_nothing_recorded_can_be_changed(database: Database, connection: asyncpg.Connection) -> None:
    """Not by a superuser, not in a partition of its own, not while triggers are off for replication."""
    async with parts(database) as one:
        webhook_id = await new_webhook(connection)
        (key,) = await one.fan_out([await insert(connection)], [webhook_id], claimed=True)
        await one.ledger().claim([(key, 1)])
        await one.record(failed(key, 1, await connection.fetchval("select now()")))
        await one.ledger().checkpoint(Lane.ALERT, 1, [])
    await connection.execute("insert into audit (actor, action, subject) values ('a', 'b', 'c')")
    empty = [name for name in APPEND_ONLY if not await connection.fetchval(f"select count(*) from {name}")]
    assert [] == empty
    names = list(APPEND_ONLY)
    for name in APPEND_ONLY[:-1]:
        months = await partitions(connection, name)
        current = await connection.fetchval(f"select min(tableoid::regclass::text) from {name}")
        names += {months[0], current, months[-1]}
    assert {} == await refusals(connection, names)
    await connection.execute("set session_replication_role = replica")
    assert {} == await refusals(connection, names)


async def test_validation_cannot_be_switched_off(connection: asyncpg.Connection) -> None:
    """Rows are checked while triggers are off for replication, also those put straight into a partition."""
    await connection.execute("set session_replication_role = replica")
    months = await partitions(connection, "outbox")
    days = [dt.datetime.strptime(month[-8:], "y%Ym%m").replace(tzinfo=dt.UTC).date() for month in months]
    for table, day in [("outbox", days[-1]), *zip(months, days, strict=True)]:
        with refused(asyncpg.CheckViolationError, "data.event_id: missing"):
            await connection.execute(
                f"insert into {table} (id, day, type, data) overriding system value"
                " values (1, $1, 'event.detected', '{}')",
                day,
            )


async def test_every_partition_is_protected(connection: asyncpg.Connection) -> None:
    """Each has the triggers of its table, enabled always."""
    rows = await connection.fetch(
        "select i.inhrelid::regclass::text from pg_inherits i"
        " join pg_class p on p.oid = i.inhparent and p.relkind = 'p'"
        " where not exists (select from pg_trigger t"
        "  where t.tgrelid = i.inhrelid and t.tgname = 'append_only' and t.tgenabled = 'A')"
        " or p.relname = 'outbox' and 2 <> (select count(*) from pg_trigger t where t.tgrelid = i.inhrelid"
        "  and t.tgname in ('accept', 'examine') and t.tgenabled = 'A')"
    )
    assert [] == [row[0] for row in rows]


async def test_dedup_key_is_unique(connection: asyncpg.Connection) -> None:
    """A second insert is an error, or nothing with ON CONFLICT DO NOTHING; rows without a key are free."""
    statement = "insert into outbox (type, data, dedup_key) values ('event.detected', $1, $2)"
    await connection.execute(statement, detected(), "k1")
    with refused(asyncpg.UniqueViolationError, "dedup_key"):
        await connection.execute(statement, detected(), "k1")
    assert "INSERT 0 0" == await connection.execute(f"{statement} on conflict do nothing", detected(), "k1")
    assert "INSERT 0 1" == await connection.execute(f"{statement} on conflict do nothing", detected(), "k2")
    with refused(asyncpg.InvalidColumnReferenceError, "no unique or exclusion constraint"):
        await connection.execute(f"{statement} on conflict (dedup_key) do nothing", detected(), "k3")
    for _ in range(2):
        await connection.execute(statement, detected(), None)
    assert 4 == await connection.fetchval("select count(*) from outbox")


async def test_dedup_key_is_unique_across_months(connection: asyncpg.Connection) -> None:
    """A key of an earlier month is found: the row is skipped, and a notice says so."""
    past = await connection.fetchval("select date_trunc('month', now() at time zone 'UTC')::date - 1")
    notices: list[str] = []
    connection.add_log_listener(lambda _, message: notices.append(message.message))
    await insert(connection, dedup_key="k1", day=past)
    tag = await connection.execute(
        "insert into outbox (type, data, dedup_key) values ('event.detected', $1, 'k1')", detected()
    )
    assert "INSERT 0 0" == tag
    assert ['dedup_key: "k1" was inserted in an earlier month; the row is skipped'] == notices


async def test_bulk_insert_with_keys(connection: asyncpg.Connection) -> None:
    """More rows with keys in one transaction than the server has locks to give."""
    await connection.execute(
        "insert into outbox (type, data, dedup_key, recorded_at)"
        " select 'event.detected', $1, 'key ' || n, '2026-11-15' from generate_series(1, 12000) n", detected()
    )  # fmt: skip
    assert 12000 == await connection.fetchval("select count(distinct dedup_key) from outbox")


async def waits(connection: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    """Say whether another session waits for a lock."""
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    return bool(await connection.fetchval(query, other.get_server_pid()))


@pytest.mark.parametrize("across_months", [False, True])
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_two_producers_with_one_key(
    database: Database, connection: asyncpg.Connection, end: str, *, across_months: bool
) -> None:
    """The second waits for the first: nothing when it commits, inserted when it does not."""
    second_day = await connection.fetchval("select date_trunc('month', now() at time zone 'UTC')::date")
    first_day = second_day - dt.timedelta(days=1) if across_months else second_day
    statement = (
        "insert into outbox (type, data, dedup_key, day, recorded_at)"
        " values ('event.detected', $1, 'k1', $2::date, $3::date::timestamp at time zone 'UTC')"
        " on conflict do nothing"
    )  # both at midnight, on either side of it
    other = await database.connect()
    looking = await database.connect()
    try:
        await connection.execute("begin")
        await connection.execute(statement, detected(), first_day, second_day)
        second = asyncio.ensure_future(other.execute(statement, detected(), second_day, second_day))
        waiting: Callable[[], bool | Awaitable[bool]] = partial(waits, looking, other)
        await wait_for(waiting, "the second producer waits")
        await connection.execute(end)
        assert ("INSERT 0 0" if end == "commit" else "INSERT 0 1") == await second
        assert 1 == await looking.fetchval("select count(*) from outbox")
    finally:
        await other.close()
        await looking.close()


async def test_producers_ring_only_where_asked_to(database: Database, connection: asyncpg.Connection) -> None:
    """While the dispatcher holds a lane's lock each transaction rings once for it; else none does.

    One that rang cannot be prepared, which is why no bell is armed where some might be.
    """
    rung: list[str] = []
    sleeper = await database.connect()
    await sleeper.add_listener("dispatcher_outbox", lambda *heard: rung.append(heard[3]))

    async def prepared(name: str) -> None:
        await connection.execute("begin")
        await insert(connection)
        await connection.execute(f"prepare transaction '{name}'")

    try:
        await insert(connection)
        await prepared("awake")
        await connection.execute("rollback prepared 'awake'")
        assert await sleeper.fetchval("select pg_try_advisory_lock(1735550316, 16)")
        async with connection.transaction():
            for _ in range(3):
                await insert(connection)
            assert not rung
        await wait_for(lambda: rung, "the bell")
        with refused(asyncpg.FeatureNotSupportedError, "NOTIFY"):
            await prepared("asleep")
        await connection.execute("rollback")
        await sleeper.fetchval("select pg_advisory_unlock(1735550316, 16)")
        await insert(connection)
        await sleeper.fetchval("select 1")
        assert ["0"] == rung
    finally:
        await sleeper.close()


async def test_every_change_of_subscriptions_has_a_number(connection: asyncpg.Connection) -> None:
    """Of webhooks, event types and networks: the daemon asks for what is newer than what it has."""

    async def version() -> int:
        number: int = await connection.fetchval("select version from registry_version")
        return number

    numbers = [await version()]
    webhook_id = await new_webhook(connection)
    for statement in (
        f"update webhook set active = false where id = {webhook_id}",
        "insert into organization_network select min(id), 'net_a' from organization",
        "delete from organization_network where network_id = 'net_a'",
        "insert into event_type (name, description, fields, sample) values ('a.b', 'x', '{}', '{}')",
    ):
        numbers.append(await version())
        await connection.execute(statement)
    numbers.append(await version())
    assert sorted(set(numbers)) == numbers
    last = "select version from webhook where id = $1"
    assert numbers[2] == await connection.fetchval(last, webhook_id)


async def test_names_are_checked(connection: asyncpg.Connection) -> None:
    """Names of organizations are unique, public ids have their prefix, scopes are known, filters objects."""
    with refused(asyncpg.UniqueViolationError, "organization"):
        await connection.execute("insert into organization (public_id, name) values ('org_2', 'default')")
    with refused(asyncpg.CheckViolationError, "organization"):
        await connection.execute("insert into organization (public_id, name) values ('org_2', '')")
    with refused(asyncpg.CheckViolationError, "webhook"):
        await new_webhook(connection, events=[])
    with refused(asyncpg.CheckViolationError, "webhook"):
        await new_webhook(connection, public_id="hook_1")
    for no_filter in ("[]", "3", "null"):
        with refused(asyncpg.CheckViolationError, "webhook_filter_check"):
            await new_webhook(connection, filter=no_filter)
    with refused(asyncpg.CheckViolationError, "api_key"):
        await connection.execute(
            "insert into api_key (public_id, organization_id, hash, hint, scopes)"
            " select 'key_1', min(id), '', '', array['read:everything'] from organization"
        )
