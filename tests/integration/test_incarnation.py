"""Which copy of the database the dispatcher works in: another one is refused, a branched history is told."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pytest

from dispatcher.store.embedded.home import find_home
from tests.acceptance.producer import real_events
from tests.embedded import server_in
from tests.postgres import UNSAFE_SETTINGS, Database, clone, execute, sibling, wait_for
from tests.restoring import DONE, REFUSED, Moods, Site, numbers, program, serials

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from pathlib import Path

    from tests.acceptance.daemon import Daemon

EVENTS: Final = real_events("comcat_updates.jsonl")
TWICE: Final = "may be sent twice"
COPIES: Final = "select count(*) from incarnation"
ARCHIVE: Final = {"archive_mode": "on", "archive_command": "cp %p ../archive/%f"}
RECOVER: Final = {
    "restore_command": "cp ../archive/%f %p",
    "recovery_target_name": "kept",
    "recovery_target_action": "promote",
}
LEAD_FROM_ELSEWHERE: Final = "update lease set owner = 'elsewhere', expires_at = 'infinity' where shard = 0"
PROMOTED: Final = "select not pg_is_in_recovery()"


async def branch(site: Site) -> Any:
    """Give what `status --json` says of the history."""
    return json.loads((await site.dispatcher("status", "--json")).out)["branch"]


async def test_a_copy_beside_the_database_is_refused(database: Database, tmp_path: Path) -> None:
    """It is another database of the same server: nothing is sent from it before an operator has decided."""
    site, moods = Site(database.url, tmp_path / "site"), Moods()
    moods.mended = True
    async with AsyncExitStack() as stack:
        await moods.register(stack, site.url)
        async with site.serving():
            await site.insert(EVENTS[:2])
            await site.settled()
        assert 1 == await site.value(COPIES), "a database that was never used takes where it is as it is"
        await site.insert(EVENTS[2:4])
        moods.forget()
        copied = Site(await copy_of(site, stack), tmp_path / "copied")
        for command in ("status", "verify"):
            ended = await copied.dispatcher(command)
            assert REFUSED in ended.out + ended.err
            assert 0 != ended.status
        assert REFUSED in await copied.refusal()
        assert ([], []) == moods.forget()
        done = await copied.dispatcher("rebase", "--same-xids", "--json", "--yes")
        assert (0, {"done": True, "lanes": 0, "database": True}) == (done.status, json.loads(done.out))
        async with copied.serving():
            await copied.settled()
        assert [numbers(EVENTS[2:4])] * 2 == [serials(seen) for seen in moods.forget()]


@pytest.mark.slow
async def test_a_copy_is_refused_by_whoever_holds_a_shard(database: Database, tmp_path: Path) -> None:
    """Not only by who leads: what was to be tried again would go out meanwhile."""
    site = Site(database.url, tmp_path / "site")
    assert 0 == (await site.dispatcher("shards", "4")).status
    async with site.serving() as daemon:
        await daemon.says("leading", shard=0)
    async with AsyncExitStack() as stack:
        copied = Site(await copy_of(site, stack), tmp_path / "copied")
        await copied.execute(LEAD_FROM_ELSEWHERE)
        assert REFUSED in await copied.refusal()


class Server:
    """A server whose log is archived, so that it can be put back to a moment."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._cluster = find_home(data_dir).cluster
        self._saved = self._cluster.with_name("saved")
        self._archive = self._cluster.with_name("archive")
        self._running = server_in(data_dir, settings=UNSAFE_SETTINGS)

    async def start(self, settings: Mapping[str, str] = MappingProxyType({})) -> str:
        """Start it; gives the URL, the same each time."""
        self._running = server_in(self._data_dir, settings={**UNSAFE_SETTINGS, **settings})
        return await self._running.start()

    async def stop(self) -> None:
        """Stop it, which archives the rest of the log."""
        await self._running.stop()

    async def save(self) -> None:
        """Copy its files, and archive the log from here on."""
        await self.stop()
        await program("cp", "-a", self._cluster, self._saved)
        self._archive.mkdir()
        self._give_away(self._archive)
        await self.start(ARCHIVE)

    async def put_back(self) -> None:
        """Recover to the restore point `kept` from the files and the archive, and promote."""
        await self.stop()
        await program("rm", "-r", self._cluster)
        await program("mv", self._saved, self._cluster)
        signal = self._cluster / "recovery.signal"
        signal.touch()
        self._give_away(signal)
        await self.start(RECOVER)

    def _give_away(self, path: Path) -> None:
        owner = self._cluster.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


async def copy_of(site: Site, stack: AsyncExitStack) -> str:
    """Copy the database beside itself until the stack ends; gives its URL."""
    server, name = sibling(site.url, "postgres"), f"test_{secrets.token_hex(6)}"
    await clone(server, name, site.url.rpartition("/")[2])
    stack.push_async_callback(execute, server, f"drop database {name} with (force)")
    return sibling(site.url, name)


async def told_of(site: Site, daemon: Daemon, since: dt.datetime) -> None:
    """Assert that log, `status` and `doctor` say what may be sent twice, and count nothing as wrong."""
    said = daemon.said("history branched", before=1, timeline=2, level="warning")
    assert 1 == len(said)
    assert f"since {since:%Y-%m-%d %H:%M:%SZ} {TWICE}" in said[0]["reason"]
    shown = await branch(site)
    assert (1, 2, said[0]["reason"]) == (shown["before"], shown["timeline"], shown["meaning"])
    ended = await site.dispatcher("status")
    assert (0, "all is well") == (ended.status, ended.lines[-1])
    assert TWICE in next(line for line in ended.lines if line.startswith("NOTICE"))
    examined = (await site.dispatcher("doctor", "--json")).lines
    found = next(one for one in map(json.loads, examined) if one["check"] == "history")
    assert ("warn", True) == (found["verdict"], TWICE in found["found"])


@pytest.mark.slow
async def test_a_promotion_is_told_and_goes_on_by_itself(data_dir: Path, tmp_path: Path) -> None:
    """A recovery to a point in time: what was sent after it is sent again, and the log and status say so."""
    first, unread, lost, new, moods = EVENTS[:3], EVENTS[3:5], EVENTS[5:25] * 2, EVENTS[25:27], Moods()
    moods.mended = True
    server = Server(data_dir)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        site = Site(await server.start(), tmp_path / "site")
        assert 0 == (await site.dispatcher("migrate")).status
        await moods.register(stack, site.url)
        await server.save()
        async with site.serving():
            await site.insert(first)
            await site.settled()
        assert await branch(site) is None
        since = await site.value("select max(recorded_at) from outbox")
        await site.insert(unread)
        await site.execute("select pg_create_restore_point('kept')")
        async with site.serving():
            await site.insert(lost)  # more than PostgreSQL's log is ahead of the sequence
            await site.settled()
        known = {seen.delivery for seen in moods.forget()[0]}
        await server.put_back()
        await wait_for(lambda: site.value(PROMOTED), "it has recovered")

        async with site.serving() as daemon:
            await site.settled()
            assert [numbers(unread)] * 2 == [serials(seen) for seen in moods.forget()], "sent again"
            await told_of(site, daemon, since)
            await site.insert(new)
            await site.settled()
            well, _ = moods.forget()
            assert (numbers(new), set()) == (serials(well), known & {seen.delivery for seen in well})
        async with site.serving() as daemon:
            assert [] == daemon.said("history branched"), "it was told"
        done = await site.dispatcher("rebase", "--same-xids", "--yes")
        assert (0, DONE) == (done.status, done.lines[-1]), done.err
        assert await branch(site) is None
        assert await site.clean()


@pytest.mark.slow
async def test_a_daemon_that_runs_on_notices_a_promotion(data_dir: Path, tmp_path: Path) -> None:
    """Its server comes back without its last events: it says so, goes on, and sends what comes then."""
    first, lost, new, moods = EVENTS[:3], EVENTS[3:6], EVENTS[6:8], Moods()
    moods.mended = True
    server = Server(data_dir)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        site = Site(await server.start(), tmp_path / "site")
        assert 0 == (await site.dispatcher("migrate")).status
        await moods.register(stack, site.url)
        await server.save()
        async with site.serving() as daemon:
            await site.insert(first)
            await site.settled()
            await site.execute("select pg_create_restore_point('kept')")
            await site.insert(lost)
            await site.settled()
            moods.forget()
            await server.put_back()
            await wait_for(lambda: site.value(PROMOTED), "it has recovered")
            await daemon.says("history branched", before=1, timeline=2)
            await site.insert(new)
            await site.settled()
            assert numbers(new) == sorted({seen.serial for seen in moods.well.seen} & set(numbers(new)))
        assert await site.clean()
