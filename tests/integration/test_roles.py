"""Who may do what: producers insert into the outbox, the daemon reads and appends (PRODUCT, section 1)."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import pytest

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.delivery import Kind, State
from dispatcher.core.pending import Lane
from dispatcher.dashboard.visit import BASE
from dispatcher.store import accounts
from dispatcher.store.connection import Database as Store
from dispatcher.store.incarnation import enter
from dispatcher.store.installation import Installation
from dispatcher.store.outbox import OutboxReader
from dispatcher.store.producer import NewEvent, Written, open_producer
from dispatcher.store.schema import require_schema
from dispatcher.store.streaks import Streaks
from dispatcher.store.wakeup import Wakeup
from tests import traceparents
from tests.dashboard import dashboard
from tests.management import management
from tests.parts import DETECTED, VAULT, attempted, detected, failed, insert, new_webhook, parts, refused
from tests.postgres import Database, cloned


@pytest.fixture
async def database(postgres_server: str, whole_template: str) -> AsyncIterator[Database]:
    """Clone a database with every partition that `migrate` makes."""
    async with cloned(postgres_server, whole_template) as fresh:
        yield fresh


class Login(NamedTuple):
    """A login role of its own, a member of one group."""

    name: str
    url: str


async def make_login(database: Database, group: str) -> Login:
    """Make a login role that was granted a group, and give its URL."""
    name = f"test_{secrets.token_hex(6)}"
    owner = await database.connect()
    try:
        await owner.execute(f"create role {name} login password 'p' in role {group}")
        address = database.url.rpartition("@")[2]
    finally:
        await owner.close()
    return Login(name, f"postgresql://{name}:p@{address}")


async def drop_login(database: Database, login: Login) -> None:
    """Drop a role; what it owns in the test's database goes with it."""
    owner = await database.connect()
    try:
        await owner.execute(f"drop owned by {login.name}; drop role {login.name}")
    finally:
        await owner.close()


@pytest.fixture
async def producer(database: Database) -> AsyncIterator[Login]:
    """Make a login that was granted outbox_producer."""
    login = await make_login(database, "outbox_producer")
    yield login
    await drop_login(database, login)


@pytest.fixture
async def daemon(database: Database) -> AsyncIterator[Login]:
    """Make a login that was granted dispatcher_daemon."""
    login = await make_login(database, "dispatcher_daemon")
    yield login
    await drop_login(database, login)


async def test_producer_inserts(database: Database, producer: Login) -> None:
    """The five columns, deduplication, many rows at once, COPY: all that the documentation promises."""
    connection = await asyncpg.connect(producer.url, ssl=False)
    try:
        await connection.execute("insert into outbox (type, data) values ('event.detected', $1)", detected())
        every = (
            "insert into outbox (type, data, occurred_at, network_id, dedup_key, traceparent)"
            f" values ($1, $2, now(), 'n', 'k', '{traceparents.ACCEPTED[0]}')"
        )
        assert "INSERT 0 1" == await connection.execute(every, "event.detected", detected())
        again = f"{every} on conflict do nothing"
        assert "INSERT 0 0" == await connection.execute(again, "event.detected", detected())
        await connection.copy_records_to_table(
            "outbox", records=[("event.detected", detected())] * 3, columns=["type", "data"]
        )
        # Without a network of its own: looked up in rows that the producer may not read.
        await connection.execute(
            "insert into outbox (type, data) values ('event.updated', $1)",
            json.dumps({"event_id": DETECTED["event_id"], "changes": {}}),
        )
    finally:
        await connection.close()
    async with open_producer(producer.url, DatabaseConfig()) as tool:
        assert Written.INSERTED == await tool.insert(NewEvent("event.detected", detected()))
    owner = await database.connect()
    rows = await owner.fetch("select network_id from outbox order by id")
    await owner.close()
    assert ["net_xyz789", "n", *["net_xyz789"] * 5] == [row[0] for row in rows]


async def test_producer_does_nothing_else(producer: Login) -> None:
    """No other column, no reading, no other table, no function of the dispatcher's, no listening in."""
    connection = await asyncpg.connect(producer.url, ssl=False)
    try:
        tables = await connection.fetch(
            "select c.oid::regclass::text from pg_class c"
            " where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
        )
        assert len(tables) > 50
        statements = [f"select from {row[0]}" for row in tables]
        statements += [f"insert into {row[0]} default values" for row in tables if row[0] != "outbox"]
        statements += [f"delete from {row[0]}" for row in tables]
        statements += [
            f"insert into outbox (type, {column}) overriding system value values ('a.b', {value})"
            for column, value in {
                "id": "1", "day": "now()", "xid": "'1'", "lane": "0", "recorded_at": "now()",
                "event_id": "'e'", "target_webhook_id": "1", "test": "true",
            }.items()
        ]  # fmt: skip
        statements += [
            "insert into outbox (type, data) values ('event.detected', '{}') returning id",
            "update outbox set lane = 0",
            "truncate outbox",
            "select create_partitions(current_date, current_date)",
            "select drop_oldest_month(current_date)",
            "select skip_outbox_ids()",
            "select grant_roles()",
            "select outbox_compile()",
            "select nextval('outbox_id_seq')",
            "create table mine ()",
            "update registry_version set version = 0",
        ]
        for statement in statements:
            with refused(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_producer_cannot_bend_the_trigger(producer: Login) -> None:
    """What a session puts in the way of names is not what the trigger finds."""
    connection = await asyncpg.connect(producer.url, ssl=False)
    try:
        await connection.execute("create temp table event_type (like public.event_type)")
    except asyncpg.InsufficientPrivilegeError:
        pass  # no temporary tables here: nothing can stand in the way
    else:
        await connection.execute("set search_path = pg_temp, public")
    with refused(asyncpg.CheckViolationError, '"a.b" is not a registered event type'):
        await connection.execute("insert into public.outbox (type, data) values ('a.b', '{}')")
    await connection.close()


# Whatever the trigger names, in a schema that a producer looks into first: it breaks whoever finds it.
IN_THE_WAY = """
create schema mine;
do $$
declare
    one   record;
    kinds regtype[] := '{text,json,jsonb,jsonpath,int2,int4,int8,timestamptz,xid8}';
begin
    for one in select oid, oprname, oprleft::regtype, oprright::regtype, oprresult::regtype from pg_operator
                where oprname = any ('{=,<>,<,>,<=,>=,+,@@,->,->>,!~,~,!~~,~~,||}')
                  and oprleft = any (kinds) and oprright = any (kinds) loop
        execute format($f$create function mine.bent_%s(%s, %s) returns %s language plpgsql as
                          'begin raise exception $e$bent: %s$e$; end'$f$,
                       one.oid, one.oprleft, one.oprright, one.oprresult, one.oprname);
        execute format('create operator mine.%s (leftarg = %s, rightarg = %s, function = mine.bent_%s)',
                       one.oprname, one.oprleft, one.oprright, one.oid);
    end loop;
    for one in select proname, pg_get_function_arguments(oid) as arguments,
                      pg_get_function_result(oid) as result
                 from pg_proc
                where pronamespace = 'pg_catalog'::regnamespace and proname = any (
                    '{array_position,octet_length,ltrim,substr,jsonb_path_exists,jsonb_typeof,
                      pg_try_advisory_lock_shared,pg_advisory_unlock_shared,pg_current_xact_id}') loop
        execute format($f$create function mine.%1$I(%2$s) returns %3$s language plpgsql as
                          'begin raise exception $e$bent: %1$s$e$; end'$f$,
                       one.proname, one.arguments, one.result);
    end loop;
    for one in select unnest('{text,json,jsonb,jsonpath,int2,int4,timestamptz,xid8}'::text[]) as name loop
        execute format('create type mine.%I as enum ()', one.name);
    end loop;
end $$;
grant usage on schema mine to outbox_producer;
"""


async def test_producer_cannot_bend_a_name(database: Database, producer: Login) -> None:
    """Types, operators and functions of a producer's own are not those that the short way finds."""
    owner = await database.connect()
    await owner.execute(IN_THE_WAY)
    found = await owner.fetchval("select count(*) from pg_operator where oprnamespace = 'mine'::regnamespace")
    await owner.close()
    assert found > 50
    connection = await asyncpg.connect(producer.url, ssl=False)
    try:
        await connection.execute("set search_path = mine, pg_catalog, public")
        with refused(asyncpg.RaiseError, "bent: ->>"):
            await connection.execute("select pg_catalog.to_jsonb(1) ->> 'a'")
        statement = await connection.prepare("insert into public.outbox (type, data) values ($1, $2)")
        await statement.fetch("event.detected", detected())
        await statement.fetch("event.detected", detected(note="x" * 150))
        await statement.fetch("event.detected", detected(note="x" * 400))
        await statement.fetch("event.detected", detected(note="x" * 2000))
        with refused(asyncpg.CheckViolationError, "data.latitude"):
            await statement.fetch("event.detected", detected(latitude=91))
        with refused(asyncpg.CheckViolationError, '"a.b" is not a registered event type'):
            await statement.fetch("a.b", detected())
    finally:
        await connection.close()


BRANCH_OFF = (
    "insert into incarnation (id, run_id, database_oid, timeline, acknowledged)"
    " select id + 1, run_id, database_oid, timeline + 1, false from incarnation"
)


async def test_daemon_does_its_work(database: Database, daemon: Login) -> None:
    """Everything that a run does, as a login that is no more than a member of dispatcher_daemon."""
    await require_schema(daemon.url)
    async with parts(database, daemon.url) as one:
        await Installation.load(one.store, VAULT)
        webhook_id = await new_webhook(one.connection)
        for number in range(3):
            await insert(one.connection, detected(event_id=f"e{number}"))
        reader = OutboxReader(one.store.link("tail"), Lane.ALERT)
        start = await reader.newest_position()
        assert not start.entered
        assert await enter(one.store.link("tail"), one.shared.run_id) is None, "nobody was elsewhere before"
        assert (await reader.newest_position()).entered
        await one.connection.execute(BRANCH_OFF)
        branch = await enter(one.store.link("tail"), one.shared.run_id)
        assert branch is not None
        assert 1 == branch.before - branch.timeline
        page = await reader.read(start.position, start.day, 10)
        assert ["e0", "e1", "e2"] == [json.loads(row.data_text)["event_id"] for row in page.rows]
        assert [] == await one.shared.registry.refresh()
        assert [webhook_id] == list(one.shared.registry.webhooks)

        keys = await one.fan_out([(row.day, row.id) for row in page.rows], [webhook_id])
        assert set() == await one.ledger().claim([(key, 1) for key in keys])
        past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        await one.record(failed(keys[0], 1, past), attempted(keys[1]))
        await one.ledger().checkpoint(Lane.ALERT, 1, [(webhook_id, keys[0].outbox_id)])
        backlog = one.backlog()
        assert (1, [(webhook_id, keys[0].outbox_id)]) == await backlog.checkpoint(Lane.ALERT)
        assert [keys[2]] == [
            row.key for row in await backlog.waiting(webhook_id, Lane.ALERT, keys[0].outbox_id, 9)
        ]
        beginning = (past - dt.timedelta(days=1), keys[0].outbox_id, webhook_id)
        assert [keys[0]] == [row.key for row in await backlog.due(beginning, dt.datetime.now(dt.UTC), 9)]
        assert 1 == await one.ledger().cancel_pending(webhook_id, "deleted", [])

        streaks = Streaks(one.store.link("disabler"), one.shared.run_id, one.shared.shard)
        assert [] == await streaks.longer_than(dt.timedelta())
        assert not await streaks.all_gone(keys[0])
        assert await streaks.disable(webhook_id, "gone")

        wakeup = Wakeup(one.store.link("doorbell"), lambda _: None)
        assert await wakeup.snapshot()
        await wakeup.two_phase()
        assert await wakeup.arm(Lane.ALERT)
        await wakeup.disarm(Lane.ALERT)

        await one.shared.lease.renew()
        await backlog.runs_ended(one.shared.run_id, [one.shared.run_id], "clean")
        await one.shared.lease.release()
        expected = [(1, Kind.ATTEMPTED, State.PENDING), (2, Kind.CANCELLED, State.CANCELLED)]
        assert expected == await one.facts(keys[0])


async def test_daemon_rescues(database: Database, daemon: Login) -> None:
    """What another run left open."""
    async with parts(database, daemon.url) as one:
        webhook_id = await new_webhook(one.connection)
        keys = await one.fan_out([await insert(one.connection) for _ in range(2)], [webhook_id], claimed=True)
        await one.fan_out([await insert(one.connection)], [webhook_id])
        dead = one.shared.run_id
        await one.shared.lease.release()
        run_id = await one.shared.lease.take()
        assert run_id is not None
        backlog = one.backlog()
        assert [dead] == await backlog.dead_runs(run_id)
        messages = await backlog.messages_after(Lane.ALERT, 0, 0, 10)
        now = dt.datetime.now(dt.UTC)
        await backlog.interrupt_deliveries(run_id, [dead], messages, now)
        await backlog.interrupt_claims(run_id, [dead], now - dt.timedelta(days=1), now)
        await backlog.runs_ended(run_id, [dead], "rescued")
        assert 1 == len(await backlog.unattempted(run_id, messages))
        assert [(1, Kind.INTERRUPTED, State.PENDING)] == await one.facts(keys[0])


async def test_daemon_serves_the_api_and_keeps_house(database: Database, daemon: Login) -> None:
    """Keys, webhooks, tests, history, pages and sessions; partitions made ahead."""
    async with management(daemon.url) as api:
        webhook = (await api.new_webhook())["id"]
        assert 200 == (await api.ask("PATCH", f"/v1/webhooks/{webhook}", {"active": False})).status
        assert 202 == (await api.ask("POST", f"/v1/webhooks/{webhook}/test", {})).status
        assert 200 == (await api.ask("GET", f"/v1/webhooks/{webhook}/deliveries")).status
        assert 200 == (await api.ask("GET", "/v1/event-types")).status
        assert 204 == (await api.ask("DELETE", f"/v1/webhooks/{webhook}")).status
    async with dashboard(daemon.url) as house, house.visitor() as visitor:
        assert 200 == (await visitor.get(f"{BASE}/{await visitor.new_webhook()}")).status
        await visitor.post("/settings/logout")
    store = Store(daemon.url, DatabaseConfig())
    try:
        assert await accounts.create_organization(store, "another", network_ids=["net_a"])
    finally:
        await store.close()
    async with parts(database, daemon.url) as one:
        counting = "select count(*) from pg_inherits"
        before = await one.connection.fetchval(counting)
        row = await one.store.fetchrow("create_partitions", 24)
        assert row is not None
        assert 0 < row[0]
        assert before < await one.connection.fetchval(counting)
        row = await one.store.fetchrow("drop_oldest_month", dt.date(2020, 1, 1), 1)
        assert row is not None
        assert row[0] is None


async def test_daemon_changes_nothing_recorded(daemon: Login) -> None:
    """It may not even try, nor drop, nor make anything of its own."""
    changing = {
        "outbox": "lane", "message": "body", "delivery": "lane", "delivery_event": "state", "claim": "run_id",
        "tail_position": "batch", "tail_checkpoint": "batch", "audit": "actor", "run": "owner",
        "run_end": "how", "incarnation": "timeline", "installation": "id_key",
        "organization_network": "network_id",
    }  # fmt: skip
    statements = [f"update {table} set {column} = {column}" for table, column in changing.items()]
    statements += [
        f"delete from {table}" for table in [*changing, "webhook"] if table != "organization_network"
    ]
    statements += [f"truncate {table}" for table in [*changing, "webhook"]]
    statements += [
        "drop table outbox",
        "alter table delivery_event disable trigger append_only",
        "set session_replication_role = replica",
        "create table mine ()",
        "select grant_roles()",
        "select outbox_compile()",
        "create or replace function outbox_accept() returns trigger language plpgsql as 'begin end'",
    ]
    connection = await asyncpg.connect(daemon.url, ssl=False)
    try:
        for statement in statements:
            with refused(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
