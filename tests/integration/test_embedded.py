"""The embedded PostgreSQL with real processes: kept data, closed doors, kill -9 on each side, neighbours."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
import uvloop

from dispatcher.store.embedded import EmbeddedError, InUseError, borrow, find_binaries
from dispatcher.store.embedded.home import find_home
from dispatcher.store.embedded.leftovers import processes_in
from dispatcher.store.embedded.process import KEPT_BYTES, MAX_OUTPUT_BYTES, Output
from tests.embedded import (
    ALIVE,
    KEPT,
    LOG,
    WRITE,
    end,
    fetch,
    fetch_again,
    postmaster,
    ready,
    running,
    server_in,
    spawn_owner,
)
from tests.postgres import execute, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_second_start_finds_data_port_and_password_again(
    data_dir: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A start after a stop has the same URL and the same rows, on asyncio's loop and on uvloop's."""

    async def scenario() -> None:
        async with running(data_dir) as first:
            await execute(first, WRITE)
        assert not processes_in(find_home(data_dir).cluster)
        async with running(data_dir) as second:
            assert first == second
            assert await fetch(second, KEPT)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


async def test_a_new_server_has_its_log_ready(data_dir: Path) -> None:
    """Segments of the write-ahead log for a storm are there before it, and stay after a stop."""
    ahead = "select count(*) from pg_ls_waldir() where name > pg_walfile_name(pg_current_wal_lsn())"
    for _ in range(2):
        async with running(data_dir, settings=None) as url:
            assert await fetch(url, ahead) >= 4  # of 31, where the disk is no slower than 16 MB/s


async def test_the_server_is_closed_to_others_and_set_up_for_the_truth(data_dir: Path) -> None:
    """Without settings of a test: password only, 127.0.0.1 only, checksums, UTF-8, UTC, fsync."""
    async with running(data_dir, settings=None) as url:
        password = url.split(":")[2].split("@")[0]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url.replace(password, "wrong"), ssl=False)
        port = int(url.rpartition(":")[2].partition("/")[0])
        with pytest.raises(ConnectionRefusedError):  # loopback too, but not the address listened on
            await asyncio.open_connection("127.0.0.2", port)
        home = find_home(data_dir)
        modes = {home.pgpass: 0o600, home.cluster: 0o700}
        assert modes == {path: path.stat().st_mode & 0o777 for path in modes}
        expected = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
            "fsync": "on",
            "max_prepared_transactions": "0",
            "max_connections": "100",
        }
        assert expected == {name: await fetch(url, f"show {name}") for name in expected}
        assert await fetch(url, "select datcollate = 'C' from pg_database where datname = 'grillo'")


async def test_the_psql_line_opens_a_session(data_dir: Path) -> None:
    """The printed line works in a shell, without asking for a password and without showing it."""
    server = server_in(data_dir)
    url = await server.start()
    try:
        psql = await asyncio.create_subprocess_shell(
            f"{server.psql_line()} -Atc 'select 6 * 7'",
            stdout=subprocess.PIPE,
            env={"PATH": f"{find_binaries().bin_dir}:{os.defpath}"},
        )
        output, _ = await psql.communicate()
        assert int(output) == 6 * 7
        assert url.split(":")[2].split("@")[0] not in server.psql_line()
    finally:
        await server.stop()


async def test_a_taken_port_is_replaced_unless_it_was_asked_for(data_dir: Path) -> None:
    """Somebody else's port: a configured one is an error that names it, the kept one is chosen anew."""
    async with running(data_dir) as first:
        port = int(first.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(EmbeddedError, match=f"port {port} "):
            await server_in(data_dir, port=port).start()
        async with running(data_dir) as second:
            assert first != second
            assert await fetch(second, ALIVE)


async def test_a_killed_postmaster_is_replaced_although_a_statement_still_runs(data_dir: Path) -> None:
    """After kill -9 of PostgreSQL the same URL answers again and has the committed row."""
    async with running(data_dir) as url:
        await execute(url, WRITE)
        busy = await asyncpg.connect(url, ssl=False)
        async with asyncio.TaskGroup() as group:
            statement = group.create_task(
                execute_until_cut(busy, "select count(*) from generate_series(1, 1e12)")
            )
            await wait_for(
                lambda: fetch(url, "select true from pg_stat_activity where query like 'select count%1e12)'"),
                "the statement runs",
            )
            os.kill(postmaster(data_dir), signal.SIGKILL)
            await statement
        assert await wait_for(lambda: fetch_again(url, KEPT), "recovery")


async def execute_until_cut(connection: asyncpg.Connection, statement: str) -> None:
    """Run a statement whose connection is going to break."""
    with pytest.raises(asyncpg.PostgresConnectionError):
        await connection.execute(statement, timeout=30)


async def test_killing_the_owner_ends_postgresql_too(data_dir: Path) -> None:
    """After kill -9 of the process that owns it PostgreSQL ends by itself, and the next start has the row."""
    owner = spawn_owner(data_dir)
    url, _ = ready(owner)
    await execute(url, WRITE)
    os.kill(owner.pid, signal.SIGKILL)
    assert end(owner) == -signal.SIGKILL
    cluster = find_home(data_dir).cluster
    await wait_for(lambda: not processes_in(cluster), "PostgreSQL has ended")
    async with running(data_dir) as again:
        assert url == again
        assert await fetch(again, KEPT)


async def test_a_server_without_an_owner_is_replaced(data_dir: Path) -> None:
    """A PostgreSQL that still runs in the directory after its owner's end is stopped, not fought with."""
    owner = spawn_owner(data_dir)
    url, _ = ready(owner)
    await execute(url, WRITE)
    earlier = postmaster(data_dir)
    os.kill(earlier, signal.SIGSTOP)  # it cannot hear of its owner's end yet
    os.kill(owner.pid, signal.SIGKILL)
    end(owner)
    os.kill(earlier, signal.SIGCONT)
    async with running(data_dir) as again:
        assert earlier != postmaster(data_dir)
        assert await fetch(again, KEPT)


async def test_a_stale_pid_file_does_not_stop_a_start(data_dir: Path) -> None:
    """After a crash the number in postmaster.pid may belong to another program of the same user."""
    async with running(data_dir) as url:
        await execute(url, WRITE)
        crashed = (find_home(data_dir).cluster / "postmaster.pid").read_text().split("\n")
    home = find_home(data_dir)
    other = await asyncio.create_subprocess_exec("sleep", "60", user=home.identity.uid)
    try:
        pid_file = home.cluster / "postmaster.pid"
        pid_file.write_text("\n".join([str(other.pid), *crashed[1:]]))
        home.identity.own(pid_file)
        async with running(data_dir) as again:
            assert await fetch(again, KEPT)
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()


async def test_a_half_made_cluster_is_made_again(data_dir: Path) -> None:
    """Kill -9 in the middle of initdb leaves nothing that the next start would take for a cluster."""
    owner = spawn_owner(data_dir)
    await wait_for(lambda: list(data_dir.glob("initdb-*/cluster/PG_VERSION")), "initdb is at work")
    os.kill(owner.pid, signal.SIGKILL)
    assert end(owner) == -signal.SIGKILL
    assert not find_home(data_dir).cluster.exists()
    async with running(data_dir) as url:
        assert await fetch(url, ALIVE)
        assert {"initdb.log"} == {path.name for path in find_home(data_dir).path.glob("initdb*")}


async def test_one_owner_at_a_time(data_dir: Path) -> None:
    """A second owner is told who the first one is, or gets its turn when the first one ends in time."""
    owner = spawn_owner(data_dir)
    url, _ = ready(owner)
    with pytest.raises(InUseError, match=f"process {owner.pid} "):
        await server_in(data_dir, lock_wait_s=0.1).start()
    assert await fetch(url, ALIVE)
    async with asyncio.TaskGroup() as group:
        ending = group.create_task(asyncio.to_thread(end, owner))
        async with running(data_dir) as second:
            assert url == second
            assert await fetch(second, ALIVE)
    assert ending.result() == 0


async def test_a_short_command_uses_the_daemons_server_and_leaves_it(data_dir: Path) -> None:
    """`borrow` beside a daemon gives its URL, and the server still runs afterwards."""
    async with running(data_dir) as url:
        before = postmaster(data_dir)
        async with borrow(data_dir, log=LOG) as borrowed:
            assert url == borrowed
            assert await fetch(borrowed, ALIVE)
        assert before == postmaster(data_dir)
        assert await fetch(url, ALIVE)


async def test_a_short_command_alone_runs_a_server_for_its_duration(data_dir: Path) -> None:
    """`borrow` without a daemon starts and stops one; a daemon that starts meanwhile waits its turn."""
    async with borrow(data_dir, log=LOG) as url:
        await execute(url, WRITE)
        with pytest.raises(InUseError, match=r"\(command\)"):
            await server_in(data_dir, lock_wait_s=0.1).start()
        with pytest.raises(InUseError, match=r"\(command\)"):
            async with borrow(data_dir, log=LOG, wait_s=0.1):
                pytest.fail("two commands had the directory at once")
        assert await fetch(url, ALIVE)
    assert not processes_in(find_home(data_dir).cluster)
    async with borrow(data_dir, log=LOG) as again:
        assert await fetch(again, KEPT)


async def test_a_lost_password_is_not_replaced_behind_the_operators_back(data_dir: Path) -> None:
    """A cluster whose password file is gone is refused with the file's name."""
    async with running(data_dir):
        pgpass = find_home(data_dir).pgpass
    pgpass.unlink()
    with pytest.raises(EmbeddedError, match="pgpass is missing"):
        await server_in(data_dir).start()


async def test_a_directory_that_cannot_be_used_is_the_operators(tmp_path: Path) -> None:
    """A `data_dir` that is a file, or lies in one, is named to a short command as to a daemon."""
    file = tmp_path / "file"
    file.touch()
    for data_dir in (file, file / "var"):
        with pytest.raises(EmbeddedError, match=rf"^data_dir: {data_dir}: "):
            await server_in(data_dir).start()
        with pytest.raises(EmbeddedError, match=rf"^data_dir: {data_dir}: "):
            async with borrow(data_dir, log=LOG):
                pytest.fail("a file was taken for a directory")


def test_postgresqls_log_is_bounded(tmp_path: Path) -> None:
    """A log that grew too long keeps its end, and its writer goes on after that."""
    with Output(tmp_path / "postgres.log") as output:
        os.write(output.fileno(), b"x" * MAX_OUTPUT_BYTES + b"y")
        output.trim()
        os.write(output.fileno(), b"later")
    expected = b"x" * (KEPT_BYTES - 1) + b"ylater"
    assert expected == output.path.read_bytes()
