"""A recovery beside retention: a month that goes between the look at it and the request is passed over."""

from __future__ import annotations

import datetime as dt

from dispatcher.core.ids import OutboxId
from dispatcher.store import recoveries
from dispatcher.store.recoveries import Asked, Counts, Found, Place, Unscheduled, Window
from dispatcher.store.recovering import RecoveryLedger
from tests.parts import new_webhook, parts
from tests.postgres import Database

LONG_AGO = dt.date(2001, 1, 15)  # no partition


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
