"""Shaking cuts power and networks: a storm of sensors is unread when the alert comes; it overtakes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.acceptance.daemon import daemons
from tests.acceptance.harness import Harness
from tests.acceptance.producer import INSERT, real_events
from tests.acceptance.subscriber import prompt
from tests.postgres import Database, wait_for

if TYPE_CHECKING:
    from pathlib import Path

ROWS: Final = 30_000
FEW: Final = ROWS // 10
SENSORS: Final = """
    insert into outbox (type, data)
    select 'sensor.offline', json_build_object(
               'serial', 1000000 + n, 'sensor_id', 'sen_' || n, 'station_code', 'S' || n,
               'last_seen', '2018-01-14T09:18:45Z', 'network_id', 'net_storm')
      from generate_series(1, $1::integer) n
"""


async def test_an_alert_overtakes_a_storm(database: Database, tmp_path: Path) -> None:
    """Committed behind thousands of rows that nobody has read, and again while these are being sent."""
    behind, amidst = [
        event for event in real_events("comcat_updates.jsonl") if event.type == "event.detected"
    ][:2]
    async with (
        Harness(database.url, seed=71) as world,
        world.connection() as connection,
        daemons(database.url, tmp_path) as house,
    ):
        subscribers = [await world.subscribe(["*"], prompt) for _ in range(3)]
        await connection.execute(SENSORS, ROWS)
        await connection.execute(INSERT, behind.type, behind.data, behind.occurred_at, "behind")
        await house.start()
        await wait_for(lambda: all(behind.serial in one.delivered for one in subscribers), "the alert behind")
        await wait_for(lambda: all(len(one.seen) > FEW for one in subscribers), "the storm is being sent")
        before = [len(one.seen) for one in subscribers]
        await connection.execute(INSERT, amidst.type, amidst.data, amidst.occurred_at, "amidst")
        await wait_for(lambda: all(amidst.serial in one.delivered for one in subscribers), "the alert amidst")
        for subscriber, sent in zip(subscribers, before, strict=True):
            order = [seen.serial for seen in subscriber.seen]
            assert order.index(behind.serial) < FEW
            assert order.index(amidst.serial) < sent + FEW
            assert len(order) < ROWS, "the storm was not over"
