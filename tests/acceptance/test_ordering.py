"""What is about one earthquake or sensor arrives in order, from the real daemon, and delays nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import create_webhook
from tests.acceptance.waiting import eventually
from tests.parts import DETECTED
from tests.postgres import Database, wait_for
from tests.receiver import Exchange, Receiver, Request, response

UPDATES = 3
EVENTS = [f"evt_{number}" for number in range(5)]
SENSORS = [f"sen_{number}" for number in range(3)]


class Server:
    """A receiver that takes its time and knows which subject it is being told of."""

    def __init__(self, status: Callable[[Request], int]) -> None:
        self.receiver = Receiver(self._answer)
        self._status = status
        self.open: dict[str, int] = defaultdict(int)
        self.most_of_one = self.most = 0
        self.accepted: dict[str, list[int]] = defaultdict(list)  # sequences, by subject

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        assert request is not None
        data = json.loads(request.body)["data"]
        subject = data.get("event_id") or data["sensor_id"]
        self.open[subject] += 1
        self.most_of_one = max(self.most_of_one, self.open[subject])
        self.most = max(self.most, sum(self.open.values()))
        await asyncio.sleep(0.05)  # an answer that takes a while
        self.open[subject] -= 1
        status = self._status(request)
        if status == 200:
            self.accepted[subject].append(int(request.header("x-grillo-sequence") or 0))
        await exchange.send(response(status))


def told(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Make events, each with its revisions, and sensors that come and go, all mixed."""
    rows: list[tuple[str, dict[str, Any]]] = [
        ("event.detected", {**DETECTED, "event_id": name}) for name in EVENTS
    ]
    for number in range(count):
        changes = {"magnitude": {"old": number, "new": number + 1}}
        rows += [("event.updated", {"event_id": name, "changes": changes}) for name in EVENTS]
        rows += [
            (
                "sensor.online",
                {"sensor_id": name, "station_code": "GRIL01", "offline_duration_seconds": number},
            )
            for name in SENSORS
        ]
    return rows


async def insert_all(database: Database, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """Commit everything at once: every lane finds its part at the same moment."""
    connection = await database.connect()
    await connection.executemany(
        "insert into outbox (type, data) values ($1, $2)", [(kind, json.dumps(data)) for kind, data in rows]
    )
    await connection.close()


async def retries_written(database: Database, count: int) -> None:
    """Wait until so many failed attempts are in the history."""
    connection = await database.connect()

    async def written() -> bool:
        found: int = await connection.fetchval(
            "select count(*) from delivery_event where next_attempt_at is not null"
        )
        return found >= count

    await eventually(written, "the retries are on the schedule", 60)
    await connection.close()


async def test_each_subject_in_order(database: Database, tmp_path: Path) -> None:
    """Detections before their revisions although another lane carries them, one request a subject at a time.

    Every first attempt fails; its retry, due soon, is waited for.
    """
    server = Server(lambda request: 200 if request.header("x-grillo-attempt") != "1" else 500)
    rows = told(UPDATES)
    async with (
        server.receiver,
        daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="0.1,0.1") as house,
    ):
        daemon = await house.start()
        await create_webhook(database.url, server.receiver.url("/"), ["event.*", "sensor.*"])
        await insert_all(database, rows)
        await wait_for(lambda: sum(map(len, server.accepted.values())) == len(rows), "everything", 60)
        assert {name: sorted(ids) for name, ids in server.accepted.items()} == server.accepted
        assert {*EVENTS, *SENSORS} == set(server.accepted)
        assert 1 == server.most_of_one
        assert 1 < server.most, "other subjects were not held up"
        moment = server.receiver.requests[0]
        assert json.loads(moment.body)["timestamp"] == moment.header("x-grillo-occurred-at")
        assert [] == daemon.complaints()


async def test_a_long_retry_is_overtaken_unless_order_is_strict(database: Database, tmp_path: Path) -> None:
    """The revisions of a detection that failed go on; to a webhook of strict order none, nor after a crash.

    Of another subject both are told.
    """

    def failing(request: Request) -> int:
        return 500 if request.header("x-grillo-event") == "event.detected" else 200

    patient, strict = Server(failing), Server(failing)
    rows = told(1)[: len(EVENTS) * 2]
    sensor = told(1)[-1:]
    async with (
        patient.receiver,
        strict.receiver,
        daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="3600") as house,
    ):
        daemon = await house.start()
        everything = ["event.*", "sensor.*"]
        await create_webhook(database.url, patient.receiver.url("/"), everything)
        await create_webhook(database.url, strict.receiver.url("/"), everything, ordering="strict")
        await insert_all(database, rows[: len(EVENTS)])
        await patient.receiver.wait_for(len(EVENTS))
        await strict.receiver.wait_for(len(EVENTS))
        await retries_written(database, 2 * len(EVENTS))
        daemon.kill()
        await daemon.ended()
        daemon = await house.start()
        await insert_all(database, [*rows[len(EVENTS) :], *sensor])
        await wait_for(
            lambda: len(patient.accepted) == len(EVENTS) + 1, "the revisions overtook their events", 60
        )
        await wait_for(lambda: strict.accepted.keys() == {SENSORS[-1]}, "the sensor was told", 60)
        assert len(EVENTS) + 1 == len(strict.receiver.requests)
        assert [] == daemon.complaints()
