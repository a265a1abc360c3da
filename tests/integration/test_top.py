"""`dispatcher top`: pictures of the lanes and the slowest webhooks."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

from tests.acceptance.daemon import daemons
from tests.acceptance.subscriber import Subscriber, prompt, slow
from tests.commands import line, run, running
from tests.parts import detected, insert
from tests.postgres import Database


async def test_the_slowest_come_first(database: Database, tmp_path: Path) -> None:
    """Each picture by itself, for people and for programs; failures are counted."""
    connection = await database.connect()
    fast, late, failing = (Subscriber(["*"], manner) for manner in (prompt, slow(0.3), lambda _: (0.1, 500)))
    try:
        async with AsyncExitStack() as stack:
            for one in (fast, late, failing):
                await one.register(stack, database.url)
            async with daemons(database.url, tmp_path) as house:
                daemon = await house.start()
                await insert(connection, detected(serial=1))
                for one in (fast, late, failing):
                    await one.receiver.wait_for(1)
                daemon.terminate()
                assert 0 == await daemon.ended()
        ended = await run("top", "--json", "--count", "1", url=database.url)
        assert 0 == ended.status, ended.err
        (picture,) = [json.loads(text) for text in ended.lines]
        ids = dict(await connection.fetch("select public_id, id from webhook"))
        slowest = picture["slowest"]
        assert [one.webhook_id for one in (late, failing, fast)] == [ids[one["webhook"]] for one in slowest]
        assert [(1, 0, 0), (1, 1, 1), (1, 0, 0)] == [
            (one["attempts"], one["failures"], one["retried"]) for one in slowest
        ]
        assert slowest[0]["most_ms"] >= 300
        assert (None, ["alert", "event", "routine"]) == (
            picture["leader"],
            [lane["lane"] for lane in picture["lanes"]],
        )
        ended = await run("top", "--count", "2", "--every", "0.1", "--webhooks", "1", url=database.url)
        assert (0, 2) == (ended.status, ended.out.count("nobody leads"))
        assert 2 == ended.out.count(slowest[0]["webhook"])
        assert slowest[1]["webhook"] not in ended.out
    finally:
        await connection.close()


async def test_it_goes_on_until_it_is_told_to_end(database: Database) -> None:
    """Without attempts it says so."""
    async with running("top", "--every", "0.05", url=database.url) as process:
        seen = [await line(process) for _ in range(20)]
        assert seen.count("no attempts in the last five minutes") >= 2
        process.terminate()
        assert 143 == await process.wait()
