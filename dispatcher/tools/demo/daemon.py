"""The demo's own `dispatcher serve`, as a process, in a directory that goes away with it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from dispatcher.config import Config, load
from dispatcher.core.errors import OperatorError
from dispatcher.store.embedded.home import find_home
from dispatcher.tools.demo.story import RETRY_DELAYS_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_READY_WITHIN_S: Final = 90.0  # a first start makes a database cluster; slow disks exist
_STOP_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.05
_TOLD_LINES: Final = 15  # of the log, where it does not start
_CONFIG: Final = """\
# Made by `dispatcher demo`; gone when it ends.
data_dir = {data_dir}

[api]
listen = "127.0.0.1:{api_port}"

[ops]
listen = "127.0.0.1:{ops_port}"

[delivery]
retry_delays_s = {retry_delays_s}  # the guide's: [60, 300, 1800]
require_https = false
allowed_networks = ["127.0.0.0/8", "::1/128"]  # the receiver is on this machine
drain_s = 3

[log]
format = "json"
"""


class Daemon(msgspec.Struct, frozen=True):
    """A running dispatcher."""

    process: asyncio.subprocess.Process
    config_path: Path
    config: Config
    log_path: Path

    @property
    def api_url(self) -> str:
        """Where its management API is."""
        return f"http://{self.config.api.listen}"

    def psql_line(self) -> str:
        """Give a shell command that opens a session."""
        home = find_home(Path(self.config.data_dir))
        return f"PGPASSFILE={home.pgpass} psql postgresql://grillo@127.0.0.1:{home.kept_port()}/grillo"

    async def ended(self) -> None:
        """Wait for its end, which is an error: raises `OperatorError` with what it said last."""
        status = await self.process.wait()
        raise OperatorError(
            f"`dispatcher serve` ended with status {status}; it said last:\n{self.last_words()}"
        )

    def last_words(self) -> str:
        """Give the end of its log."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TOLD_LINES:]) or "nothing"


@asynccontextmanager
async def running_daemon() -> AsyncIterator[Daemon]:
    """Start a dispatcher and yield it when it is ready; ends it and removes its files afterwards."""
    directory = _make_directory()
    try:
        daemon = await _start(directory)
        try:
            await _until_ready(daemon)
            yield daemon
        finally:
            await _stop(daemon.process)
    finally:
        await asyncio.to_thread(_remove, directory)


def _make_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="grillo-demo-"))
    directory.chmod(0o711)  # PostgreSQL refuses root: another user runs it then, and has to get there
    return directory


async def _start(directory: Path) -> Daemon:
    config_path, log_path = _write_config(directory), directory / "serve.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dispatcher",
            "serve",
            "--config",
            str(config_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_clean(os.environ),
            start_new_session=True,  # a terminal's Ctrl-C is for the demo, which ends it in order
        )
    return Daemon(process, config_path, load(config_path, {}), log_path)


def _write_config(directory: Path) -> Path:
    api_port, ops_port = _free_ports()
    data_dir = directory / "data"
    data_dir.mkdir(mode=0o711)
    path = directory / "demo.toml"
    text = _CONFIG.format(
        data_dir=json.dumps(str(data_dir)),
        api_port=api_port,
        ops_port=ops_port,
        retry_delays_s=list(RETRY_DELAYS_S),
    )
    path.write_text(text, encoding="utf-8")
    return path


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would configure another dispatcher, or tell its service manager of this one."""
    others = {"CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"}
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("DISPATCHER_") and name not in others
    }


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


async def _until_ready(daemon: Daemon) -> None:
    url = f"http://{daemon.config.ops.listen}/readyz"
    try:
        async with asyncio.timeout(_READY_WITHIN_S), aiohttp.ClientSession() as session:
            while daemon.process.returncode is None:
                if await _answers(session, url):
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        words = daemon.last_words()
        raise OperatorError(
            f"`dispatcher serve` was not ready within {_READY_WITHIN_S:g} s; it said last:\n{words}"
        ) from None
    await daemon.ended()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:  # it does not listen yet
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_WITHIN_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()  # the kernel then ends its PostgreSQL
            await process.wait()


def _remove(directory: Path) -> None:
    data_dir = directory / "data"
    if data_dir.exists():
        # As root under a directory that PostgreSQL's user cannot enter, the cluster stands elsewhere.
        shutil.rmtree(find_home(data_dir).path, ignore_errors=True)  # a killed PostgreSQL may still write
    shutil.rmtree(directory, ignore_errors=True)
