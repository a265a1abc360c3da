"""`dispatcher status`: who leads, how far each lane is, what is pending, and whether something is wrong."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from tests.acceptance.daemon import ENCRYPTION_KEY, daemons
from tests.acceptance.subscriber import Subscriber
from tests.commands import Ended, run
from tests.parts import detected, insert
from tests.postgres import Database, wait_for
from tests.receiver import free_port

LET_FACTS_BE_CHANGED: Final = """
    do $$ declare part regclass; begin
        for part in select t.relid from unnest(array['delivery_event', 'tail_checkpoint']) name,
                                        pg_partition_tree(name::regclass) t loop
            execute format('alter table %s disable trigger append_only', part);
        end loop;
    end $$
"""
NOBODY: Final = "nobody leads: nothing is sent; start `dispatcher serve`"


async def seen(url: str, status: int, *arguments: str) -> dict[str, Any]:
    """Give what it says as JSON; fails where the exit status is another one."""
    ended = await run("status", "--json", *arguments, url=url)
    assert status == ended.status, ended.out + ended.err
    told: dict[str, Any] = json.loads(ended.out)
    return told


def lane(told: dict[str, Any], name: str) -> dict[str, Any]:
    """Give one lane."""
    found: dict[str, Any] = next(one for one in told["lanes"] if one["lane"] == name)
    return found


async def test_a_daemon_that_works_is_well_and_a_dead_one_is_not(database: Database, tmp_path: Path) -> None:
    """The leader is named by host and process; one that was killed is known to be dead at once."""
    async with daemons(database.url, tmp_path) as house:
        daemon = await house.start()
        told = await seen(database.url, 0)
        leader = told["leader"]
        assert (socket.gethostname(), daemon.pid) == (leader["host"], leader["process"])
        assert 0 < leader["lease_left_s"] <= 8
        assert ["alert", "event", "routine"] == [one["lane"] for one in told["lanes"]]
        assert [] == told["problems"]
        ended = await run("status", url=database.url)
        assert (0, "all is well") == (ended.status, ended.lines[-1])
        assert f"process {daemon.pid} on {socket.gethostname()}" in ended.lines[1]

        daemon.kill()
        await daemon.ended()
        told = await seen(database.url, 1)
        assert [f"nobody leads: process {daemon.pid} on {socket.gethostname()} is dead"] == told["problems"]
        again = await house.start()
        await again.says("leading")
        again.terminate()
        assert 0 == await again.ended()
        ended = await run("status", url=database.url)
        assert (1, f"WRONG: {NOBODY}") == (ended.status, ended.lines[-1])


async def test_what_is_pending_is_counted(database: Database, tmp_path: Path) -> None:
    """Rows not read, deliveries not attempted, attempts that are due and those that come later."""
    connection = await database.connect()
    refusing = Subscriber(["*"], lambda _: (0, 500))
    try:
        async with AsyncExitStack() as stack:
            await refusing.register(stack, database.url)
            async with daemons(database.url, tmp_path, DELIVERY__RETRY_DELAYS_S="600") as house:
                daemon = await house.start()
                for serial in range(3):
                    await insert(connection, detected(serial=serial))
                later = "select count(*) = 3 from delivery_event where next_attempt_at is not null"
                await wait_for(lambda: connection.fetchval(later), "three retries are scheduled")
                told = await seen(database.url, 0)
                scheduled = told["scheduled"]
                assert (0, 3) == (scheduled["due"], scheduled["later"])
                assert scheduled["oldest_event_s"] >= 0
                daemon.terminate()
                assert 0 == await daemon.ended()
            for serial in range(2):
                await insert(connection, detected(serial=serial))
            told = await seen(database.url, 1)
            assert [NOBODY] == told["problems"]
            alerts = lane(told, "alert")
            assert (2, 0, 0) == (alerts["unread"], alerts["unattempted"], lane(told, "event")["unread"])
            assert alerts["batch"] >= 1
            # As if the tail had stood still for two minutes.
            await insert(
                connection,
                detected(serial=9),
                recorded_at=await connection.fetchval("select now() - interval '2 minutes'"),
            )
            told = await seen(database.url, 1)
            assert "lane alert: a row has not been read for 2 min" in told["problems"]
            # As if one delivery had not been attempted yet, and the others' retries were due.
            await connection.execute(LET_FACTS_BE_CHANGED)
            await connection.execute(
                "delete from delivery_event where outbox_id = (select min(outbox_id) from delivery_event)"
            )
            await connection.execute("delete from tail_checkpoint where lane = 0")
            await connection.execute("update delivery_event set next_attempt_at = now()")
            told = await seen(database.url, 1)
            assert (2, 0) == (told["scheduled"]["due"], told["scheduled"]["later"])
            assert 1 == lane(told, "alert")["unattempted"]
    finally:
        await connection.close()


def config(path: Path, key: bytes) -> str:
    """Write a configuration that names an encryption key."""
    path.write_text(f'[secrets]\nencryption_key = "{base64.b64encode(key).decode()}"\n')
    return str(path)


async def test_another_encryption_key_is_told(database: Database, tmp_path: Path) -> None:
    """Before it is needed; without a key here there is nothing to compare, and none is made."""
    right = ("--config", config(tmp_path / "right.toml", ENCRYPTION_KEY))
    wrong = ("--config", config(tmp_path / "wrong.toml", bytes(32)))
    assert "not used yet" == (await seen(database.url, 1, *right))["encryption_key"]
    async with daemons(database.url, tmp_path) as house:
        await house.start()
        assert "matches" == (await seen(database.url, 0, *right))["encryption_key"]
        told = await seen(database.url, 1, *wrong)
        assert "differs" == told["encryption_key"]
        assert ["the encryption key is not the one that the database's secrets were sealed with"] == told[
            "problems"
        ]
        none = tmp_path / "none.toml"
        none.write_text(f'data_dir = "{tmp_path / "nothing"}"\n')
        assert "none here" == (await seen(database.url, 0, "--config", str(none)))["encryption_key"]
        assert not (tmp_path / "nothing").exists()


async def test_months_that_end_are_told(database: Database) -> None:
    """Producers would be refused from then on."""
    connection = await database.connect()
    try:
        this_month = await connection.fetchval('select to_char(current_date, \'"y"YYYY"m"MM\')')
        for (part,) in await connection.fetch(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'outbox'::regclass"
            " and right(inhrelid::regclass::text, 8) > $1",
            this_month,
        ):
            await connection.execute(f"drop table {part}")
    finally:
        await connection.close()
    told = await seen(database.url, 1)
    year, month = this_month[1:5], this_month[6:]
    assert f"{year}-{month}" == told["last_month"]
    ends = f"partitions end with {year}-{month}, then INSERTs are refused: run `dispatcher migrate`"
    assert [NOBODY, ends] == told["problems"]
    assert 0 == (await run("migrate", url=database.url)).status
    assert [NOBODY] == (await seen(database.url, 1))["problems"]


async def test_a_database_that_is_away_is_3() -> None:
    """A monitor can tell it from something that is wrong."""
    ended: Ended = await run("status", url=f"postgresql://x@127.0.0.1:{free_port()}/x")
    assert (3, "") == (ended.status, ended.out)
    assert "PostgreSQL is away" in ended.err


async def test_who_holds_which_shard(database: Database, tmp_path: Path) -> None:
    """Each shard has its holder; one that nobody holds is wrong, though somebody leads."""
    ended = await run("shards", "3", "--json", url=database.url)
    told = json.loads(ended.out)
    assert (0, 3, 1, [None] * 3) == (ended.status, told["count"], told["before"], told["shards"])
    async with daemons(database.url, tmp_path) as house:
        daemon = await house.start()
        await daemon.says("leading", count=3)
        told = await seen(database.url, 0)
        assert [(number, daemon.pid) for number in range(3)] == [
            (one["shard"], one["process"]) for one in told["shards"]
        ]
        assert told["leader"] == told["shards"][0]
        ended = await run("status", url=database.url)
        who = f"process {daemon.pid} on {socket.gethostname()}"
        assert f"3 of 3 shards: 0, 1, 2: {who}" == ended.lines[2]
        ended = await run("shards", url=database.url)
        assert [3, 0] == [ended.out.count(who), ended.out.count("nobody")]

        refused = await run("shards", "1", url=database.url)
        assert (2, True) == (refused.status, "a dispatcher runs on this database" in refused.err)
        daemon.terminate()
        assert 0 == await daemon.ended()
        told = await seen(database.url, 1)
        nothing = "its webhooks are sent nothing; start `dispatcher serve`"
        assert [NOBODY, *(f"nobody holds shard {one}: {nothing}" for one in (1, 2))] == told["problems"]
