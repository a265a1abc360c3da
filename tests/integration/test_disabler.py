"""Webhooks that answer nothing but failures: announced after a day, deactivated after five, or when gone."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from dispatcher.core.delivery import State
from dispatcher.core.ids import DeliveryKey, WebhookId
from dispatcher.daemon.disabler import DISABLE_AFTER, GONE, WARN_AFTER, Disabler
from dispatcher.store import webhooks
from dispatcher.store.ledger import FactRow
from dispatcher.store.streaks import Streak, Streaks
from tests.parts import VAULT, Parts, attempted, failed, insert, new_webhook, parts, running
from tests.past import Past
from tests.postgres import Database, wait_for

DAY = dt.timedelta(days=1)
BLOCKED = """
    select count(*) > 0 from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock' and query like '%disable_webhook%'
"""


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


def streaks_of(one: Parts) -> Streaks:
    """Make the statements."""
    return Streaks(one.store.link("disabler"), one.shared.run_id, one.shared.shard)


async def old_webhook(one: Parts) -> WebhookId:
    """Make a webhook, as if that had been ten days ago."""
    long_ago = dt.datetime.now(dt.UTC) - 10 * DAY
    return await new_webhook(one.connection, created_at=long_ago, updated_at=long_ago, judged_from=long_ago)


async def answered(one: Parts, webhook_id: WebhookId, status: int, days_ago: float) -> dt.datetime:
    """Let an attempt have been answered then, and give the time."""
    past = Past(one.connection, webhook_id)
    at = dt.datetime.now(dt.UTC) - days_ago * DAY
    await past.attempt(await past.delivery(), 1, status, recorded_at=at)
    return at


async def failing(one: Parts) -> list[Streak]:
    """Give those that have been failing for a day."""
    return await streaks_of(one).longer_than(WARN_AFTER)


async def edit(one: Parts, webhook_id: WebhookId, **changes: object) -> None:
    """Change a webhook as its subscriber does."""
    row = await one.connection.fetchrow(
        "select public_id, organization_id from webhook where id = $1", webhook_id
    )
    changed = await webhooks.change(
        one.store, VAULT, row["organization_id"], row["public_id"], changes, secret=None, actor="key_1"
    )
    assert isinstance(changed, webhooks.Webhook)


async def told(one: Parts) -> list[str]:
    """Give the operational events so far."""
    rows = await one.connection.fetch("select type from outbox where type like 'webhook.%' order by id")
    return [row["type"] for row in rows]


async def test_an_edit_does_not_excuse_what_failed_before(one: Parts) -> None:
    """A subscriber whose client sends its description every day is not kept active by that.

    An edit may have mended it, though: it is judged when it has failed once more.
    """
    webhook_id = await old_webhook(one)
    since = await answered(one, webhook_id, 500, 6)
    await answered(one, webhook_id, 500, 0.1)
    assert [since] == [streak.since for streak in await failing(one)]
    await edit(one, webhook_id, description="the same server", headers={"X-Token": "another"})
    assert [] == await failing(one)
    await answered(one, webhook_id, 500, 0)
    assert [since] == [streak.since for streak in await failing(one)]


async def test_another_url_and_an_activation_begin_anew(one: Parts) -> None:
    """What another receiver answered, or this one before somebody looked after it, is over."""
    for changes in ([{"url": "https://other.example/"}], [{"active": False}, {"active": True}]):
        webhook_id = await old_webhook(one)
        await answered(one, webhook_id, 500, 6)
        for change in changes:
            await edit(one, webhook_id, **change)
        await answered(one, webhook_id, 500, 0)
        assert [] == await failing(one)


async def test_a_deadlock_with_an_operator_ends_nothing(one: Parts) -> None:
    """Who changes several webhooks in one transaction may be in the way of one that is deactivated."""
    failing_one, other = await old_webhook(one), await old_webhook(one)
    await answered(one, failing_one, 500, 6)
    await answered(one, failing_one, 500, 0)
    change, operator = "update webhook set description = 'seen' where id = $1", one.connection
    transaction = operator.transaction()
    await transaction.start()
    await operator.execute("set local deadlock_timeout = '1min'")  # the other side is to notice it
    await operator.execute(change, other)
    async with running(Disabler(one.shared, streaks_of(one)).run()), one.store.acquire() as looking:
        await wait_for(lambda: looking.fetchval(BLOCKED), "the deactivation waits")
        await operator.execute(change, failing_one)
        await transaction.commit()
        inactive = "select id from webhook where not active"
        assert failing_one == await wait_for(lambda: looking.fetchval(inactive), "it is deactivated")


async def test_a_success_ends_a_streak(one: Parts) -> None:
    """The next failure begins another one; a failed test begins none."""
    webhook_id = await old_webhook(one)
    await answered(one, webhook_id, 500, 6)
    await answered(one, webhook_id, 200, 4)
    assert [] == await failing(one)
    since = await answered(one, webhook_id, 500, 3)
    assert [since] == [streak.since for streak in await failing(one)]


async def test_a_day_is_announced_once_and_five_deactivate(one: Parts) -> None:
    """The others of the organization hear of both; whoever has failed for less stays active."""
    for days in (0.5, 2, 6):
        webhook_id = await old_webhook(one)
        await answered(one, webhook_id, 500, days)
        await answered(one, webhook_id, 500, 0)
    streaks = streaks_of(one)
    for streak in await failing(one):
        await streaks.announce(streak)
    assert ["webhook.failing"] * 2 == await told(one)
    async with running(Disabler(one.shared, streaks).run()):
        inactive = "select array_agg(disabled_reason) from webhook where not active"
        await wait_for(lambda: one.connection.fetchval(inactive), "one is deactivated")
    (reason,) = await one.connection.fetchval(inactive)
    assert reason.endswith(f"nothing but failures for {DISABLE_AFTER.days} days")
    assert ["webhook.failing", "webhook.failing", "webhook.disabled"] == await told(one)


@pytest.mark.parametrize(("first", "active"), [(410, False), (500, True)])
async def test_a_receiver_that_is_gone(one: Parts, first: int, *, active: bool) -> None:
    """410 on every attempt of a delivery deactivates its webhook; one other failure does not."""
    webhook_id, other = [await new_webhook(one.connection) for _ in range(2)]
    event = await insert(one.connection)
    keys = await one.fan_out([event], [webhook_id, other])
    disabler = Disabler(one.shared, streaks_of(one))

    async def fails(key: DeliveryKey, status: int) -> None:
        now = dt.datetime.now(dt.UTC)
        last: FactRow = attempted(key, 2, state=State.FAILED, failures=2, status_code=410)
        await one.record(msgspec.structs.replace(failed(key, 1, now), status_code=status), last)
        disabler.recorded(last)

    await fails(keys[0], first)
    await fails(keys[1], 410)  # judged after it
    found = "select active, disabled_reason from webhook where id = $1"

    async def judged() -> Any:
        return (False, GONE) == tuple(await one.connection.fetchrow(found, other))

    async with running(disabler.run()):
        await wait_for(judged, "both were judged")
    assert (active, None if active else GONE) == tuple(await one.connection.fetchrow(found, webhook_id))
