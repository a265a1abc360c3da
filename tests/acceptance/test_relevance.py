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


async def test_a_sensor_that_flaps_is_not_spoken_of(database: Database, tmp_path: Path) -> None:
    """Offline is told only if it lasts, also across a crash; who is back in time is not spoken of at all."""
    settle_s = 4
    async with Receiver() as receiver, daemons(database.url, tmp_path) as house:
        daemon = await house.start()
        number = await create_webhook(database.url, receiver.url("/"), ["sensor.*"], settle_s=settle_s)
        connection = await database.connect()

        async def say(kind: str, sensor: str) -> None:
            more: dict[str, object] = {"offline_duration_seconds": 1}
            if kind == "offline":
                more = {"last_seen": "2024-01-15T14:30:00Z"}
            data = {"sensor_id": sensor, "station_code": "GRIL01", **more}
            await connection.execute(
                "insert into outbox (type, data) values ($1, $2)", f"sensor.{kind}", json.dumps(data)
            )

        async def facts(kinds: str, count: int) -> None:
            async def written() -> bool:
                found: int = await connection.fetchval(
                    "select count(*) from delivery_event where webhook_id = $1"
                    " and kind = any (string_to_array($2, ' '))",
                    number,
                    kinds,
                )
                return found == count

            await eventually(written, f"{count} facts of the kinds {kinds}", 30)

        for sensor in ("sen_flaps", "sen_gone"):
            await say("offline", sensor)
        await facts("postponed", 2)
        await say("online", "sen_flaps")

        async def routed() -> bool:
            found: int = await connection.fetchval("select count(*) from delivery")
            return found == 3

        await eventually(routed, "its return is routed", 30)
        daemon.kill()
        await daemon.ended()
        daemon = await house.start()
        await receiver.wait_for(1)
        await say("online", "sen_gone")
        await facts("attempted withheld", 4)
        assert [("sensor.offline", "sen_gone"), ("sensor.online", "sen_gone")] == [
            (one["type"], one["data"]["sensor_id"])
            for one in (json.loads(request.body) for request in receiver.requests)
        ]
        waited = await connection.fetchval(
            "select e.started_at - o.recorded_at from delivery_event e"
            " join outbox o on o.day = e.day and o.id = e.outbox_id"
            " where e.kind = 'attempted' and o.type = 'sensor.offline'"
        )
        assert waited.total_seconds() >= settle_s
        rows = await connection.fetch(
            "select o.type, e.state, e.reason from delivery_event e"
            " join outbox o on o.day = e.day and o.id = e.outbox_id where e.kind = 'withheld' order by o.id"
        )
        await connection.close()
        reason = f"the sensor was back within {settle_s} s"
        assert [(f"sensor.{kind}", "cancelled", reason) for kind in ("offline", "online")] == [
            tuple(row) for row in rows
        ]
        assert [] == house.complaints()
    verified = await commands.run("verify", url=database.url)
    assert 0 == verified.status, verified.out
