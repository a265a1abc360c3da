"""Writes a past into a test's database, as the daemon would have recorded it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import asyncpg

from dispatcher.core.ids import DeliveryIds, DeliveryKey, OutboxId, WebhookId

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SENSOR = '{"sensor_id":"sen_abc123","station_code":"GRIL01","last_seen":"2024-01-15T14:30:00Z"}'


@dataclass(frozen=True)
class Past:
    """A webhook's history, and the connection that writes it."""

    connection: asyncpg.Connection
    webhook_id: WebhookId

    @classmethod
    async def of(cls, connection: asyncpg.Connection, public_id: str) -> Past:
        """Give the past of a webhook."""
        found = await connection.fetchval("select id from webhook where public_id = $1", public_id)
        return cls(connection, found)

    async def delivery(
        self, kind: str = "sensor.offline", data: str = SENSOR, ahead: dt.timedelta = dt.timedelta()
    ) -> DeliveryKey:
        """Let an event have been scheduled for the webhook, by a clock that is so much ahead."""
        row = await self.connection.fetchrow(
            "insert into outbox (type, data, day, recorded_at)"
            " select $1, $2::json, (moment at time zone 'UTC')::date, moment"
            " from (select clock_timestamp() + $3::interval as moment) c returning day, id",
            kind,
            data,
            ahead,
        )
        body = f'{{"type":"{kind}","timestamp":"2026-01-01T00:00:00Z","data":{data}}}'
        await self.connection.execute(
            "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
            " select day, id, lane, 1, type, occurred_at, recorded_at, 1, $3 from outbox"
            " where day = $1 and id = $2",
            row["day"],
            row["id"],
            body.encode(),
        )
        await self.connection.execute(
            "insert into delivery (day, outbox_id, webhook_id, lane) values ($1, $2, $3, 2)",
            row["day"],
            row["id"],
            self.webhook_id,
        )
        return DeliveryKey(row["day"], OutboxId(row["id"]), self.webhook_id)

    async def many(self, count: int) -> None:
        """Let many events have been scheduled, none of them attempted yet."""
        await self.connection.execute(
            "with events as (insert into outbox (type, data) select 'sensor.offline', $1::json"
            " from generate_series(1, $2) returning day, id),"
            " messages as (insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at,"
            " fan_out, body) select day, id, 2, 1, 'sensor.offline', now(), now(), 1, '{}' from events)"
            " insert into delivery (day, outbox_id, webhook_id, lane) select day, id, $3, 2 from events",
            SENSOR,
            count,
            self.webhook_id,
        )

    async def attempt(self, key: DeliveryKey, number: int, status: int | None, **more: Any) -> None:
        """Let an attempt have been made: any 2xx delivers, all else fails or is retried (`state`)."""
        success = status is not None and 200 <= status < 300
        fact = {
            "kind": "attempted",
            "state": "delivered" if success else "failed",
            "trigger": "first" if number == 1 else "retry",
            "started_at": NOW + dt.timedelta(minutes=number),
            "duration_ms": 12.5,
            "status_code": status,
            "error_class": None if success else "refused" if status is None else "server_error",
            "error_message": None if success else "in words",
            **more,
        }
        await self.fact(key, number, 2, **fact)

    async def fact(self, key: DeliveryKey, number: int, step: int, **fields: Any) -> None:
        """Let anything have happened to a delivery."""
        for name in ("request_headers", "response_headers", "timings"):
            if name in fields:
                fields[name] = json.dumps(fields[name])
        names = ["day", "outbox_id", "webhook_id", "attempt_no", "step", *fields]
        places = ", ".join(f"${place}" for place in range(1, len(names) + 1))
        await self.connection.execute(
            f"insert into delivery_event ({', '.join(names)}) values ({places})",
            *key,
            number,
            step,
            *fields.values(),
        )


async def delivery_id(connection: asyncpg.Connection, key: DeliveryKey) -> str:
    """Give a delivery's public id."""
    return DeliveryIds(await connection.fetchval("select id_key from installation")).encode(key)
