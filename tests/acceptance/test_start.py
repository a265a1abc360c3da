"""How the daemon starts, and what it tells systemd: it waits for PostgreSQL, but not for the operator."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from tests.acceptance.daemon import REPOSITORY, START_S, daemons, settings_of
from tests.acceptance.harness import Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import prompt
from tests.acceptance.waiting import eventually
from tests.postgres import Database
from tests.receiver import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class Manager:
    """What systemd hears."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self._socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": str(address)}
        self.heard: list[str] = []

    async def hears(self, line: str, count: int = 1) -> None:
        """Wait until so many datagrams begin so."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while sum(state.startswith(line) for state in self.heard) < count:
                self.heard.append((await loop.sock_recv(self._socket, 4096)).decode())

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@contextmanager
def manager(directory: Path) -> Iterator[Manager]:
    """Listen as systemd does."""
    one = Manager(directory / "notify")
    try:
        yield one
    finally:
        one.close()


async def test_waiting_for_postgresql_is_no_failure(tmp_path: Path) -> None:
    """The manager hears that we run and what we wait for, the log says it once, and SIGTERM is heeded."""
    url = f"postgresql://somebody@127.0.0.1:{free_port()}/nothing"
    with manager(tmp_path) as systemd:
        async with daemons(url, tmp_path, systemd.environ) as house:
            daemon = await house.start(wait=False)
            await daemon.not_ready("database: ConnectionRefusedError")
            await systemd.hears("READY=1\nSTATUS=grillo-dispatcher")
            (state,) = systemd.heard
            assert "waiting for PostgreSQL: ConnectionRefusedError" in state
            await asyncio.sleep(0.5)  # some tries more
            assert 1 == len(daemon.said("database away"))
            daemon.terminate()
            assert 0 == await daemon.ended(), daemon.last_words()
            assert [] == daemon.complaints()


async def test_a_mistake_ends_it_before_it_is_ready(database: Database, tmp_path: Path) -> None:
    """A login that PostgreSQL refuses is the operator's to mend: exit status 2, with the setting's name."""
    url = database.url.rpartition("/")[0] + "/no_such_database"
    with manager(tmp_path) as systemd:
        async with daemons(url, tmp_path, systemd.environ) as house:
            daemon = await house.start(wait=False)
            assert 2 == await daemon.ended()
            assert "look at database.url" in daemon.last_words()
            assert "READY" not in "".join(systemd.heard)


async def test_sighup_reloads_the_log_and_names_the_rest(database: Database, tmp_path: Path) -> None:
    """The level changes at once; other settings wait for a restart; a mistake changes nothing."""
    file = tmp_path / "config.toml"
    file.write_text('[log]\nlevel = "warning"\n')
    with manager(tmp_path) as systemd:
        async with daemons(database.url, tmp_path, systemd.environ, CONFIG=str(file)) as house:
            daemon = await house.start(wait=False)
            await systemd.hears("READY=1")
            assert [] == daemon.log
            file.write_text('[log]\nlevel = "info"\n[tail]\npage_rows = 7\n')
            daemon.process.send_signal(signal.SIGHUP)
            await systemd.hears("RELOADING=1")
            await daemon.says("the configuration was reloaded", log_level="info")
            await daemon.says("settings that take effect at the next start", keys=["tail.page_rows"])
            file.write_text("[tail]\npage_rows = 0\n")
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.says("the configuration was not reloaded")
            daemon.terminate()
            assert 0 == await daemon.ended()
            assert daemon.said("stopped"), "still as told before the mistake"
            await systemd.hears("STOPPING=1")
            said = [state.partition("=")[0] for state in systemd.heard]
            assert ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"] == [
                one for one in said if one != "STATUS"
            ]


async def test_a_port_that_is_taken_ends_it_before_it_leads(database: Database, tmp_path: Path) -> None:
    """The operator hears which setting it is, and the webhooks hear nothing: no run began."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        async with daemons(database.url, tmp_path, API__LISTEN=taken) as house:
            daemon = await house.start(wait=False)
            assert 2 == await daemon.ended()
            assert f"api.listen: cannot listen on {taken}: Address already in use" in daemon.last_words()
    connection = await database.connect()
    assert 0 == await connection.fetchval("select count(*) from run")
    await connection.close()


@pytest.mark.parametrize("table", ["tail_checkpoint", "tail_position"])
async def test_sigterm_is_heeded_while_a_run_cannot_begin(
    database: Database, tmp_path: Path, table: str
) -> None:
    """It has the lead, and PostgreSQL does not answer: the lead is given back, nothing is left open."""
    connection = await database.connect()
    async with daemons(database.url, tmp_path) as house, connection.transaction():
        await connection.execute(f"lock table {table} in access exclusive mode")
        daemon = await house.start(wait=False)
        waits = partial(connection.fetchval, "select exists (select from pg_locks where not granted)")
        await eventually(waits, "it waits", START_S)
        daemon.terminate()
        assert 0 == await daemon.ended(), daemon.last_words()
        assert [] == daemon.complaints()
    assert await connection.fetchval("select expires_at = '-infinity' from lease")
    assert ["clean"] == [how for (how,) in await connection.fetch("select how from run_end")]
    await connection.close()


def full() -> BinaryIO:
    """Open what takes nothing."""
    return Path("/dev/full").open("wb")


async def test_a_log_that_nobody_takes_keeps_no_alert(database: Database, tmp_path: Path) -> None:
    """The disk under the log is full: everything is delivered all the same, and SIGTERM heeded."""
    command = (sys.executable, "-m", "dispatcher", "serve")
    async with Harness(database.url, seed=4) as world:
        await world.subscribe(["*"], prompt)
        with full() as log:
            daemon = await asyncio.create_subprocess_exec(
                *command, stderr=log, cwd=REPOSITORY, env=settings_of(database.url, tmp_path)
            )
        try:
            async with world.producing(real_events()[:20], pause_s=0, to_the_end=True):
                pass
            await world.settled()
            daemon.terminate()
            assert 0 == await daemon.wait()
        finally:
            if daemon.returncode is None:
                daemon.kill()
                await daemon.wait()
        await world.conserved()
