"""`dispatcher demo`: what a visitor sees first, from the first process to the last."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from tests.commands import line, running

WITHIN_S = 120.0


@pytest.fixture
def own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the demo a temporary directory for itself, so that what it leaves can be seen."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def processes_of(directory: Path, words: str = "") -> list[int]:
    """Give the living processes whose command line names the directory, and has the words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it ended in the meantime
                continue
            if str(directory) in command and words in command:
                found.append(int(entry.name))
    return found


def left_in(directory: Path) -> list[str]:
    """Give what is in the directory."""
    return [entry.name for entry in directory.iterdir()]


async def test_once_ends_by_itself_when_everything_arrived(own_temporary_directory: Path) -> None:
    """All deliveries arrive and verify, one is refused and comes again, and nothing is left behind."""
    async with running("demo", "--once") as process, asyncio.timeout(WITHIN_S):
        out, err = (stream.decode() for stream in await process.communicate())
        assert (0, "") == (process.returncode, err), out
    assert "27 events, 41 deliveries expected: 41 arrived, 41 verified by both signatures" in out
    assert re.search(r"flaky +attempt 1 +✓ both signatures .* 500, on purpose", out)
    assert re.search(r"flaky +attempt 2 +✓ both signatures .* 200", out)
    assert "1 refused on purpose, and retried with the same delivery id and the same bytes" in out
    assert "every one delivered" in out
    assert "\x1b" not in out, "no colours in a pipe"
    assert [] == left_in(own_temporary_directory)
    assert [] == processes_of(own_temporary_directory)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupted_demo_leaves_nothing(
    own_temporary_directory: Path, number: signal.Signals, status: int
) -> None:
    """Ctrl-C in the middle ends the dispatcher and its PostgreSQL and removes their files."""
    async with running("demo") as process, asyncio.timeout(WITHIN_S):
        while "1/27" not in await line(process):
            pass
        assert processes_of(own_temporary_directory)
        process.send_signal(number)
        await process.communicate()
        assert status == process.returncode
    assert [] == left_in(own_temporary_directory)
    assert [] == processes_of(own_temporary_directory)


async def test_a_dispatcher_that_dies_is_told(own_temporary_directory: Path) -> None:
    """The demo ends with 1, and with the last words of the process that died."""
    async with running("demo", "--once") as process, asyncio.timeout(WITHIN_S):
        while "1/27" not in await line(process):
            pass
        (daemon,) = processes_of(own_temporary_directory, "dispatcher serve --config")
        os.kill(daemon, signal.SIGKILL)
        _, err = (stream.decode() for stream in await process.communicate())
        assert 1 == process.returncode
    assert "`dispatcher serve` ended with status -9" in err
    assert [] == processes_of(own_temporary_directory)
