"""What the outbox says to a row, and a right row of each built-in type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from tests.parts import DETECTED

ACCEPTED: Final = ""

BUILT_IN: Final[Mapping[str, Mapping[str, Any]]] = {
    "event.detected": DETECTED,
    "event.updated": {"event_id": "evt_abc123", "changes": {"magnitude": {"old": 4.2, "new": 4.4}}},
    "sensor.offline": {
        "sensor_id": "sen_abc123",
        "station_code": "GRIL01",
        "last_seen": "2024-01-15T14:30:00Z",
        "network_id": "net_xyz789",
    },
    "sensor.online": {
        "sensor_id": "sen_abc123",
        "station_code": "GRIL01",
        "offline_duration_seconds": 3600,
        "network_id": "net_xyz789",
    },
    "webhook.test": {"webhook_id": "whk_1", "message": "This is a test."},
    "webhook.failing": {
        "webhook_id": "whk_1",
        "url": "https://a.example",
        "failing_since": "2024-01-15T14:30:00Z",
    },
    "webhook.disabled": {"webhook_id": "whk_1", "url": "https://a.example", "reason": "gone"},
}


async def problem(
    connection: asyncpg.Connection, data: str, type_: str = "event.detected", table: str = "outbox"
) -> str:
    """Insert an event; give the refusal's words, or nothing."""
    try:
        async with connection.transaction():
            await connection.execute(f"insert into {table} (type, data) values ($1, $2)", type_, data)
    except asyncpg.CheckViolationError as error:
        return str(error.message if error.table_name == "outbox" else error)
    return ACCEPTED


async def misjudged(
    connection: asyncpg.Connection, cases: Mapping[str, tuple[str, str]], type_: str = "event.detected"
) -> dict[str, str]:
    """Insert the data of each case; give those where the answer does not hold the expected words."""
    answers = {name: await problem(connection, data, type_) for name, (data, _) in cases.items()}
    return {
        name: answers[name]
        for name, (_, words) in cases.items()
        if (words not in answers[name] if words else answers[name])
    }
