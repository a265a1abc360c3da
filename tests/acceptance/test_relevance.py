"""What does not matter any more is not sent to webhooks that say so, and the history says why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests import commands
from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import create_webhook
from tests.acceptance.waiting import eventually
from tests.parts import DETECTED
from tests.postgres import Database
from tests.receiver import Exchange, Receiver, response

REVISIONS = 5


async def test_only_the_newest_revision_and_nothing_old(database: Database, tmp_path: Path) -> None:
    """Revisions that waited behind the detection give way to the last; an event of yesterday is not sent.

    A webhook that says nothing of the kind gets everything.
    """
    detection = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        assert exchange.request is not None
        if exchange.request.header("x-grillo-event") == "event.detected":
            await detection.wait()
        await exchange.send(response(200))

    async with (
        Receiver(answer) as picky,
        Receiver() as plain,
        daemons(database.url, tmp_path) as house,
    ):
        daemon = await house.start()
        events = ["event.*", "sensor.*"]
        number = await create_webhook(database.url, picky.url("/"), events, coalesce=True, max_age_s=600)
        await create_webhook(database.url, plain.url("/"), events)
        connection = await database.connect()
        for age, kind, data in (
            ("0 s", "event.detected", DETECTED),
            *(
                (
                    "0 s",
                    "event.updated",
                    {"event_id": DETECTED["event_id"], "changes": {"magnitude": revision}},
                )
                for revision in range(REVISIONS)
            ),
            (
                "1 day",
                "sensor.online",
                {"sensor_id": "sen_1", "station_code": "G", "offline_duration_seconds": 1},
            ),
        ):
            await connection.execute(
                "insert into outbox (type, data, occurred_at) values ($1, $2, now() - $3::text::interval)",
                kind,
                json.dumps(data),
                age,
            )
        await plain.wait_for(REVISIONS + 2)
        waiting = "select count(*) from delivery where webhook_id = $1"

        async def all_there() -> bool:
            count: int = await connection.fetchval(waiting, number)
            return count == REVISIONS + 2

        await eventually(all_there, "everything is scheduled", 30)
        detection.set()

        async def settled() -> bool:
            facts: int = await connection.fetchval(
                "select count(*) from delivery_event where webhook_id = $1", number
            )
            return facts == REVISIONS + 2

        await eventually(settled, "everything is settled", 30)
        rows = await connection.fetch(
            "select o.type, e.kind, e.state, e.reason from delivery_event e"
            " join outbox o on o.day = e.day and o.id = e.outbox_id"
            " where e.webhook_id = $1 order by e.outbox_id",
            number,
        )
        newest = await connection.fetchval("select max(id) from outbox where type = 'event.updated'")
        await connection.close()
        superseded = ("event.updated", "superseded", "cancelled", f"a newer revision waits: event {newest}")
        assert [
            ("event.detected", "attempted", "delivered", None),
            *[superseded] * (REVISIONS - 1),
            ("event.updated", "attempted", "delivered", None),
            ("sensor.online", "expired", "cancelled", "older than 600 s"),
        ] == [tuple(row) for row in rows]
        assert ["event.detected", "event.updated"] == [one.header("x-grillo-event") for one in picky.requests]
        assert [] == daemon.complaints()
    verified = await commands.run("verify", url=database.url)
    assert 0 == verified.status, verified.out
