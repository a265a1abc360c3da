"""A recovery beside others: a month that retention drops meanwhile, a receiver that hangs."""

from __future__ import annotations

import datetime as dt

import pytest

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import Lane
from dispatcher.daemon.recoveries import Recoveries
from dispatcher.store import recoveries
from dispatcher.store.recoveries import Asked, Counts, Found, Place, Unscheduled, Window
from dispatcher.store.recovering import MOST_OPEN, RecoveryLedger
from tests.integration.test_retries import retries_of
from tests.parts import insert, new_webhook, parts, running
from tests.postgres import Database, wait_for

LONG_AGO = dt.date(2001, 1, 15)  # no partition
ENDED = "select phase || missing from recovery_progress order by step desc limit 1"
COPIES = """
    insert into webhook (public_id, organization_id, url, events, secret)
    select 'whk_copy' || n, organization_id, url, events, secret
      from webhook, generate_series(1, $2) n where id = $1 returning id
"""
ASKED = """
    insert into recovery (public_id, webhook_id, since, until, include, counted, counted_all, actor)
    select 'rcv_' || id, id, now() - interval '1 hour', now(), '{missing}', '{}', true, 'key_1'
      from unnest($1::bigint[]) id
"""


async def test_a_month_that_was_dropped_meanwhile_is_passed_over(database: Database) -> None:
    """What was found in it is not asked for, the daemon goes on, and the next look comes to the end."""
    async with parts(database) as one:
        webhook_id = await new_webhook(one.connection)
        since = dt.datetime.combine(LONG_AGO, dt.time(), dt.UTC)
        window = Window(webhook_id, since, since + dt.timedelta(days=2), ("missing",))
        asked = Asked(bytes(16), "key_1", Counts(missing=1), counted_all=True)
        assert isinstance(await recoveries.insert(one.connection, window, asked), recoveries.Recovery)
        ledger = RecoveryLedger(one.store.link("recoveries"), one.shared.run_id, one.shared.shard)
        (job,) = await ledger.open()
        found = Found((), [Unscheduled(LONG_AGO, OutboxId(1), 0)], Place("missing", LONG_AGO, OutboxId(1)), 1)
        await ledger.request(job, found)
        assert [job] == await ledger.open()
        walk, place = await ledger.walk(job), job.place
        while place.phase == "missing":
            place = (await walk.page(place, 10)).following
        await ledger.request(job, Found((), (), place, 0))
        assert [] == await ledger.open()


async def test_none_starves_behind_very_many_older_ones(database: Database) -> None:
    """As many as are looked at in one go cannot go on, for hours: the newest does all the same."""
    async with parts(database) as one:
        well = await new_webhook(one.connection)
        await one.fan_out([await insert(one.connection)], [])
        stuck = await one.connection.fetch(COPIES, well, MOST_OPEN)
        await one.connection.execute(ASKED, [row["id"] for row in stuck])
        await one.connection.execute(ASKED, [well])
        ledger = RecoveryLedger(one.store.link("recoveries"), one.shared.run_id, one.shared.shard)
        async with running(Recoveries(one.shared, ledger, lambda: None, lambda who: who != well).run()):
            found = await wait_for(lambda: one.connection.fetchval(ENDED), "it comes to its end", 10)
        assert "completed1" == found


@pytest.mark.parametrize("hanging", [30, 60])
async def test_receivers_that_hang_hold_up_no_recovery_of_others(database: Database, hanging: int) -> None:
    """What waits for them is more than half of what recoveries may fill, or all, and stays for hours."""
    async with parts(database, max_queued=100) as one:
        well = await new_webhook(one.connection)
        await one.fan_out([await insert(one.connection)], [])
        for number in range(hanging):
            key = DeliveryKey(LONG_AGO, OutboxId(number), WebhookId(1000 + number))
            assert Admission.ADMITTED is one.lanes.admit(Lane.ALERT, key, 1)
        now = dt.datetime.now(dt.UTC)
        window = Window(well, now - dt.timedelta(hours=1), now, ("missing",))
        asked = Asked(bytes(16), "key_1", Counts(missing=1), counted_all=True)
        await recoveries.insert(one.connection, window, asked)
        ledger = RecoveryLedger(one.store.link("recoveries"), one.shared.run_id, one.shared.shard)
        async with running(Recoveries(one.shared, ledger, lambda: None, retries_of(one).waits).run()):
            found = await wait_for(lambda: one.connection.fetchval(ENDED), "it comes further", 10)
        assert "completed1" == found
