"""What somebody asked for is made, however old the event is; what is merely due gives way to `max_age_s`."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from dispatcher.core.delivery import STEP, Kind, State, Trigger
from dispatcher.core.ids import DeliveryKey
from dispatcher.daemon.relevance import Closing, irrelevant
from dispatcher.store.ledger import FactRow
from dispatcher.store.redelivery import redeliver
from tests.integration.test_retries import retries_of, wait_taken
from tests.parts import failed, insert, new_webhook, parts, running
from tests.postgres import Database

OLD = b'{"type":"event.detected","timestamp":"2024-01-15T14:32:50Z","data":{"event_id":"evt_1"}}'
HOUR = dt.timedelta(hours=1)


def recovered(key: DeliveryKey, attempt_no: int, due_at: dt.datetime) -> list[FactRow]:
    """Give the facts of a recovery whose first attempt failed as well."""
    attempt = msgspec.structs.replace(failed(key, attempt_no, due_at), trigger=Trigger.RECOVER, failures=1)
    asked = msgspec.structs.replace(
        attempt, kind=Kind.REQUESTED, step=STEP[Kind.REQUESTED], status_code=None, error_class=None
    )
    return [asked, attempt]


@pytest.mark.parametrize(
    ("past", "is_sent"),
    [
        ("retry", False),
        ("redelivery", True),
        ("retry after a redelivery", False),
        ("recovery", True),
        ("its retry", True),
    ],
)
async def test_age_is_no_matter_where_somebody_asked(database: Database, past: str, *, is_sent: bool) -> None:
    """A retry that is due, that is made sooner by hand, and those of a recovery; of an event of years ago."""
    async with parts(database) as one:
        webhook_id = await new_webhook(one.connection, max_age_s=60)
        await one.shared.registry.refresh()
        (key,) = await one.fan_out([await insert(one.connection)], [webhook_id], body=OLD)
        now = dt.datetime.now(dt.UTC)
        match past:
            case "retry":
                await one.record(failed(key, 1, now))
            case "redelivery" | "retry after a redelivery":
                await one.record(failed(key, 1, now + HOUR))
                assert await redeliver(one.store, key, actor="key_1")
                if past != "redelivery":
                    await one.record(failed(key, 2, now))
            case "recovery":
                await one.record(
                    msgspec.structs.replace(failed(key, 1, now), state=State.FAILED, next_attempt_at=None)
                )
                await one.record(*recovered(key, 2, now))
            case _:
                await one.record(*recovered(key, 1, now - HOUR), failed(key, 2, now))
        retries = retries_of(one)
        async with running(retries.run()):
            (pending,) = await wait_taken(one, retries, 1)
        webhook = one.shared.registry.webhooks[webhook_id]
        found = irrelevant(pending, webhook, one.shared.order, now)
        assert is_sent == (found is None)
        assert is_sent or isinstance(found, Closing)
