"""A rebase holds every shard to its end, or does nothing."""

from __future__ import annotations

import pytest

from dispatcher.core.errors import LeaseLost
from dispatcher.core.sharing import Shard
from dispatcher.store.lease import Lease
from dispatcher.store.rebase import Rebase
from tests.parts import insert, new_webhook, parts
from tests.postgres import Database, execute


async def test_a_shard_that_was_taken_meanwhile_stops_a_rebase(database: Database) -> None:
    """A daemon that holds it may be sending what the rebase would say was sent before."""
    await execute(database.url, "update installation set shards = 2")
    async with parts(database, shard=Shard(0, 2)) as one:
        await new_webhook(one.connection)
        await insert(one.connection)
        follows = await Lease(one.store.link("lease"), Shard(1, 2)).take()
        assert follows is not None
        runs = [follows, one.shared.run_id]
        work = Rebase(one.store.link("rebase"), runs, one.shared.registry, rehearse=False)
        await one.connection.execute("update lease set expires_at = now() - interval '1 second'")
        assert await Lease(one.store.link("lease"), Shard(1, 2)).take() is not None
        with pytest.raises(LeaseLost):
            await work.restored()
        with pytest.raises(LeaseLost):
            await work.same_xids()
        assert 0 == await one.connection.fetchval("select count(*) from rebase")
