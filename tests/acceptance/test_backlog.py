"""Receivers that hang, with a backlog of events and sensors: retries to everybody else come in their time."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import create_webhook
from tests.acceptance.waiting import eventually
from tests.parts import DETECTED
from tests.postgres import Database
from tests.receiver import Exchange, Receiver, hang, response

HANGING: Final = 30
BACKLOG: Final = 40  # events of each kind
SLOTS: Final = 100
ROOM: Final = 400
SETTINGS: Final = {
    "DELIVERY__MAX_IN_FLIGHT": str(SLOTS),
    "DELIVERY__MAX_IN_FLIGHT_PER_WEBHOOK": "4",
    "DELIVERY__MAX_QUEUED": str(ROOM),
    "DELIVERY__TIMEOUT_S": "300",
    "DELIVERY__RETRY_DELAYS_S": "1",
}
SENSOR: Final = {"sensor_id": "sen_1", "station_code": "GRIL01", "offline_duration_seconds": 1}
FOR_RETRIES: Final = 0.7  # of slots and room


class Sick:
    """Answers 500 to the first attempt of each delivery."""

    def __init__(self) -> None:
        self.receiver = Receiver(self._answer)
        self.attempts: list[int] = []

    async def _answer(self, exchange: Exchange) -> None:
        assert exchange.request is not None
        attempt = int(exchange.request.header("x-grillo-attempt") or 0)
        self.attempts.append(attempt)
        await exchange.send(response(500 if attempt == 1 else 200))


async def test_retries_go_on(database: Database, tmp_path: Path) -> None:
    """Slots and room that retries may fill are taken by those who hang, and stay so until long after."""
    sick = Sick()
    backlog = [
        row
        for number in range(BACKLOG)
        for row in (
            ("event.updated", {"event_id": f"evt_{number}", "changes": {}}),
            ("sensor.online", {**SENSOR, "sensor_id": f"sen_{number}"}),
        )
    ]
    connection = await database.connect()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sick.receiver)
        await create_webhook(database.url, sick.receiver.url("/"), ["event.detected"])
        for _ in range(HANGING):
            receiver = await stack.enter_async_context(Receiver(hang()))
            await create_webhook(database.url, receiver.url("/"), ["event.updated", "sensor.online"])
        house = await stack.enter_async_context(daemons(database.url, tmp_path, **SETTINGS))
        daemon = await house.start()
        statement = "insert into outbox (type, data) values ($1, $2)"
        await connection.executemany(statement, [(kind, json.dumps(data)) for kind, data in backlog])

        async def full() -> bool:
            lanes = ("event", "routine")
            flying = [
                await daemon.metric(f'dispatcher_deliveries_in_flight{{lane="{lane}"}}') for lane in lanes
            ]
            held = await daemon.metric("dispatcher_deliveries_held")
            return sum(flying) >= SLOTS * FOR_RETRIES and held >= ROOM * FOR_RETRIES

        await eventually(full, "those who hang have it all", 30)
        for _ in range(3):
            await connection.execute(statement, "event.detected", json.dumps(DETECTED))

        async def retried() -> bool:
            return sorted(sick.attempts) == [1, 1, 1, 2, 2, 2]

        await eventually(retried, "each was tried twice", 30)
        assert await full()
        assert [] == house.complaints()
    await connection.close()
