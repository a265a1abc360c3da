"""docs/tutorial/first-alert.md, done as it is written: each command, in order, with what it promises."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.daemon import REPOSITORY
from tests.acceptance.waiting import eventually
from tests.postgres import wait_for
from tests.receiver import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE: Final = REPOSITORY / "docs" / "tutorial" / "first-alert.md"
START_S: Final = 120.0


def commands() -> list[str]:
    """Give the page's commands; what they print stands below them and is left out."""
    found: list[str] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        goes_on = False
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(line.removeprefix("$ "))
            elif goes_on:
                found[-1] += f"\n{line}"
            here_document = "<<'JSON'" in found[-1] and not found[-1].endswith("\nJSON")
            goes_on = found[-1].endswith("\\") or here_document
    return found


class Terminal:
    """Runs commands in one environment; ports and ids of the page are replaced by those of this run."""

    def __init__(self, directory: Path, data_dir: Path) -> None:
        self._directory = directory
        api, receiver, ops = free_port(), free_port(), free_port()
        self._replaced = {":8080": f":{api}", "9000": str(receiver)}
        self.environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "DISPATCHER_DATA_DIR": str(data_dir),
            "DISPATCHER_API__LISTEN": f"127.0.0.1:{api}",
            "DISPATCHER_OPS__LISTEN": f"127.0.0.1:{ops}",
            "DISPATCHER_LOG__FORMAT": "json",
        }

    def replace(self, written: str, ours: str) -> None:
        """Put a value of this run in the place of the page's."""
        self._replaced[written] = ours

    def _ours(self, command: str) -> str:
        for written, ours in self._replaced.items():
            command = command.replace(written, ours)
        return command.replace("dispatcher ", f"{sys.executable} -m dispatcher ")

    async def run(self, command: str) -> tuple[int | None, str]:
        """Run a command to its end; gives its status and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", self._ours(command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=self.environ,
        )
        async with asyncio.timeout(START_S):
            out, _ = await process.communicate()
        return process.returncode, out.decode()

    @asynccontextmanager
    async def running(self, command: str, name: str) -> AsyncIterator[Path]:
        """Run a command beside the block, ended by Ctrl-C; yields the file that holds what it prints."""
        log = self._directory / name
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", f"exec env {self._ours(command)}"),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=REPOSITORY,
                env=self.environ,
            )
        try:
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(START_S):
                await process.wait()


async def prints(log: Path, text: str) -> None:
    """Wait until a program has printed something."""
    await wait_for(lambda: text in log.read_text("utf-8"), f"{log.name} holds {text!r}", START_S)


@pytest.mark.slow
async def test_the_first_alert_arrives(tmp_path: Path, data_dir: Path) -> None:
    """From nothing to an earthquake that is verified, then to one that waits for its receiver."""
    setup, path, exported, serve, receive, key, register, test, alert, history, doctor = commands()
    assert ("make setup", "export PATH=$PWD/.venv/bin:$PATH") == (setup, path)
    here = Terminal(tmp_path, data_dir)
    here.environ |= dict(one.split("=", 1) for one in exported.removeprefix("export ").split())
    async with here.running(serve, "daemon") as daemon:
        await prints(daemon, '"event":"ready"')
        await prints(daemon, '"event":"leading"')
        assert key.startswith("KEY=$(")
        status, made = await here.run(key.removeprefix("KEY=$(").removesuffix(")"))
        assert 0 == status, made
        here.environ["KEY"] = made.strip()
        async with here.running(receive, "receiver") as receiver:
            await prints(receiver, "listening on ")
            status, answer = await here.run(register)
            assert 0 == status
            here.replace("whk_…", json.loads(answer)["data"]["id"])
            status, findings = await here.run(test)
            assert 0 == status, findings
            assert "it was answered 200" in findings
            await prints(receiver, "drill webhook.test dlv_")
            assert (0, "1 inserted\n") == await here.run(alert)
            await prints(receiver, "event event.detected dlv_")
        assert (0, "1 inserted\n") == await here.run(alert.replace("evt_1", "evt_2"))

        async def failed() -> bool:
            return "refused" in (await here.run(history))[1]

        await eventually(failed, "the history shows the failed attempt", START_S)
        assert "pending" in (await here.run(history))[1]
        status, findings = await here.run(doctor)
        assert 1 == status
        assert "the connection was refused" in findings
