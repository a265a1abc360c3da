"""The first event after a start does not wait until PostgreSQL has planned what writes it."""

from __future__ import annotations

from dispatcher.core.pending import Lane
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.intake import Downstream
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.tailer import Tailer
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.connection import INDEXED, Link
from dispatcher.store.queries import QUERIES
from tests.acceptance.waiting import eventually
from tests.parts import parts, running
from tests.postgres import Database


async def planned(link: Link) -> bool:
    """Say whether the session has a plan of the fan-out."""
    async with link.use() as connection:
        return bool(
            await connection.fetchval(
                "select generic_plans from pg_prepared_statements where statement = $1", QUERIES["fan_out"]
            )
        )


async def test_a_tail_rehearses_in_each_session_and_writes_nothing(database: Database) -> None:
    """Once what was left open is under way; again after a session has ended."""
    async with parts(database) as one:
        progress, link = Progress(), one.store.link("tail", INDEXED)
        waiting = Waiting(one.shared, one.backlog(), one.ledger(), progress)
        doorbell = Doorbell(one.shared)
        downstream = Downstream(waiting, progress, lambda: None, lambda _: None)
        tailer = Tailer(one.shared, Lane.ALERT, link, doorbell, downstream)
        await tailer.begin()
        assert not await planned(link)
        one.shared.process.under_way.set()
        async with running(tailer.run()):
            await eventually(lambda: planned(link), "the fan-out is planned", 20)
            await link.close()
            assert not await planned(link)
            doorbell.look()
            await eventually(lambda: planned(link), "and once more", 20)
        for table in ("message", "delivery", "tail_position"):
            assert 0 == await one.connection.fetchval(f"select count(*) from {table}")
