"""A webhook's rate limit holds over everything that is sent to it, across a crash, and for nobody else."""

from __future__ import annotations

import json
import time
from pathlib import Path

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import WebhookId
from dispatcher.store import webhooks
from dispatcher.store.connection import Database as Store
from dispatcher.store.vault import Vault
from tests import commands
from tests.acceptance.daemon import ENCRYPTION_KEY, daemons
from tests.acceptance.subscriber import create_webhook
from tests.acceptance.waiting import eventually
from tests.parts import DETECTED
from tests.postgres import Database
from tests.receiver import Exchange, Receiver, response

RATE_PER_S = 10.0  # a burst of one
SENSORS = 24
SLOW_PER_S = 0.1


async def insert(database: Database, kind: str, count: int) -> None:
    """Commit some events at once."""
    connection = await database.connect()
    detected = kind == "event.detected"
    rows = [
        DETECTED
        if detected
        else {"sensor_id": f"sen_{number}", "station_code": "GRIL01", "offline_duration_seconds": 1}
        for number in range(count)
    ]
    await connection.executemany(
        "insert into outbox (type, data) values ($1, $2)", [(kind, json.dumps(row)) for row in rows]
    )
    await connection.close()


async def limit(database: Database, webhook_id: WebhookId, rate_per_s: float | None) -> None:
    """Change the limit, as the management API does."""
    connection = await database.connect()
    organization_id, public_id = await connection.fetchrow(
        "select organization_id, public_id from webhook where id = $1", webhook_id
    )
    await connection.close()
    store = Store(database.url, DatabaseConfig())
    await webhooks.change(
        store,
        Vault(ENCRYPTION_KEY),
        organization_id,
        public_id,
        {"rate_limit_per_s": rate_per_s},
        secret=None,
        actor="test",
    )
    await store.close()


async def test_no_more_than_asked_for(database: Database, tmp_path: Path) -> None:
    """First attempts, retries and what a crash interrupted share the rate; an alert has the next token.

    Another webhook gets everything at once meanwhile. A raised limit lets go what waits.
    """
    arrivals: list[tuple[float, str]] = []
    refused: set[str] = set()

    async def answer(exchange: Exchange) -> None:
        assert exchange.request is not None
        kind = exchange.request.header("x-grillo-event") or ""
        delivery = exchange.request.header("x-grillo-delivery") or ""
        arrivals.append((time.monotonic(), kind))
        failing = len(refused) < SENSORS // 4 and delivery not in refused
        if failing:
            refused.add(delivery)
        await exchange.send(response(500 if failing else 200))

    async with (
        Receiver(answer) as limited,
        Receiver() as free,
        daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="1,1,1") as house,
    ):
        daemon = await house.start()
        events = ["event.*", "sensor.*"]
        number = await create_webhook(database.url, limited.url("/"), events, rate_limit_per_s=RATE_PER_S)
        await create_webhook(database.url, free.url("/"), events)
        began = time.monotonic()
        await insert(database, "sensor.online", SENSORS)
        await free.wait_for(SENSORS)
        assert len(arrivals) < SENSORS
        await limited.wait_for(3)
        await insert(database, "event.detected", 1)
        await free.wait_for(SENSORS + 1)
        await limited.wait_until(lambda: any(kind == "event.detected" for _, kind in arrivals))
        assert [kind for _, kind in arrivals].index("event.detected") < SENSORS - 4
        await limited.wait_for(SENSORS // 2)
        daemon.kill()
        await daemon.ended()
        daemon = await house.start()
        connection = await database.connect()

        async def all_delivered() -> bool:
            count: int = await connection.fetchval(
                "select count(*) from delivery_event where webhook_id = $1 and state = 'delivered'", number
            )
            return count >= SENSORS + 1

        await eventually(all_delivered, "everything is delivered", 60)
        # Since before the first one n took (n - bursts) / rate seconds at least; a restart grants one burst.
        assert [] == [n for n, (at, _) in enumerate(arrivals, 1) if (n - 2) / RATE_PER_S > at - began]
        assert len(refused) + SENSORS + 1 <= len(arrivals)

        await limit(database, number, SLOW_PER_S)
        before = len(arrivals)
        await insert(database, "sensor.online", SENSORS)
        await free.wait_for(2 * SENSORS + 1)
        assert len(arrivals) < before + SENSORS
        await limit(database, number, None)
        await limited.wait_for(before + SENSORS)  # at that rate they would take minutes
        await connection.close()
        assert [] == house.complaints()
    verified = await commands.run("verify", url=database.url)
    assert 0 == verified.status, verified.out


async def test_what_does_not_matter_any_more_costs_no_wait(database: Database, tmp_path: Path) -> None:
    """What became too old while it waited for the rate is closed without a request, and without a token."""
    async with Receiver() as receiver, daemons(database.url, tmp_path) as house:
        await house.start()
        number = await create_webhook(
            database.url, receiver.url("/"), ["sensor.*"], rate_limit_per_s=1.0, max_age_s=3600
        )
        connection = await database.connect()
        sensor = {"station_code": "GRIL01", "offline_duration_seconds": 1}
        old = 200  # at one a second they would take three minutes
        await connection.executemany(
            "insert into outbox (type, data, occurred_at)"
            " values ('sensor.online', $1, now() - make_interval(days => $2))",
            [(json.dumps({**sensor, "sensor_id": f"sen_{number}"}), 1) for number in range(old)]
            + [(json.dumps({**sensor, "sensor_id": "sen_new"}), 0)] * 2,
        )
        await receiver.wait_for(2)
        expired: int = await connection.fetchval(
            "select count(*) from delivery_event where webhook_id = $1 and kind = 'expired'", number
        )
        await connection.close()
        assert old == expired
        assert [] == house.complaints()
