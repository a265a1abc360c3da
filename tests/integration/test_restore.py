"""A database that was restored or moved: `dispatcher rebase`, and what is sent afterwards."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from dispatcher.store.embedded.binaries import find_binaries
from dispatcher.store.embedded.home import find_home
from tests import commands
from tests.acceptance.conservation import UNFINISHED
from tests.acceptance.daemon import ENCRYPTION_KEY, Daemon, daemons
from tests.acceptance.producer import INSERT, real_events
from tests.acceptance.subscriber import Subscriber, create_webhook
from tests.embedded import running, server_in
from tests.postgres import UNSAFE_SETTINGS, Database, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.acceptance.producer import Event
    from tests.acceptance.subscriber import Seen

HOW_TO: Final = Path(__file__).parents[2] / "docs" / "how-to" / "backup-and-restore.md"
CLEAN: Final = "no discrepancy: what is shown is what the facts amount to"
REFUSED: Final = "run `dispatcher rebase` before `dispatcher serve`"
DONE: Final = "done: `dispatcher serve` goes on from here"
RETRIES: Final = {"DELIVERY__RETRY_DELAYS_S": "20,600"}
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


class Site:
    """A database, and the daemons and commands that work on it."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory
        directory.mkdir()
        key = base64.b64encode(ENCRYPTION_KEY).decode()
        self._config = directory / "config.toml"
        self._config.write_text(f'[secrets]\nencryption_key = "{key}"\n')

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Daemon]:
        """Run a daemon for the block, and let it end in order."""
        async with daemons(self.url, self._directory, **RETRIES) as house:
            daemon = await house.start()
            yield daemon
            if daemon.process.returncode is None:
                daemon.terminate()
                assert 0 == await daemon.ended(), daemon.last_words()

    async def refusal(self) -> str:
        """Give what a daemon says that ends with status 2 instead of serving."""
        async with daemons(self.url, self._directory) as house:
            daemon = await house.start(wait=False)
            assert 2 == await daemon.ended(), daemon.last_words()
            return daemon.last_words()

    async def dispatcher(self, *arguments: str) -> commands.Ended:
        """Run a command."""
        return await commands.run("--config", str(self._config), *arguments, url=self.url)

    async def value(self, query: str) -> Any:
        """Ask for one value."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def burn(self, count: int) -> None:
        """Use up transaction ids, as years would."""
        await self.execute(
            "create temp table burnt (number int);"
            f"do $$ begin for number in 1..{count} loop"
            "    begin insert into burnt values (number); exception when others then raise; end;"
            "end loop; end $$"
        )

    async def execute(self, statements: str) -> None:
        """Run statements."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def insert(self, events: Sequence[Event]) -> None:
        """Insert events, each in its own transaction."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            for event in events:
                await connection.execute(INSERT, event.type, event.data, event.occurred_at, None)
        finally:
            await connection.close()

    async def settled(self) -> None:
        """Wait until no delivery is unfinished and no row unread."""
        query = (
            f"select ({UNFINISHED}) = 0 and (select count(*) from outbox) = (select count(*) from message)"
        )
        await wait_for(lambda: self.value(query), "everything is delivered", 60)

    async def clean(self) -> bool:
        """Say whether `verify` finds nothing."""
        ended = await self.dispatcher("verify")
        return (0, CLEAN) == (ended.status, ended.lines[-1])

    async def interrupted(self) -> int:
        """Count the facts that say that something may have been sent after the backup."""
        query = "select count(*) from delivery_event where kind = 'interrupted' and reason = 'restored'"
        count: int = await self.value(query)
        return count


class Moods:
    """Two subscribers to everything: one always well, one that refuses everything until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.well = Subscriber(["*"], lambda _: (0, 200))
        self.ill = Subscriber(["*"], lambda _: (0, 200 if self.mended else 500))

    async def register(self, stack: AsyncExitStack, url: str) -> None:
        """Create them in the database."""
        await self.well.register(stack, url)
        await self.ill.register(stack, url)

    async def first_attempts(self, events: Sequence[Event]) -> None:
        """Wait until both were sent every one of these events."""
        wanted = {event.serial for event in events}

        def seen_by_all() -> bool:
            return all(wanted <= {seen.serial for seen in one.seen} for one in (self.well, self.ill))

        await wait_for(seen_by_all, "first attempts")

    def forget(self) -> tuple[list[Seen], list[Seen]]:
        """Give what each has seen so far, and begin anew."""
        seen = (self.well.seen[:], self.ill.seen[:])
        self.well.seen.clear()
        self.ill.seen.clear()
        return seen


def serials(seen: Sequence[Seen]) -> list[int]:
    """Give the events of requests, in order."""
    return sorted(one.serial for one in seen)


def numbers(events: Sequence[Event]) -> list[int]:
    """Give the numbers of events."""
    return [event.serial for event in events]


async def as_documented(heading: str, directory: Path, **variables: str) -> None:
    """Run the first commands under a heading of the how-to, as they are written there."""
    text = HOW_TO.read_text().partition(f"\n## {heading}\n")[2]
    commands_there = re.search(r"^```sh\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    assert commands_there is not None, f"{heading}: no commands"
    path = f"{find_binaries().bin_dir}:{os.environ['PATH']}"
    await program("sh", "-euc", commands_there[1], cwd=directory, env={**variables, "PATH": path})


async def program(*command: str | Path, **options: Any) -> None:
    """Run a program; fails with what it says."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    out, _ = await process.communicate()
    assert 0 == process.returncode, out.decode()


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
async def test_a_dump_goes_on_elsewhere_and_says_what_may_be_sent_twice(
    database: Database, data_dir: Path, tmp_path: Path
) -> None:
    """Delivered is delivered; what was pending is marked first; ids and transaction ids do not collide."""
    old, moods = Site(database.url, tmp_path / "old"), Moods()
    async with AsyncExitStack() as stack:
        await dumped_and_gone_on(stack, old, moods, tmp_path)
        before, _ = moods.forget()
        url = await stack.enter_async_context(running(data_dir, settings=UNSAFE_SETTINGS))
        restored = Site(url, tmp_path / "restored")
        await as_documented("Restore a dump", tmp_path, NEW_DATABASE_URL=url)
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
    """The same server at an earlier moment: nothing tells, so the operator does; lost ids are not reused."""
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
        assert (1, {"done": False, "lanes": 2}) == (rehearsed.status, json.loads(rehearsed.out))
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
