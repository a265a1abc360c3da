"""The second run of `.ci/run` gives a flaky test its chance, and a lost delivery none."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.harness import Harness
from tests.acceptance.producer import real_events
from tests.acceptance.subscriber import prompt
from tests.losses import NotConserved
from tests.postgres import Database

REPOSITORY: Final = Path(__file__).parents[2]
# What fails in the first run and not in the second, as a fault does.
SUITE: Final = """
import asyncio
from pathlib import Path
from tests.losses import NotConserved

def once(name, error):
    done = Path(name)
    if not done.exists():
        done.touch()
        raise error

async def conserve():
    once("grouped", NotConserved("1 violations"))

async def grouped():
    async with asyncio.TaskGroup() as group:
        group.create_task(conserve())

def test_flaky():
    once("flaky", AssertionError("not within 10 s"))

def test_lost():
    once("lost", NotConserved("1 violations"))

def test_lost_in_a_group():
    asyncio.run(grouped())

def test_lost_and_left_badly():
    try:
        once("left", NotConserved("1 violations"))
    finally:
        once("badly", TimeoutError("the daemon does not end"))
"""
LOST: Final = ("lost", "lost_in_a_group", "lost_and_left_badly")


def _pytest(directory: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", "-p", "no:schemathesis", *args],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Write a suite with this repository's hooks, and give its directory."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_addoption, pytest_configure\n")
    (tmp_path / "test_tiny.py").write_text(SUITE)
    return tmp_path


def _second_run() -> list[str]:
    """Give the arguments of pytest with which `.ci/run` runs once more what failed."""
    (args,) = re.findall(r'ARGS="(.*--last-failed.*)"', (REPOSITORY / ".ci/run").read_text())
    return shlex.split(args)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_loss_has_no_second_run(suite: Path, workers: str) -> None:
    """However a loss came to pytest, CI's second run ends at once and says which tests told of it."""
    first = _pytest(suite, "-n", workers)
    assert (pytest.ExitCode.TESTS_FAILED, True) == (first.returncode, "4 failed" in first.stdout)
    again = _pytest(suite, *_second_run())
    named = ", ".join(f"test_tiny.py::test_{name}" for name in LOST)
    assert pytest.ExitCode.USAGE_ERROR == again.returncode
    assert f"not once more: deliveries were lost or doubled in {named}\n" in again.stderr


def test_what_is_no_loss_has_a_second_run(suite: Path) -> None:
    """A test that fails once and passes alone does not fail CI; nor does what a run before the first lost."""
    assert pytest.ExitCode.TESTS_FAILED == _pytest(suite, "-n", "0").returncode
    (suite / "flaky").unlink()
    assert pytest.ExitCode.TESTS_FAILED == _pytest(suite, "-n", "0").returncode
    again = _pytest(suite, *_second_run())
    assert (0, True) == (again.returncode, "1 passed" in again.stdout)


async def test_the_count_raises_a_loss(database: Database) -> None:
    """What a harness did not find again is a loss, also while it waits for everything to be finished."""
    async with Harness(database.url, seed=0) as world:
        (event,) = real_events()[:1]
        world.ledger.committed[event.serial] = event  # and the database never heard of it
        await world.subscribe(["*"], prompt)
        with pytest.raises(NotConserved, match="1 committed events were never scheduled"):
            await world.settled(0.1)
