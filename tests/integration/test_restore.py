"""A database that was restored or moved: `dispatcher rebase`, and what is sent afterwards."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from dispatcher.store.embedded.home import find_home
from tests.acceptance.producer import INSERT, real_events
from tests.acceptance.subscriber import create_webhook
from tests.embedded import running, server_in
from tests.postgres import UNSAFE_SETTINGS, Database, cloned, wait_for
from tests.restoring import DONE, REFUSED, Moods, Site, as_documented, numbers, program, serials

if TYPE_CHECKING:
    pass

EVENTS: Final = real_events("comcat_updates.jsonl")
FIRST, UNREAD, LATE, NEW = EVENTS[:20], EVENTS[20:23], EVENTS[23:25], EVENTS[25:30]
FAR_AHEAD: Final = "'9000000000:9000000000:'"
LET_POSITIONS_BE_CHANGED: Final = """
    do $$ declare part regclass; begin
        for part in select relid from pg_partition_tree('tail_position') loop
            execute format('alter table %s disable trigger append_only', part);
        end loop;
    end $$
"""
XIDS_TO_GO: Final = (
    "select max(xid::text::bigint) - pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1 from outbox"
    " where id < 1000000000"
)


async def dumped_and_gone_on(stack: AsyncExitStack, old: Site, moods: Moods, directory: Path) -> None:
    """Let 20 events be delivered to one and refused by the other, 3 be unread; dump, and let it go on."""
    await old.burn(5000)
    await moods.register(stack, old.url)
    async with old.serving() as daemon:
        await old.insert(FIRST)
        await moods.first_attempts(FIRST)
        retries = "select count(*) = 20 from delivery_event where next_attempt_at is not null"
        await wait_for(lambda: old.value(retries), "the refusals are recorded")
        daemon.kill()
        await daemon.ended()
    await old.insert(UNREAD)
    await as_documented("Dump", directory, DATABASE_URL=old.url)
    async with old.serving():
        await old.insert(LATE)
        await moods.first_attempts([*UNREAD, *LATE])


async def refused_until_rebased(restored: Site) -> None:
    """Nothing goes on before the rebase, which first only says what it would do."""
    for command in ("status", "verify"):
        ended = await restored.dispatcher(command)
        assert REFUSED in ended.out + ended.err
        assert 0 != ended.status
    rehearsed = await restored.dispatcher("rebase")
    assert (1, "nothing was changed; with --yes, this is done") == (rehearsed.status, rehearsed.lines[-1])
    told = json.loads((await restored.dispatcher("rebase", "--json")).out)
    assert (False, 3, 6, 26) == tuple(
        told[name] for name in ("done", "scheduled_events", "scheduled_deliveries", "interrupted")
    )
    assert REFUSED in await restored.refusal()
    done = await restored.dispatcher("rebase", "--yes")
    assert (0, DONE) == (done.status, done.lines[-1]), done.err
    assert rehearsed.lines[:-1] == done.lines[:-1]
    assert "3 events that had not been read are scheduled: 6 deliveries" == done.lines[0]
    assert done.lines[1].startswith("26 deliveries were pending in the backup and may have been sent")
    assert 26 == await restored.interrupted()
    assert await restored.clean()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["another", "the same"])
async def test_a_dump_goes_on_elsewhere_and_says_what_may_be_sent_twice(
    database: Database, data_dir: Path, tmp_path: Path, server: str
) -> None:
    """Delivered is delivered; what was pending is marked first; ids and transaction ids do not collide."""
    old, moods = Site(database.url, tmp_path / "old"), Moods()
    async with AsyncExitStack() as stack:
        await dumped_and_gone_on(stack, old, moods, tmp_path)
        before, _ = moods.forget()
        if server == "another":
            url = await stack.enter_async_context(running(data_dir, settings=UNSAFE_SETTINGS))
            await as_documented("Restore a dump", tmp_path, NEW_DATABASE_URL=url)
        else:
            url = (await stack.enter_async_context(cloned(database.url, "template1"))).url
            await as_documented("Restore a dump", tmp_path, without="create role", NEW_DATABASE_URL=url)
        restored = Site(url, tmp_path / "restored")
        await refused_until_rebased(restored)

        moods.mended = True
        async with restored.serving():
            await restored.settled()
            again, mended = moods.forget()
            assert numbers(UNREAD) == serials(again), "what had been delivered was sent again"
            assert numbers([*FIRST, *UNREAD]) == serials(mended)
            assert {2} == {seen.attempt for seen in again}, "the first attempt is the interrupted one"
            names = {seen.serial: seen.delivery for seen in before}
            assert [names[seen.serial] for seen in again] == [seen.delivery for seen in again]
            # The old server's transaction ids come round: rows that were dealt with stay dealt with.
            await restored.burn(await restored.value(XIDS_TO_GO))
            assert 0 > await restored.value(XIDS_TO_GO)
            await restored.insert(NEW)
            await restored.settled()
            well, _ = moods.forget()
            assert numbers(NEW) == serials(well)
            assert set() == {seen.delivery for seen in before} & {seen.delivery for seen in well}
        assert await restored.clean()


@pytest.mark.slow
async def test_a_point_in_time_says_what_may_be_sent_twice(data_dir: Path, tmp_path: Path) -> None:
    """A server's files put back: nothing tells, so the operator does; lost ids are not reused."""
    saved = data_dir.with_name("saved")
    first, lost, new, moods = EVENTS[:5], EVENTS[5:8], EVENTS[8:10], Moods()
    async with AsyncExitStack() as stack:
        server = server_in(data_dir, settings=UNSAFE_SETTINGS)
        site = Site(await server.start(), tmp_path / "site")
        try:
            assert 0 == (await site.dispatcher("migrate")).status
            await moods.register(stack, site.url)
            async with site.serving():
                await site.insert(first)
                await moods.first_attempts(first)
            await server.stop()
            cluster = find_home(data_dir).cluster
            await program("cp", "-a", cluster, saved)
            server = server_in(data_dir, settings=UNSAFE_SETTINGS)
            assert site.url == await server.start()
            async with site.serving():
                await site.insert(lost)
                await moods.first_attempts(lost)
            await server.stop()
            await program("rm", "-r", cluster)
            await program("mv", saved, cluster)
            server = server_in(data_dir, settings=UNSAFE_SETTINGS)
            assert site.url == await server.start()

            done = await site.dispatcher("rebase", "--yes")
            assert (0, DONE) == (done.status, done.lines[-1]), done.err
            assert 5 == await site.interrupted()
            before = {seen.delivery for seen in moods.forget()[0]}
            moods.mended = True
            async with site.serving():
                await site.insert(new)
                await site.settled()
            well, mended = moods.forget()
            assert (numbers(new), numbers([*first, *new])) == (serials(well), serials(mended))
            assert set() == before & {seen.delivery for seen in well}, "receivers would take it for known"
            assert await site.clean()
        finally:
            await server.stop()


async def test_a_move_that_keeps_transaction_ids_loses_and_repeats_nothing(
    database: Database, tmp_path: Path
) -> None:
    """After pg_upgrade only the server's identifier differs: --same-xids goes on where the tail was."""
    site = Site(database.url, tmp_path / "site")
    first, unread, moods = EVENTS[:5], EVENTS[5:8], Moods()
    async with AsyncExitStack() as stack:
        await moods.register(stack, site.url)
        moods.mended = True
        async with site.serving():
            await site.insert(first)
            await site.settled()
        await site.insert(unread)
        moods.forget()
        await site.execute(LET_POSITIONS_BE_CHANGED)
        await site.execute("update tail_position set system_id = system_id + 1")
        assert REFUSED in await site.refusal()
        rehearsed = await site.dispatcher("rebase", "--same-xids", "--json")
        told = {"done": False, "lanes": 2, "database": False}
        assert (1, told) == (rehearsed.status, json.loads(rehearsed.out))
        assert REFUSED in await site.refusal()
        done = await site.dispatcher("rebase", "--same-xids", "--yes")
        assert (0, DONE) == (done.status, done.lines[-1]), done.err
        assert "as they are: nothing is sent again" in done.lines[0]
        again = await site.dispatcher("rebase", "--same-xids", "--yes")
        assert "there is nothing to take over" in again.lines[0]
        async with site.serving():
            await site.settled()
        assert (numbers(unread), numbers(unread)) == tuple(map(serials, moods.forget()))
        assert 0 == await site.interrupted()
        # Positions ahead of this server's transaction ids cannot be of the same ones.
        await site.execute(
            f"update tail_position set done = {FAR_AHEAD}, target = {FAR_AHEAD}, system_id = 1"
        )
        wrong = await site.dispatcher("rebase", "--same-xids", "--yes")
        assert 2 == wrong.status
        assert "without --same-xids" in wrong.err


@pytest.mark.slow
async def test_a_rebase_waits_for_nobody_who_may_be_at_work(database: Database, tmp_path: Path) -> None:
    """Not beside a dispatcher that leads, and not while a producer's transaction is open."""
    site = Site(database.url, tmp_path / "site")
    async with site.serving():
        ended = await site.dispatcher("rebase", "--yes")
        assert (2, "") == (ended.status, ended.out)
        assert "stop it first" in ended.err
    connection = await database.connect()
    try:
        async with connection.transaction():
            await connection.execute(INSERT, EVENTS[0].type, EVENTS[0].data, EVENTS[0].occurred_at, None)
            ended = await site.dispatcher("rebase", "--yes")
            assert (2, "") == (ended.status, ended.out)
            assert "still open" in ended.err
    finally:
        await connection.close()
    assert 0 == await site.value("select count(*) from rebase")
    assert 0 == (await site.dispatcher("rebase", "--yes")).status


async def test_recoveries_that_were_under_way_are_stopped(database: Database, tmp_path: Path) -> None:
    """Nobody knows how far they got after the backup; those that had ended are left alone."""
    site = Site(database.url, tmp_path / "site")
    connection = await database.connect()
    try:
        webhook_id = await create_webhook(database.url, "https://receiver.example/hook", ["*"])
        for number, phase in ((1, "completed"), (2, "closed"), (3, None)):
            recovery_id = await connection.fetchval(
                "insert into recovery (public_id, webhook_id, since, until, include, counted, counted_all,"
                " actor) values ($1, $2, '2026-01-01', '2026-01-02', '{failed}', '{}', true, 'key_1')"
                " returning id",
                f"rcv_{number}",
                webhook_id,
            )
            if phase is not None:
                await connection.execute(
                    "insert into recovery_progress values ($1, 1, 1, $2, current_date, 7, 3, 0, 0)",
                    recovery_id,
                    phase,
                )
        ended = await site.dispatcher("rebase", "--yes")
        assert 0 == ended.status, ended.err
        assert ended.lines[2].startswith("2 recoveries were under way and are stopped")
        newest = await connection.fetch(
            "select distinct on (recovery_id) phase, place, failed, reason from recovery_progress"
            " order by recovery_id, step desc"
        )
    finally:
        await connection.close()
    why = "the database was restored from a backup"
    assert [("completed", 7, 3, None), ("stopped", 7, 3, why), ("stopped", 0, 0, why)] == [
        tuple(row) for row in newest
    ]
