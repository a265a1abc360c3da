"""The real `dispatcher serve`, as a process on a core of its own, and what it tells of itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.child import pinned
from bench.machine import cpu_s

ROOT: Final = Path(__file__).parents[1]
RETRY_DELAYS_S: Final = (60.0, 300.0, 1800.0)  # the guide's
_READY_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 45.0
_MEMORY: Final = Path("/dev/shm")
_CONFIG: Final = """\
[database]
url = {url}
[api]
listen = "127.0.0.1:0"
[ops]
listen = "127.0.0.1:{ops_port}"
[delivery]
require_https = false
allowed_networks = ["127.0.0.0/8"]
retry_delays_s = {retry_delays_s}
[log]
format = "json"
[secrets]
encryption_key = {key}
"""


class Dispatcher:
    """A running dispatcher; its log goes to a file in memory, at no more than a journal would cost."""

    def __init__(self, process: asyncio.subprocess.Process, ops_port: int, log_path: Path) -> None:
        self._process = process
        self._ops_port = ops_port
        self._log_path = log_path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Give the CPU time that it has used."""
        return cpu_s(self._process.pid)

    def memory_mib(self) -> float:
        """Give the memory that it holds, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[0]) / 1024

    def trim_log(self) -> None:
        """Empty the log, which is kept in memory."""
        os.truncate(self._log_path, 0)

    async def metric(self, name: str) -> float:
        """Read one of its metrics: the sum of the series."""
        page = await asyncio.to_thread(self._get, "/metrics")
        return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)))

    async def until_ready(self) -> None:
        """Wait until it works."""
        async with asyncio.timeout(_READY_WITHIN_S):
            while True:
                if await asyncio.to_thread(self._ready):
                    return
                await asyncio.sleep(0.05)

    async def ended(self) -> None:
        """Wait for its end, which is an error: raises what it said last."""
        status = await self._process.wait()
        words = "\n".join(self._log_path.read_text(errors="replace").splitlines()[-10:])
        raise RuntimeError(f"the dispatcher ended with status {status}; it said last:\n{words}")

    def _ready(self) -> bool:
        try:
            self._get("/readyz")
        except OSError:
            return False
        return True

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ops_port}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text


@contextlib.asynccontextmanager
async def running_dispatcher(
    directory: Path,
    *,
    core: int | tuple[int, ...],
    database_url: str,
    vault_key: bytes,
    checkout: Path = ROOT,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
) -> AsyncIterator[Dispatcher]:
    """Run `dispatcher serve` for the block, on a core or several; raises RuntimeError when it ends before."""
    ops_port = _free_port()
    config = directory / "bench.toml"
    key = base64.b64encode(vault_key).decode()
    config.write_text(
        _CONFIG.format(
            url=json.dumps(database_url),
            ops_port=ops_port,
            key=json.dumps(key),
            retry_delays_s=json.dumps(retry_delays_s),
        ),
        encoding="utf-8",
    )
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else directory
    log = _open_log(memory)
    process = await asyncio.create_subprocess_exec(
        *pinned(*((core,) if isinstance(core, int) else core)),
        *(sys.executable, "-m", "dispatcher", "serve", "--config", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=log.descriptor,
        stderr=log.descriptor,
        cwd=checkout,
    )
    os.close(log.descriptor)
    dispatcher = Dispatcher(process, ops_port, log.path)
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(dispatcher.ended())
            await dispatcher.until_ready()
            yield dispatcher
            watch.cancel()
    finally:
        await _stop(process)
        log.path.unlink()


class _Log(NamedTuple):
    path: Path
    descriptor: int


def _open_log(directory: Path) -> _Log:
    """Make a log that is appended to, so that it can be emptied meanwhile."""
    descriptor, name = tempfile.mkstemp(prefix="grillo-bench-", suffix=".log", dir=directory)
    os.close(descriptor)
    return _Log(Path(name), os.open(name, os.O_WRONLY | os.O_APPEND))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
