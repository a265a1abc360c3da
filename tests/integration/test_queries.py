"""Every statement in store/sql: it fits the schema, somebody uses it, and it finds its rows by an index."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from dispatcher.core.pending import Lane
from dispatcher.store.connection import INDEXED
from dispatcher.store.queries import QUERIES
from tests.parts import DETECTED, new_webhook
from tests.postgres import Database

SOURCE: Final = Path(__file__).parents[2] / "dispatcher"
_PARAMETER: Final = re.compile(r"\$(\d+)")

# Statements that read tables which grow from end to end, and why they may.
READS_ALL: Final = {
    "verify_deliveries": "`dispatcher verify` walks through everything, a month at a time",
    "verify_messages": "the same",
    "verify_facts": "the same",
    "verify_outbox": "the same",
    "reshard": "what is open since the last checkpoints may be all there is; its link prefers indexes",
}


def parameters(query: str) -> set[int]:
    """Give the numbers of a statement's parameters, those in comments aside."""
    return {int(number) for number in _PARAMETER.findall(re.sub(r"--.*", "", query))}


async def test_every_statement_fits_the_schema(database: Database) -> None:
    """It can be prepared, and takes as many parameters as it names, none left out."""
    connection = await database.connect()
    wrong = {}
    for name, query in QUERIES.items():
        try:
            statement = await connection.prepare(query)
        except asyncpg.PostgresError as error:
            wrong[name] = str(error)
            continue
        expected = set(range(1, len(statement.get_parameters()) + 1))
        if parameters(query) != expected:
            wrong[name] = f"{expected} expected, {parameters(query)} named"
    await connection.close()
    assert {} == wrong, json.dumps(wrong)


def test_every_statement_is_used() -> None:
    """By the name that it is called with; and every name that is called exists."""
    text = "".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    assert [] == [name for name in QUERIES if f'"{name}"' not in text]
    called = set(re.findall(r'QUERIES\["(\w+)"\]', text))
    called |= set(re.findall(r'\.(?:fetch|fetchrow|execute)\(\s*"(\w+)"', text))
    assert set() == called - set(QUERIES)


def test_every_statement_says_what_it_is_for() -> None:
    """In the line that names it."""
    assert [] == [name for name, query in QUERIES.items() if not query.startswith(f"-- {name}: ")]


EVENTS: Final = 20_000
WEBHOOKS: Final = 20


@pytest.fixture
async def full(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Fill a database with some history, this month's and last month's, and gather statistics."""
    connection = await database.connect()
    webhook_ids = [await new_webhook(connection) for _ in range(WEBHOOKS)]
    await connection.execute(
        "insert into outbox (type, data, day, recorded_at) select 'event.detected', $1, moment::date, moment"
        " from (select (now() at time zone 'UTC') - ($2::int - n) * interval '2 minutes' as moment"
        "       from generate_series(1, $2::int) n) x",
        json.dumps(DETECTED),
        EVENTS,
    )
    await connection.execute(
        "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, id / 10, type, occurred_at, recorded_at, 2, '{}' from outbox"
    )
    await connection.execute(
        "insert into delivery (day, outbox_id, webhook_id, lane, run_id)"
        " select o.day, o.id, $1::bigint + (o.id + k) % $2, o.lane, 1 from outbox o, generate_series(0, 1) k",
        webhook_ids[0],
        WEBHOOKS,
    )
    # The newest hundredth has not been attempted, every tenth delivery failed once before.
    await connection.execute(
        "insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger,"
        " run_id, started_at, status_code, next_attempt_at)"
        " select d.day, d.outbox_id, d.webhook_id, n, 2, 'attempted',"
        " case n when 1 then 'pending' else 'delivered' end, 'first', 1, now(),"
        " case n when 1 then 500 else 200 end,"
        " case n when 1 then now() + (d.outbox_id - $1) * interval '1 second' end"
        " from delivery d, generate_series(case when d.outbox_id % 10 = 0 then 1 else 2 end, 2) n"
        " where d.outbox_id < $1",
        EVENTS - EVENTS // 100,
    )
    await connection.execute(
        "insert into claim select day, outbox_id, webhook_id, attempt_no, 1, now() from delivery_event"
    )
    await connection.execute(
        "insert into tail_position (lane, batch, run_id, done, target, xid, outbox_id, system_id)"
        " select 0, n, 1, '1:1:', '1:1:', '1', 1, 1 from generate_series(1, 5000) n"
    )
    await connection.execute(
        "insert into tail_checkpoint (shard, lane, run_id, batch, waiting)"
        " select 0, 0, 1, n, '[]' from generate_series(1, 5000) n"
    )
    await connection.execute("analyze")
    yield connection
    await connection.close()


def scanned(plan: dict[str, Any]) -> Iterator[str]:
    """Give the tables that a plan reads from end to end, one after the other."""
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for child in plan.get("Plans", []):
        yield from scanned(child)


async def scans(connection: asyncpg.Connection, statement: str) -> list[str]:
    """Give the partitions with many rows that a statement reads from end to end."""
    large = await connection.fetch(
        "select relname from pg_class where reltuples >= 1000 and relkind = 'r' and relispartition"
    )
    (plan,) = json.loads(await connection.fetchval(f"explain (format json) {statement}"))
    return sorted(set(scanned(plan["Plan"])) & {row[0] for row in large})


def literal(value: object) -> str:
    """Write a value in SQL."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"'{{{','.join(map(str, value))}}}'"
    return f"'{value}'"


async def asked(connection: asyncpg.Connection) -> dict[str, list[object]]:
    """Give the statements that are planned for their values, with values as the daemon asks them."""
    newest = await connection.fetchrow("select id, day, xid::text from outbox order by id desc limit 1")
    webhook_id = await connection.fetchval("select min(id) from webhook")
    now, unread, lane = dt.datetime.now(dt.UTC), EVENTS - 100, int(Lane.ALERT)
    messages = await connection.fetch("select day, id from outbox where id > $1", unread)
    return {
        "waiting": [webhook_id, lane, unread, 256],
        "due": [now - dt.timedelta(seconds=5), 0, 0, now, 500, now, 1, 0],
        "due_of_webhook": [webhook_id, now - dt.timedelta(minutes=5), 0, now, 256, "retry", now],
        "next_due": [now, 1, 0],
        "written_ahead": [now],
        "messages_after": [lane, unread // 10, 0, 1000],
        "checkpoint_newest": [0, lane],
        "newest_batches": [],
        "followed": [lane, unread // 10, 0, 10**9, 500, 5000, 2, 1],
        "tail_newest": [lane],
        "tail_range": [lane, newest["xid"], unread, None, 1000, newest["day"], 0, newest["day"]],
        "tail_stragglers": [lane, [newest["xid"]], newest["xid"], unread, 1000, 0],
        "unattempted": [[row["day"] for row in messages], [row["id"] for row in messages], 1, 1, 0],
        "interrupt_claims": [1, [99], now - dt.timedelta(minutes=10), now],
        "status_unread": [lane, newest["xid"], unread, [], newest["day"], 0, 1000],
        "status_unattempted": [lane, unread // 10, [], [], 50],
    }


async def test_every_statement_finds_its_rows_by_an_index(full: asyncpg.Connection) -> None:
    """None reads a table that grows from its beginning to its end.

    The hot ones are looked at as the server plans them once it has seen them often, the others as planned
    for any values.
    """
    large = "select count(*) from pg_class where reltuples >= 1000 and relkind = 'r' and relispartition"
    assert await full.fetchval(large) >= 8, "this month and the one before hold rows"
    values = await asked(full)
    wrong = {}
    for name, query in QUERIES.items():
        if name in READS_ALL or re.search(r"^lock ", query, re.MULTILINE):
            continue  # a lock reads nothing, and has no plan
        given = ", ".join(map(literal, values.get(name, [None] * len(parameters(query)))))
        execute = f"execute {name}({given})" if given else f"execute {name}"
        mode = "auto" if name in values else "force_generic_plan"
        await full.execute(f"set plan_cache_mode = {mode}; prepare {name} as {query}")
        if name in values:
            for _ in range(8):
                await full.execute(execute)
        if found := await scans(full, execute):
            wrong[name] = found
    assert {} == wrong, json.dumps(wrong)


def touched(plan: dict[str, Any]) -> float:
    """Give how many rows a plan's scans looked at, kept or not."""
    own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return (own if "Relation Name" in plan else 0) + sum(map(touched, plan.get("Plans", [])))


HOT: Final = (
    "tail_range",
    "tail_stragglers",
    "waiting",
    "due",
    "due_of_webhook",
    "next_due",
    "messages_after",
)


async def test_the_hot_statements_look_at_nothing_but_what_is_asked_for(full: asyncpg.Connection) -> None:
    """However many rows there are and whatever the statistics say: alerts wait for these statements."""
    await full.execute("alter table outbox disable trigger accept")
    for _ in range(3):  # a busy day
        await full.execute(
            "insert into outbox (lane, type, data)"
            " select n % 3, 'sensor.online', '{}' from generate_series(1, 15000) n"
        )
    await full.execute("analyze")
    newest = await full.fetchrow("select id, day, xid::text from outbox order by id desc limit 1")
    xid, last, day = newest["xid"], newest["id"] - 9, newest["day"]
    values = await asked(full) | {
        "tail_range": [0, xid, last, None, 1000, day, 0, day],
        "tail_stragglers": [0, [int(xid) - 5, xid], xid, last, 1000, 0],
    }
    for setting, value in INDEXED.items():
        await full.execute(f"set {setting} = {value}")
    await full.execute("set plan_cache_mode = force_generic_plan")
    for name in sorted(HOT):
        await full.execute(f"prepare {name} as {QUERIES[name]}")
        given = ", ".join(map(literal, values[name]))
        (plan,) = json.loads(await full.fetchval(f"explain (analyze, format json) execute {name}({given})"))
        found = plan["Plan"]["Actual Rows"]
        assert touched(plan["Plan"]) <= 200 + 10 * found, json.dumps(plan)


def test_exceptions_are_still_needed() -> None:
    """A statement that was renamed or taken away is no exception any more."""
    assert set() == set(READS_ALL) - set(QUERIES)
