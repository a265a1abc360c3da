"""After a crash nothing that a dead run may have sent is sent again before that is written down."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from dispatcher.core.ids import OutboxId
from dispatcher.core.pending import Lane
from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import create_webhook
from tests.acceptance.waiting import eventually
from tests.parts import attempted, failed, insert, parts
from tests.receiver import Receiver

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Database

WITHIN_S = 60.0
STOPPED = "update webhook set active = false, disabled_reason = 'gone' where id = $1"
BLOCKED = """
    select count(*) > 0 from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock' and query like '%interrupt_deliveries%'
"""
READ = """
    insert into tail_position (lane, batch, run_id, done, target, xid, outbox_id, system_id)
    select 0, 2, $1, here, here, pg_snapshot_xmax(here), -1, system_identifier
      from pg_control_system(), pg_current_snapshot() as here
"""


async def test_nothing_is_sent_by_a_number_that_a_dead_run_may_have_used(
    database: Database, tmp_path: Path
) -> None:
    """A webhook waits from before what the run had taken: that is interrupted first, then attempted again."""
    async with Receiver() as receiver, parts(database) as dead:
        webhook_id = await create_webhook(database.url, receiver.url("/hook"), ["*"])
        taken = await insert(dead.connection)
        (key,) = await dead.fan_out([taken], [webhook_id], claimed=True)
        await dead.connection.execute(READ, dead.shared.run_id)
        await dead.ledger().checkpoint(Lane.ALERT, 0, [(webhook_id, OutboxId(key.outbox_id - 1))])
        await dead.shared.lease.release()
        held = await database.connect()
        await held.execute("begin")
        fact = attempted(key)  # it holds the place of the fact that the rescue is about to write
        await held.execute(
            "insert into delivery_event (day, outbox_id, webhook_id, attempt_no, step, kind, state, failures)"
            " values ($1, $2, $3, $4, $5, $6, $7, 0)",
            *(*key, fact.attempt_no, fact.step, fact.kind, fact.state),
        )
        async with daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="1") as house:
            await house.start(wait=False)

            async def blocked() -> bool:
                return bool(await dead.connection.fetchval(BLOCKED))

            await eventually(blocked, "the rescue waits", WITHIN_S)
            _, later = await insert(dead.connection)
            await receiver.wait_for(1, WITHIN_S)
            assert [str(later)] == [one.header("x-grillo-sequence") for one in receiver.requests]
            await held.execute("rollback")
            await held.close()
            await receiver.wait_for(2, WITHIN_S)

            async def recorded() -> bool:
                return len(await dead.facts(key)) == 2

            await eventually(recorded, "the attempt is recorded", WITHIN_S)
            assert [(1, "interrupted", "pending"), (2, "attempted", "delivered")] == await dead.facts(key)
        assert [str(later), str(key.outbox_id)] == [
            one.header("x-grillo-sequence") for one in receiver.requests
        ]


async def test_what_was_deactivated_while_no_daemon_ran_is_closed(database: Database, tmp_path: Path) -> None:
    """Its retries are cancelled at once, not when they are due; those of others wait for their time."""
    async with parts(database) as ended:
        webhook_ids = [await create_webhook(database.url, "http://127.0.0.1:9/", ["*"]) for _ in range(2)]
        stopped, goes_on = await ended.fan_out([await insert(ended.connection)], webhook_ids)
        later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        await ended.record(failed(stopped, 1, later), failed(goes_on, 1, later))
        await ended.shared.lease.release()
        await ended.connection.execute(STOPPED, stopped.webhook_id)
        async with daemons(database.url, tmp_path) as house:
            daemon = await house.start(wait=False)
            await daemon.says("webhook stopped", reason="gone", cancelled=1)
        assert [(1, "attempted", "pending"), (2, "cancelled", "cancelled")] == await ended.facts(stopped)
        assert [(1, "attempted", "pending")] == await ended.facts(goes_on)
