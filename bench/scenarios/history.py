"""A history of ten million deliveries: starting after a kill -9, reading its newest page, and CPU a delivery.

The past is written by a few set-based statements, as the dispatcher would have left it: events of 80 days
for ten webhooks each, every delivery with its fact. The newest thousand events have none: they were in the
memory of a run that never said how it ended, which is what kill -9 leaves behind.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final

import asyncpg

from bench.feed import Feed
from bench.figures import FULL, Figure
from bench.scenarios.growth import cost
from bench.scenarios.throughput import FAST, FAST_WEBHOOKS, Throughput
from bench.site import Site, running_site
from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import WebhookId
from dispatcher.store import history
from dispatcher.store.connection import Database
from dispatcher.store.recent import Recent

_SERIES: Final = "past"
_EMPTY: Final = "empty"
_WEBHOOKS: Final = 10
_UNFINISHED: Final = 10_000
_DAYS: Final = 80
_PAGES: Final = 20
_WITHIN_S: Final = 120.0
_POLL_S: Final = 0.01
_EVENTS: Final = """
    insert into outbox (day, lane, type, data, occurred_at, recorded_at, network_id)
    select moment::date, 1, 'event.updated',
           format('{"event_id":"evt_%s","changes":{"magnitude":{"old":4.2,"new":4.4}}}', n)::json,
           moment, moment, $1
      from (select n, now() at time zone 'UTC' - ($2 - n) * ($3 * interval '1 day' / $2) as moment
              from generate_series(1, $2::bigint) n) times
"""
_MESSAGES: Final = """
    insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)
    select day, id, lane, case when id > $1 then 2 else 1 end, type, occurred_at, recorded_at, $2,
           convert_to(data::text, 'UTF8')
      from outbox where network_id = $3
"""
_DELIVERIES: Final = """
    insert into delivery (day, outbox_id, webhook_id, lane, run_id)
    select o.day, o.id, w.id, o.lane, $1
      from outbox o cross join webhook w where w.active and o.network_id = $2
"""
_FACTS: Final = """
    insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, trigger, failures,
                                run_id, recorded_at, started_at, duration_ms, status_code, address,
                                request_headers, response_headers, response_body, response_truncated, timings)
    select o.day, o.id, w.id, 1, 2, 'attempted', 'delivered', 'first', 0,
           $1, o.recorded_at, o.recorded_at, 12.5, 200, '192.0.2.1:443',
           '[["Content-Type","application/json"]]', '[["Content-Length","2"]]', 'ok', false, '{}'
      from outbox o cross join webhook w where w.active and o.id <= $2 and o.network_id = $3
"""
_POSITIONS: Final = """
    insert into tail_position (lane, batch, run_id, done, target, xid, outbox_id, system_id)
    select lane, 2, $1, pg_current_snapshot(), pg_current_snapshot(),
           pg_snapshot_xmax(pg_current_snapshot()), -1, system_identifier
      from generate_series(0, 2) lane, pg_control_system()
"""
_CHECKPOINTS: Final = """
    insert into tail_checkpoint (shard, lane, run_id, batch, waiting)
    select 0, lane, $1, case lane when 3 then (extract(epoch from now()) * 1e6)::bigint else 1 end, '[]'
      from generate_series(0, 3) lane
"""


async def measure_history(facts: int) -> tuple[list[Figure], list[str]]:
    """Give the figures, and remarks about them."""
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {what}", flush=True)

    async with running_site({}, serve=False) as site:
        without = await _cost(site, say)
    async with running_site({_SERIES: _WEBHOOKS}, serve=False) as site:
        empty_s = await _start_empty(site, say)
        await _write_past(site.producer, facts, say)
        figures = await _start(site, say)
        figures += await _read(site, say)
        figures.append(_growth(without, await _cost(site, say)))
        stored: str = await site.producer.fetchval(
            "select pg_size_pretty(pg_database_size(current_database()))"
        )
    return figures, [
        f"{facts:,} facts, {_UNFINISHED:,} deliveries unfinished, {stored}",
        f"without history, a start took {empty_s:.2f} s to the first request",
    ]


async def _write_past(connection: asyncpg.Connection, facts: int, say: Callable[[str], None]) -> None:
    events = (facts + _UNFINISHED) // _WEBHOOKS
    # The last event that is finished; before them stands that of the start without history.
    last = facts // _WEBHOOKS + await connection.fetchval("select max(id) from outbox")
    run_id = await connection.fetchval(
        "insert into run (owner, version) values ('a machine that is gone', 'bench') returning id"
    )
    today = dt.datetime.now(dt.UTC).date()
    await connection.execute(
        "select create_partitions($1::date, $2::date)", today - dt.timedelta(_DAYS + 1), today
    )
    # The rules for producers are no part of this; and what is written is thrown away.
    await connection.execute("set session_replication_role = replica; set synchronous_commit = off")
    steps: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
        (f"{events:,} events", _EVENTS, (_SERIES, events, _DAYS)),
        ("messages", _MESSAGES, (last, _WEBHOOKS, _SERIES)),
        ("deliveries", _DELIVERIES, (run_id, _SERIES)),
        ("facts", _FACTS, (run_id, last, _SERIES)),
        ("positions", _POSITIONS, (run_id,)),
        ("checkpoints", _CHECKPOINTS, (run_id,)),
    )
    for what, statement, values in steps:
        await connection.execute(statement, *values)
        say(what)
    await connection.execute("set session_replication_role = origin")
    await connection.execute("vacuum analyze")
    await connection.execute("checkpoint")
    say("vacuumed")


async def _start_empty(site: Site, say: Callable[[str], None]) -> float:
    """Give how many seconds a start takes to the first request where there is no history."""
    feed = Feed(site, _EMPTY, 1)
    await site.subscribe({_EMPTY: 1})
    await feed.insert(1)
    began = time.monotonic_ns()
    async with site.serving():
        await feed.drained()
        first_s: float = (await site.sink.ask("first", series=_EMPTY) - began) / 1e9
    await site.producer.execute("update webhook set active = false where $1 = any (network_ids)", _EMPTY)
    say(f"without history: first request after {first_s:.2f} s")
    return first_s


async def _cost(site: Site, say: Callable[[str], None]) -> list[float]:
    """Give the CPU a delivery of ten webhooks, in the bare client's requests, by rounds."""
    throughput = Throughput(site, FULL.seconds)
    await site.subscribe({FAST: FAST_WEBHOOKS})
    async with site.serving() as site.dispatcher:
        await throughput.prepare()
        await throughput.side_by_side()  # until everything is warm
        costs = [await cost(throughput) for _ in range(FULL.count)]
    say(f"a delivery costs as much as {median(costs):.2f} requests of the bare client")
    return costs


def _growth(without: list[float], beside: list[float]) -> Figure:
    return Figure(
        name="CPU a delivery with the history ÷ without",
        unit="bare requests",
        ours=beside,
        beside=without,
        bound="at most",
        goal=1.2,
    )


async def _start(site: Site, say: Callable[[str], None]) -> list[Figure]:
    began = time.monotonic_ns()
    async with site.serving():
        ready_s = (time.monotonic_ns() - began) / 1e9
        await site.sink.ask("wait", series=_SERIES, requests=1, within_s=_WITHIN_S)
        first_s = (await site.sink.ask("first", series=_SERIES) - began) / 1e9
        rescued = "select max(at) from run_end where how = 'rescued'"
        await _until(lambda: site.producer.fetchval(rescued))
        rescue_s: float = await site.producer.fetchval(
            f"select extract(epoch from ({rescued}) - max(started_at))::float from run"
        )
        say(
            f"ready after {ready_s:.2f} s, first request after {first_s:.2f} s, "
            f"rescued within {rescue_s:.2f} s"
        )
        await site.sink.ask("wait", series=_SERIES, requests=_UNFINISHED, within_s=_WITHIN_S)
        delivered = (
            f"select count(*) = {_UNFINISHED} from delivery_event where attempt_no = 2 and status_code = 200"
        )
        await _until(lambda: site.producer.fetchval(delivered))
        say("all of them delivered, each recorded")
    return [
        _figure("start to first request after kill -9 ÷ 2 s", first_s, 2.0),
        _figure("recovery of the unfinished deliveries ÷ 2 s", rescue_s, 2.0),
    ]


async def _until(ask: Callable[[], Awaitable[object]]) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not await ask():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_WITHIN_S:g} s")
        await asyncio.sleep(_POLL_S)


async def _read(site: Site, say: Callable[[str], None]) -> list[Figure]:
    database = Database(site.database_url, DatabaseConfig())
    webhook_id = WebhookId(await site.producer.fetchval("select min(id) from webhook"))
    recent = Recent(database)
    now = await recent.now()
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "first page of deliveries": lambda: history.search(database, webhook_id, history.Search()),
        "first page of failed deliveries": lambda: history.search(
            database, webhook_id, history.Search(state="failed")
        ),
        "`dispatcher history`": lambda: recent.deliveries(None, 20),
        "`dispatcher history --follow`, a look": lambda: recent.facts(None, now),
    }
    figures = []
    for name, ask in asked.items():
        spans = []
        for _ in range(_PAGES):
            began = time.perf_counter()
            await ask()
            spans.append(time.perf_counter() - began)
        say(f"{name}: {spans[0] * 1e3:.1f} ms at first, then {median(spans) * 1e3:.1f} ms")
        figures.append(_figure(f"{name} ÷ 100 ms", median(spans), 0.1))
    await database.close()
    return figures


def _figure(name: str, ours_s: float, beside_s: float) -> Figure:
    return Figure(
        name=name, unit="ms", ours=[ours_s * 1e3], beside=[beside_s * 1e3], bound="at most", goal=1.0
    )
