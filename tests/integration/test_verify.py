"""`dispatcher verify`: clean after real traffic, and finds each thing that must not be."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from dispatcher.core.ids import DeliveryKey, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import BEGINNING, Position
from dispatcher.store.ledger import MessageRow
from dispatcher.store.outbox import OutboxReader
from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import create_webhook, moody, prompt, slow
from tests.commands import Ended, run
from tests.parts import detected, parts
from tests.past import Past, delivery_id
from tests.postgres import Database

CLEAN: Final = "no discrepancy: what is shown is what the facts amount to"
AT: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


async def test_real_traffic_is_clean_while_it_flows_and_after(database: Database, tmp_path: Path) -> None:
    """With deliveries in memory, in the database and on the schedule, and a kill -9 in between."""
    events = real_events()[:400]
    async with Harness(database.url, seed=11) as world:
        await world.subscribe(["*"], prompt)
        await world.subscribe(["*"], slow(0.05))
        await world.subscribe(["event.*"], moody(world.rng, 0.5))
        settings = {
            "DELIVERY__RETRY_DELAYS_S": RETRY_DELAYS_S,
            "DELIVERY__MAX_QUEUED": "50",
        }
        async with daemons(database.url, tmp_path, **settings) as house:
            daemon = await house.start()
            async with world.producing(events, pause_s=0.02, to_the_end=True):
                for _ in range(3):
                    during = await run("verify", url=database.url)
                    assert (0, CLEAN) == (during.status, during.lines[-1]), during.out
                daemon.kill()
                await daemon.ended()
                killed = await run("verify", url=database.url)
                assert (0, CLEAN) == (killed.status, killed.lines[-1]), killed.out
                await house.start()
            await world.settled()
        history = await world.conserved()
    ended = await run("verify", "--json", url=database.url)
    summary = json.loads(ended.lines[-1])["summary"]
    assert (0, 1) == (ended.status, len(ended.lines)), ended.out
    assert (len(events), 0, 0) == (summary["events"], summary["not_read_yet"], summary["discrepancies"])
    assert len(history.bodies) == sum(summary["states"].values())
    assert sum(map(len, history.facts.values())) == summary["facts"]


@asynccontextmanager
async def corrupting(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Give a superuser's connection to whom nothing is refused any more."""
    connection = await database.connect()
    try:
        for table in ("outbox", "message", "delivery", "delivery_event", "tail_checkpoint"):
            parts = await connection.fetch(
                "select relid::regclass::text as name from pg_partition_tree($1::regclass)", table
            )
            for part in parts:
                await connection.execute(f"alter table {part['name']} disable trigger append_only")
        yield connection
    finally:
        await connection.close()


class Story:
    """One event that was delivered at the second attempt, written as the daemon would have."""

    def __init__(self, past: Past, key: DeliveryKey, name: str) -> None:
        self.past = past
        self.key = key
        self.name = name

    @classmethod
    async def of(cls, connection: asyncpg.Connection, url: str) -> Story:
        """Write it."""
        webhook_id = await create_webhook(url, "https://receiver.example/hook", ["*"])
        past = Past(connection, webhook_id)
        key = await past.delivery()
        await past.attempt(key, 1, 500, state="pending", failures=1, next_attempt_at=AT)
        await past.attempt(key, 2, 200, failures=1)
        return cls(past, key, await delivery_id(connection, key))


async def found(url: str, *arguments: str) -> list[dict[str, Any]]:
    """Give what `verify` finds; fails where its exit status says something else."""
    ended: Ended = await run("verify", "--json", *arguments, url=url)
    discrepancies = [json.loads(text) for text in ended.lines[:-1]]
    assert (1 if discrepancies else 0) == ended.status, ended.err
    assert len(discrepancies) == json.loads(ended.lines[-1])["summary"]["discrepancies"]
    return discrepancies


EVENT: Final = "where day = $1 and outbox_id = $2"
DELIVERY: Final = f"{EVENT} and webhook_id = $3"
FIRST: Final = f"{DELIVERY} and attempt_no = 1"
SECOND: Final = f"{DELIVERY} and attempt_no = 2"
# What a superuser did, and what is said of it. Statements with $3 are about the delivery, others its event.
CORRUPTIONS: Final = {
    "state": (
        f"update delivery_event set state = 'failed' {SECOND}",
        "shown as failed, but its facts amount to delivered",
    ),
    "state in the middle": (
        f"update delivery_event set state = 'cancelled' {FIRST}",
        "attempt 1: recorded as cancelled, but the facts up to it amount to pending",
    ),
    "fact removed": (
        f"delete from delivery_event {FIRST}",
        "attempt 1 is missing: the facts go on with 2",
    ),
    "retry without a time": (
        f"update delivery_event set next_attempt_at = null {FIRST}",
        "attempt 1: recorded as pending, but the facts up to it amount to failed",
    ),
    "time without a retry": (
        f"update delivery_event set next_attempt_at = now() {SECOND}",
        "attempt 2: a next attempt is scheduled, although it is delivered",
    ),
    "interrupted for ever": (
        f"update delivery_event set kind = 'interrupted', next_attempt_at = null {FIRST}",
        "attempt 1: interrupted, but no next attempt is scheduled",
    ),
    "answer": (
        f"update delivery_event set status_code = 503 {SECOND}",
        "attempt 2: answered 503, recorded as a success",
    ),
    "count of failures": (
        f"update delivery_event set failures = 3 {SECOND}",
        "attempt 2: counts 3 failed attempts of the schedule, there were 1",
    ),
    "impossible": (
        f"update delivery_event set kind = (array['cancelled', 'interrupted'])[attempt_no] {DELIVERY}",
        "attempt 2: impossible history: a cancelled delivery cannot be interrupted",
    ),
    "delivery removed": (
        f"delete from delivery {DELIVERY}",
        "there are 2 facts, but no such delivery",
    ),
    "message removed": (f"delete from message {EVENT}", "has no message: there is nothing to send"),
    "fan-out": (
        f"update message set fan_out = 2 {EVENT}",
        "goes to 2 webhooks, but has 1 deliveries",
    ),
    "row removed": (
        "delete from outbox where day = $1 and id = $2",
        "there is a message, but no row in the outbox",
    ),
    "another type": (
        f"update message set type = 'sensor.online' {EVENT}",
        "type, lane or time of the message are not those of the row in the outbox",
    ),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
async def test_each_corruption_is_found(database: Database, kind: str) -> None:
    """Made by a superuser with the triggers off; named with its delivery, in words."""
    statement, words = CORRUPTIONS[kind]
    async with corrupting(database) as connection:
        story = await Story.of(connection, database.url)
        assert [] == await found(database.url)
        arguments = story.key if "$3" in statement else story.key[:2]
        await connection.execute(statement, *arguments)
    discrepancies = await found(database.url)
    told = [one for one in discrepancies if words in one["problem"]]
    assert told, discrepancies
    of_delivery = "$3" in statement or kind == "message removed"
    assert (story.name if of_delivery else None) == told[0]["delivery"]
    assert story.key.outbox_id == told[0]["outbox_id"]
    line = (await run("verify", url=database.url)).out
    assert words in line
    assert (story.name in line) == of_delivery


async def test_a_webhook_that_is_gone_is_found(database: Database) -> None:
    """Its row stays when it is deleted, so a delivery always has one."""
    async with corrupting(database) as connection:
        story = await Story.of(connection, database.url)
        nobody = story.key._replace(webhook_id=WebhookId(1_000_000))
        for table in ("delivery", "delivery_event"):
            await connection.execute(
                f"update {table} set webhook_id = $4 {DELIVERY}", *story.key, nobody.webhook_id
            )
        expected = [(await delivery_id(connection, nobody), None, "is for webhook number 1000000")]
    discrepancies = await found(database.url)
    assert expected == [
        (one["delivery"], one["webhook"], one["problem"].partition(",")[0]) for one in discrepancies
    ]


async def test_a_second_delivery_by_itself_and_a_fifth_attempt_are_found(database: Database) -> None:
    """What was delivered is not sent again by itself, and four attempts are all that the schedule makes."""
    async with corrupting(database) as connection:
        story = await Story.of(connection, database.url)
        await story.past.attempt(story.key, 3, 200, failures=1)
        other = await story.past.delivery()
        for number in range(1, 6):
            failed = number == 5
            await story.past.attempt(
                other,
                number,
                500,
                failures=number,
                state="failed" if failed else "pending",
                next_attempt_at=None if failed else AT,
            )
        assert [
            (story.name, "attempt 3: sent again although it had been delivered and nobody asked for it"),
            (await delivery_id(connection, other), "5 attempts of the schedule, which makes 4 at most"),
        ] == [(one["delivery"], one["problem"]) for one in await found(database.url)]


async def test_what_a_person_asked_for_is_no_discrepancy(database: Database) -> None:
    """A redelivery of what was delivered, interrupted by a crash on the way; a request that waits."""
    async with corrupting(database) as connection:
        story = await Story.of(connection, database.url)
        by_hand = {"trigger": "manual", "failures": 1, "state": "delivered"}
        await story.past.fact(story.key, 3, 0, kind="requested", next_attempt_at=AT, **by_hand)
        await story.past.fact(story.key, 3, 2, kind="interrupted", next_attempt_at=AT, **by_hand)
        await story.past.attempt(story.key, 4, 200, trigger="manual", failures=1)
        other = await story.past.delivery()
        await story.past.attempt(other, 1, 410, state="failed", failures=1)
        await story.past.fact(
            *(other, 2, 0),
            kind="requested",
            state="pending",
            trigger="manual",
            failures=1,
            next_attempt_at=AT,
        )
    assert [] == await found(database.url)


async def test_first_and_last_moments_are_no_discrepancy(database: Database) -> None:
    """Programs that know no time write the first; the message is that of its row all the same."""
    async with parts(database) as one:
        for moment in ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"):
            await one.connection.execute(
                "insert into outbox (type, data, occurred_at)"
                " values ('event.detected', $1, $2::text::timestamptz)",
                detected(),
                moment,
            )
        reader = OutboxReader(one.store.link("tail"), Lane.ALERT)
        page = await reader.read(Position.after(BEGINNING), AT.date(), 10)
        messages = [
            MessageRow(
                day=row.day,
                outbox_id=row.id,
                type=row.type,
                occurred_at=row.occurred_at,
                recorded_at=row.recorded_at,
                body=b"{}",
                test=False,
                webhook_ids=[],
                claimed=[],
            )
            for row in page.rows
        ]
        assert 2 == len(messages)
        position = page.position_after(2)
        await one.ledger().fan_out(Lane.ALERT, 1, messages, position, one.system_id, page.day)
    assert [] == await found(database.url)


async def test_a_row_that_was_passed_over_is_found_and_an_unread_one_is_not(
    database: Database, tmp_path: Path
) -> None:
    """What lies before the lane's position has a message; what comes after it is not read yet."""
    async with Harness(database.url, seed=1) as world:
        await world.subscribe(["*"], prompt)
        async with daemons(database.url, tmp_path) as house:
            daemon = await house.start()
            async with world.producing(real_events("comcat_updates.jsonl"), pause_s=0, to_the_end=True):
                pass
            await world.settled()
            daemon.terminate()
            await daemon.ended()
    connection = await database.connect()
    try:
        await connection.execute(
            "insert into outbox (type, data) select type, data from outbox order by id limit 2"
        )
    finally:
        await connection.close()
    ended = await run("verify", url=database.url)
    assert (0, "45 events, 2 more not read yet") == (ended.status, ended.lines[0])
    async with corrupting(database) as connection:
        row = await connection.fetchrow("select day, outbox_id, type from message order by outbox_id limit 1")
        for table in ("delivery_event", "delivery", "message"):
            await connection.execute(f"delete from {table} {EVENT}", row["day"], row["outbox_id"])
    expected = {
        "day": row["day"].isoformat(),
        "outbox_id": row["outbox_id"],
        "delivery": None,
        "webhook": None,
        "problem": f"a row of type {row['type']} was passed over: it has no message",
    }
    assert [expected] == await found(database.url)
    tomorrow = (row["day"] + dt.timedelta(days=1)).isoformat()
    assert [] == await found(database.url, "--since", tomorrow), "it belongs to an earlier day"


async def test_what_no_restart_would_find_is_found(database: Database) -> None:
    """A delivery without a fact below the checkpoint, unless its webhook waits; a retry due before it."""
    async with corrupting(database) as connection:
        story = await Story.of(connection, database.url)
        waiting = await story.past.delivery()
        late = await story.past.delivery()
        await story.past.attempt(late, 1, 500, state="pending", failures=1, next_attempt_at=AT)
        checkpoint = (
            "insert into tail_checkpoint (shard, lane, run_id, batch, waiting) values (0, $1, 1, $2, $3)"
        )
        await connection.execute(checkpoint, 2, 0, "[]")
        assert [] == await found(database.url), "both come after the checkpoints"
        webhook, before = waiting.webhook_id, waiting.outbox_id - 1
        await connection.execute(checkpoint, 2, 1, json.dumps([[webhook, before]]))
        assert [] == await found(database.url), "its webhook waits for it"
        await connection.execute(checkpoint, 2, 1, json.dumps([[webhook, waiting.outbox_id]]))
        await connection.execute(checkpoint, 3, int(AT.timestamp() * 1_000_000) + 1, "[]")
        assert [
            (waiting.outbox_id, "was never attempted and is forgotten: a restart takes it for attempted"),
            (
                late.outbox_id,
                "was due at 2026-01-01T00:00:00Z and is forgotten: a restart looks for what is due later",
            ),
        ] == [(one["outbox_id"], one["problem"]) for one in await found(database.url)]
