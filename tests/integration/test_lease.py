"""Taking a shard beside a process that stopped in the midst of it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.sharing import Shard
from dispatcher.store.connection import Link
from dispatcher.store.driver import connect
from dispatcher.store.lease import Lease
from dispatcher.store.queries import QUERIES
from tests.postgres import Database

CLOCK = "import time; from dispatcher.store import lease; print(lease._clock_s() - time.monotonic())"


def test_trust_does_not_last_through_a_suspension() -> None:
    """While a machine sleeps only the clock that says how long it has been up goes on: a million seconds."""
    slept = ("unshare", "--time", "--boottime", "1000000")
    if shutil.which("unshare") is None or subprocess.run((*slept, "true"), check=False).returncode:
        pytest.skip("times of one's own: this user may not have them")
    ahead_s = subprocess.run((*slept, sys.executable, "-c", CLOCK), check=True, capture_output=True).stdout
    assert 999_999 < float(ahead_s) < 1_000_001


@pytest.mark.slow
async def test_a_process_that_freezes_while_it_takes_a_shard_keeps_nobody_out(database: Database) -> None:
    """Not for longer than a lease: its session is ended, and the shard goes to somebody else."""
    frozen = await connect(database.url, name="frozen", config=DatabaseConfig())
    await frozen.execute("begin")
    await frozen.execute(QUERIES["hold_shards"])
    link = Link(database.url, "lease", DatabaseConfig(statement_timeout_s=20.0))
    assert await Lease(link, Shard()).take() is not None
    await link.close()
    frozen.terminate()
