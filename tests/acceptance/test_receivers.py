"""The receivers of docs/receivers, each run by its own toolchain, where that is here."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import shutil
import subprocess
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from dispatcher.core.signature import Signer
from tests.acceptance.daemon import REPOSITORY
from tests.acceptance.waiting import eventually
from tests.postgres import wait_for
from tests.receiver import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FOLDER: Final = REPOSITORY / "docs" / "receivers"
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PLAIN: Final = "a-secret-of-plain-text"
BODY: Final = (
    '{"type":"event.detected","timestamp":"2024-01-15T14:32:50Z","data":{"place":"Núñez","depth_km":10}}'
)
DRILL: Final = '{"type":"sensor.offline","timestamp":"2024-01-15T14:32:50Z","test":true,"data":{}}'
START_S: Final = 300.0  # compilers warm up

RECEIVERS: Final = {
    "receiver.mjs": ["node", "receiver.mjs"],
    "receiver.py": ["python3", "receiver.py"],
    "receiver.go": ["go", "run", "receiver.go"],
    "Receiver.java": ["java", "Receiver.java"],
    "receiver.php": ["php", "-S", "127.0.0.1:{port}", "receiver.php"],
}


class Running:
    """A receiver that listens."""

    def __init__(self, url: str, log: Path, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._log = log
        self._session = session

    async def post(
        self, body: str, delivery: str, signer: Signer, *, at: int | None = None, sent: str = ""
    ) -> int:
        """Send a delivery, with another body than was signed where `sent` is given; gives the status."""
        signed_at = int(time.time()) if at is None else at
        return await self.send(sent or body, dict(signer.sign(delivery, signed_at, body.encode())))

    async def send(self, body: str, headers: dict[str, str]) -> int:
        """Send a body with headers of one's own; gives the status."""
        headers = {"Content-Type": "application/json", **headers}
        async with self._session.post(self._url, data=body.encode(), headers=headers) as answer:
            return answer.status

    def worked(self) -> list[str]:
        """Give what it has worked on."""
        lines = self._log.read_text("utf-8").splitlines()
        found = (line[line.find(word) :] for line in lines for word in ("event ", "drill ") if word in line)
        return [line for line in found if "dlv_" in line]


@asynccontextmanager
async def started(
    name: str, directory: Path, secret: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, Path]]:
    """Start a receiver until the block ends; gives its process, its port and its log."""
    port = free_port()
    command = [part.format(port=port) for part in RECEIVERS[name]]
    log = directory / "receiver.log"
    environ = {
        **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        "SECRET": secret,
        "PORT": str(port),
        "TMPDIR": str(directory),
        "GOCACHE": str(directory / "go"),
    }
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=FOLDER,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process, port, log
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)  # `go run` has a child
        await process.wait()


@asynccontextmanager
async def running(name: str, directory: Path, secret: str) -> AsyncIterator[Running]:
    """Run a receiver until the block ends."""
    async with started(name, directory, secret) as (process, port, log), aiohttp.ClientSession() as session:

        async def answers() -> int:
            assert process.returncode is None, log.read_text()
            try:
                async with session.get(f"http://127.0.0.1:{port}/") as answer:
                    return answer.status
            except aiohttp.ClientError:
                return 0

        assert await eventually(answers, f"{name} listens", START_S) in {401, 501}
        yield Running(f"http://127.0.0.1:{port}/hook", log, session)


def needs(name: str) -> object:
    """Skip, and say so, where a toolchain is missing; compiled ones take long."""
    program = RECEIVERS[name][0]
    missing = pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")
    return pytest.param(name, marks=[missing, *([pytest.mark.slow] if program in {"go", "java"} else [])])


@pytest.mark.parametrize("name", [needs(name) for name in RECEIVERS])
async def test_a_receiver_accepts_what_is_ours_and_nothing_else(name: str, tmp_path: Path) -> None:
    """Both kinds of secrets, a rotation's two signatures, repetitions; no other secret, body or time."""
    ours, plain, foreign = Signer(SECRET), Signer(PLAIN), Signer("somebody-elses")
    async with running(name, tmp_path, f"{SECRET} {PLAIN}") as receiver:
        assert 200 == await receiver.post(BODY, "dlv_1", ours)
        assert 200 == await receiver.post(BODY, "dlv_1", ours)  # the same again
        assert 200 == await receiver.post(DRILL, "dlv_2", plain)
        assert 200 == await receiver.post(
            BODY, "dlv_3", Signer("whsec_b2xkIHNlY3JldCBvZiB0aGUgcGFzdA==", SECRET)
        )
        for at in (-301, 301):
            assert 401 == await receiver.post(BODY, "dlv_4", ours, at=int(time.time()) + at)
        assert 401 == await receiver.post(BODY, "dlv_5", ours, sent=BODY.replace("10}", "11}"))
        assert 401 == await receiver.post(BODY, "dlv_6", foreign)
        expected = ["event event.detected dlv_1", "drill sensor.offline dlv_2", "event event.detected dlv_3"]
        await wait_for(lambda: len(receiver.worked()) >= len(expected), "it has worked on all of them")
        assert expected == sorted(receiver.worked(), key=lambda line: line[-5:])


@pytest.mark.parametrize("name", [needs(name) for name in RECEIVERS])
async def test_an_empty_key_opens_no_receiver(name: str, tmp_path: Path) -> None:
    """A space behind the secret is no second secret; without any, it says so and takes nothing."""
    unpadded = "whsec_c2VjcmV0IHNlY3JldA"
    async with running(name, tmp_path, f"{unpadded} ") as receiver:
        at = int(time.time())
        of_nobody = hmac.digest(b"", f"dlv_1.{at}.{BODY}".encode(), "sha256")
        forged = {
            "webhook-id": "dlv_1",
            "webhook-timestamp": str(at),
            "webhook-signature": "v1," + base64.b64encode(of_nobody).decode(),
        }
        assert 401 == await receiver.send(BODY, forged)
        assert 200 == await receiver.post(BODY, "dlv_2", Signer(unpadded))
    for nothing in ("", "whsec_"):
        async with started(name, tmp_path, nothing) as (process, port, log):

            async def refuses(process: asyncio.subprocess.Process = process, port: int = port) -> bool:
                if process.returncode is not None:
                    return process.returncode != 0
                try:
                    async with (
                        aiohttp.ClientSession() as session,
                        session.get(f"http://127.0.0.1:{port}/") as got,
                    ):
                        return got.status == 500
                except aiohttp.ClientError:
                    return False

            await eventually(refuses, f"{name} refuses to work without a secret", START_S)
            await wait_for(lambda: "SECRET holds no secret" in log.read_text("utf-8"), "it says why")


def test_every_receiver_is_listed_and_run() -> None:
    """In the table of docs/receivers/README.md, with the very command that the test runs."""
    page = (FOLDER / "README.md").read_text("utf-8")
    programs = {path.name for path in FOLDER.iterdir() if path.name != "README.md"}
    assert set(RECEIVERS) == programs
    for name, command in RECEIVERS.items():
        shown = " ".join(command).replace("{port}", "9000")
        assert f"]({name})" in page
        assert shown in page
