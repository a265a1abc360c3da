"""What the dashboard's charts are drawn from."""

from __future__ import annotations

import datetime as dt

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.ids import WebhookId
from dispatcher.store import attempts
from dispatcher.store.connection import Database as Store
from tests.parts import new_webhook
from tests.past import Past
from tests.postgres import Database


async def test_lag_is_counted_from_the_insert_to_the_first_request(database: Database) -> None:
    """Retries and what was recovered say nothing about how fast we are."""
    connection = await database.connect()
    store = Store(database.url, DatabaseConfig())
    try:
        webhook_id = WebhookId(await new_webhook(connection))
        past = Past(connection, webhook_id)
        for lag_ms in (10, 20, 90):
            key = await past.delivery()
            recorded_at: dt.datetime = await connection.fetchval(
                "select recorded_at from message where outbox_id = $1", key.outbox_id
            )
            sent_at = recorded_at + dt.timedelta(milliseconds=lag_ms)
            await past.attempt(key, 1, 500, state="pending", started_at=sent_at)
            await past.attempt(key, 2, 200, started_at=sent_at + dt.timedelta(minutes=1))
        recovered = await past.delivery()  # of a time before the webhook
        late = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        await past.attempt(recovered, 1, 200, trigger="recover", started_at=late)
        since = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
        found = await attempts.statistics(store, webhook_id, since=since, parts=4)
        assert (20.0, 83.0) == (found.lag_p50_ms, found.lag_p95_ms)
        assert [None, None, None, 20.0] == [part.lag_p50_ms for part in found.parts]
        assert (4, 3) == (found.parts[-1].succeeded, found.parts[-1].refused)
    finally:
        await store.close()
        await connection.close()
