"""The daemon as a service of systemd: ready, fed, handed its sockets, restarted under its clients."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.acceptance.daemon import REPOSITORY, daemons, settings_of
from tests.postgres import Database, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# As the manager does it: the sockets are descriptors 3 and 4, and the variables name this very process.
HANDED_OVER: Final = """
exec 3<&"$API" 4<&"$OPS"
LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=api:ops exec "$PYTHON" -m dispatcher serve
"""
START_S: Final = 60.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does for what a service tells; the daemon's environment names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


def told(manager: socket.socket) -> list[str]:
    """Give the states that have arrived since it was asked last."""
    states = []
    with suppress(BlockingIOError):
        while True:
            states += manager.recv(4096).decode().splitlines()
    return states


async def test_the_manager_hears_of_every_stage(
    database: Database, tmp_path: Path, manager: socket.socket
) -> None:
    """Ready when it works, fed while it does, stopping when it drains."""
    heard: list[str] = []

    def has(state: str) -> bool:
        heard.extend(told(manager))
        return state in heard

    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    async with daemons(database.url, tmp_path, environ) as house:
        daemon = await house.start()
        await wait_for(lambda: has("READY=1"), "it is ready")
        heard.clear()
        await wait_for(lambda: has("WATCHDOG=1"), "the watchdog is fed")
        assert "STOPPING=1" not in heard
        daemon.terminate()
        assert 0 == await daemon.ended()
        assert has("STOPPING=1")


@pytest.mark.slow
async def test_the_watchdog_starves_when_a_loop_makes_no_progress(
    database: Database, tmp_path: Path, manager: socket.socket
) -> None:
    """A loop that hangs is not fed for, although the process answers; once it goes on, it is again."""
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    connection = await database.connect()
    try:
        async with daemons(database.url, tmp_path, environ) as house:
            daemon = await house.start()
            await daemon.says("leading")
            async with connection.transaction():
                await connection.execute("lock table delivery_event in access exclusive mode")
                await daemon.not_ready("retries: no progress for 1")
                told(manager)
                await daemon.not_ready("retries: no progress for 18")
                assert "WATCHDOG=1" not in told(manager)
            await wait_for(lambda: "WATCHDOG=1" in told(manager), "it is fed again")
    finally:
        await connection.close()


@asynccontextmanager
async def handed_over(
    environ: dict[str, str], log: Path, api: socket.socket, ops: socket.socket
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a daemon that is given its two sockets; killed at the end of the block if it still runs."""
    numbers = {"API": str(api.fileno()), "OPS": str(ops.fileno()), "PYTHON": sys.executable}
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", HANDED_OVER),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=REPOSITORY,
            env={**environ, **numbers},
            pass_fds=(api.fileno(), ops.fileno()),
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def bound() -> socket.socket:
    """Hold a port, as a socket unit does."""
    return socket.create_server(("127.0.0.1", 0))


async def test_the_api_survives_a_restart(database: Database, tmp_path: Path) -> None:
    """A request that comes while no daemon is there waits, and the next one answers it."""
    environ = settings_of(database.url, tmp_path)
    with bound() as api, bound() as ops:
        base = f"http://127.0.0.1:{api.getsockname()[1]}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=START_S)) as session:

            async def ask() -> int:
                async with session.get(f"{base}/v1/openapi.json", headers={"Connection": "close"}) as answer:
                    return answer.status

            async with handed_over(environ, tmp_path / "log", api, ops) as first:
                assert 200 == await ask()
                first.send_signal(signal.SIGTERM)
                assert 0 == await first.wait()
            waiting = asyncio.create_task(ask())
            async with handed_over(environ, tmp_path / "log", api, ops) as second:
                assert 200 == await waiting
                second.send_signal(signal.SIGTERM)
                assert 0 == await second.wait()
    assert f'"address":"{base}"' in (tmp_path / "log").read_text()


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is missing"
)
async def test_the_first_client_starts_it(database: Database, tmp_path: Path) -> None:
    """With systemd's own tool: the request that started the daemon is answered by it."""
    with bound() as api, bound() as ops:
        ports = [one.getsockname()[1] for one in (api, ops)]
    environ = settings_of(database.url, tmp_path)
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            "systemd-socket-activate",
            *(part for port in ports for part in ("-l", f"127.0.0.1:{port}")),
            "--fdname=api:ops",
            *(part for name in environ for part in ("-E", name)),
            *(sys.executable, "-m", "dispatcher", "serve"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=REPOSITORY,
            env=environ,
        )
    try:
        await wait_for(lambda: f"127.0.0.1:{ports[1]}" in log.read_text(), "it listens")
        timeout = aiohttp.ClientTimeout(total=START_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"http://127.0.0.1:{ports[0]}/v1/openapi.json") as answer:
                assert 200 == answer.status
            async with session.get(f"http://127.0.0.1:{ports[1]}/livez") as answer:
                assert 200 == answer.status
        os.kill(process.pid, signal.SIGTERM)
        assert 0 == await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
