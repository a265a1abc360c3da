"""The real daemon as a process: started, asked whether it is ready, killed, frozen, told to end, read back.

    async with daemons(url, tmp_path, DELIVERY__RETRY_DELAYS_S="1,2") as house:
        one = await house.start()          # ready: /readyz said so
        one.kill()                         # -9
        await one.ended()
        two = await house.start()

Whatever still runs at the end of the block is killed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp

from tests.acceptance.waiting import eventually
from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

REPOSITORY: Final = Path(__file__).parents[2]
ENCRYPTION_KEY: Final = bytes(range(32))
START_S: Final = 60.0  # two cores are shared with whatever else runs
_SETTINGS: Final = {
    "API__LISTEN": "127.0.0.1:0",
    "OPS__LISTEN": "127.0.0.1:0",
    "DELIVERY__REQUIRE_HTTPS": "false",
    "DELIVERY__ALLOWED_NETWORKS": "127.0.0.0/8",
    "SECRETS__ENCRYPTION_KEY": base64.b64encode(ENCRYPTION_KEY).decode(),
    "LOG__FORMAT": "json",
}


class Launch(NamedTuple):
    """How a daemon is started, and where."""

    command: Sequence[str]
    cwd: Path


_CHECKOUT: Final = Launch((sys.executable, "-m", "dispatcher", "serve"), REPOSITORY)


class Readiness(NamedTuple):
    """What /readyz says."""

    status: int
    problems: list[str]


class Daemon:
    """One `dispatcher serve`."""

    def __init__(
        self, process: asyncio.subprocess.Process, log_path: Path, session: aiohttp.ClientSession
    ) -> None:
        self.process = process
        self.pid = process.pid
        self._log_path = log_path
        self._session = session
        self._lines: list[dict[str, Any]] = []
        self._read_bytes = 0
        self.strays: list[str] = []  # what it wrote that is no line of its log, such as a traceback

    @property
    def log(self) -> list[dict[str, Any]]:
        """Everything that it has logged so far."""
        with self._log_path.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.decode().splitlines():
            try:
                self._lines.append(json.loads(line))
            except json.JSONDecodeError:
                self.strays.append(line)
        return self._lines

    def said(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Give its log lines of this event that hold these fields."""
        wanted = {"event": event, **fields}
        return [line for line in self.log if wanted.items() <= line.items()]

    async def says(self, event: str, count: int = 1, timeout_s: float = START_S, **fields: object) -> None:
        """Wait until it has logged this event so many times."""

        def told() -> bool:
            assert self.process.returncode is None, f"it ended: {self.last_words()}"
            return len(self.said(event, **fields)) >= count

        await wait_for(told, f"it logs {event!r} {fields}, {count} times", timeout_s)

    def last_words(self) -> str:
        """Give the end of its log, for a failure's message."""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-12:])

    def complaints(self) -> list[str]:
        """Give what nobody wants to find in its log: errors, tracebacks, anything that is no log line."""
        errors = [line for line in self.log if line["level"] in {"error", "critical"}]
        return [*(json.dumps(line) for line in errors if not _says_the_driver(line)), *self.strays]

    def address(self, name: str) -> str:
        """Give the base URL of its listener `api` or `ops`."""
        return str(self.said("listening", on=name)[-1]["address"])

    async def readiness(self) -> Readiness:
        """Ask /readyz."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with self._session.get(f"{self.address('ops')}/readyz", timeout=timeout) as response:
            return Readiness(response.status, (await response.json())["problems"])

    async def metric(self, series: str) -> float:
        """Read a metric, named with its labels as the page of metrics writes it."""
        async with self._session.get(f"{self.address('ops')}/metrics") as page:
            found = re.search(rf"^{re.escape(series)} (\S+)$", await page.text(), re.MULTILINE)
        assert found is not None, series
        return float(found[1])

    async def ready(self, timeout_s: float = START_S) -> None:
        """Wait until /readyz answers 200."""
        await self.says("listening", on="ops", timeout_s=timeout_s)

        async def well() -> bool:
            return (await self.readiness()).status == 200

        await eventually(well, "/readyz answers 200", timeout_s)

    async def not_ready(self, reason: str = "", timeout_s: float = START_S) -> None:
        """Wait until /readyz answers 503, with this among the reasons."""
        await self.says("listening", on="ops", timeout_s=timeout_s)

        async def unwell() -> bool:
            status, problems = await self.readiness()
            return status == 503 and any(reason in problem for problem in problems)

        await eventually(unwell, f"/readyz answers 503: {reason}", timeout_s)

    def kill(self) -> None:
        """End it as the kernel's out-of-memory killer does."""
        self.process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, as systemd does."""
        self.process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop the clock for it alone."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def cpu_s(self) -> float:
        """Give how many seconds of a core it has used so far."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    async def ended(self, timeout_s: float = START_S) -> int:
        """Wait for its end and give the exit status, negative for a signal."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


def _says_the_driver(line: Mapping[str, Any]) -> bool:
    """Recognise what asyncpg leaves to the garbage collector when a statement meets a dying connection.

    The statement has failed with another error then, which the daemon knows.
    """
    return line.get("logger") == "asyncio" and "ConnectionDoesNotExistError" in line.get("exception", "")


class Daemons:
    """Starts daemons that share a database and settings."""

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        session: aiohttp.ClientSession,
        launch: Launch,
    ) -> None:
        self._directory = directory
        self._launch = launch
        self._environ = environ
        self._session = session
        self.all: list[Daemon] = []

    async def start(self, environ: Mapping[str, str] | None = None, *, wait: bool = True) -> Daemon:
        """Start one more, with `environ` besides; returns when it is ready, unless told not to wait."""
        log_path = self._directory / f"daemon-{len(self.all) + 1}.log"
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self._launch.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._launch.cwd,
                env={**self._environ, **(environ or {})},
            )
        daemon = Daemon(process, log_path, self._session)
        self.all.append(daemon)
        if wait:
            await daemon.ready()
        return daemon

    async def stop(self) -> None:
        """Kill whatever still runs."""
        for daemon in self.all:
            if daemon.process.returncode is None:
                with suppress(ProcessLookupError):
                    daemon.kill()
                await daemon.ended()

    def complaints(self) -> list[str]:
        """Give what nobody wants to find in any of their logs."""
        return [line for daemon in self.all for line in daemon.complaints()]


def settings_of(url: str, directory: Path, **settings: str) -> dict[str, str]:
    """Give the environment of a daemon on this database."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "DISPATCHER_DATABASE__URL": url,
        "DISPATCHER_DATA_DIR": str(directory),
        **{f"DISPATCHER_{name}": value for name, value in {**_SETTINGS, **settings}.items()},
    }


@asynccontextmanager
async def daemons(
    url: str,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    launch: Launch | None = None,
    /,
    **settings: str,
) -> AsyncIterator[Daemons]:
    """Prepare to run daemons on this database; `settings` as in `DELIVERY__DRAIN_S="5"`, `environ` beside.

    They run from this checkout, unless `launch` says otherwise.
    """
    async with aiohttp.ClientSession() as session:
        whole = {**settings_of(url, directory, **settings), **(environ or {})}
        house = Daemons(directory, whole, session, launch or _CHECKOUT)
        try:
            yield house
        finally:
            await house.stop()
