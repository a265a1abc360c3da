"""The management API does what its OpenAPI document says, whatever is asked: schemathesis tries."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from dispatcher.core.access import ADMIN
from tests.management import management
from tests.past import Past
from tests.postgres import Database

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "schemathesis.toml"


async def tried(database: Database, directory: Path, *arguments: str) -> str:
    """Run schemathesis against the API, stateful, with all its checks; fails with what it found."""
    async with management(database.url) as api:
        webhook = await api.new_webhook(events=["*"])
        connection = await database.connect()
        past = await Past.of(connection, webhook["id"])
        key = await past.delivery()
        await past.attempt(key, 1, 500)
        await connection.close()
        admin = await api.new_key([ADMIN])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{api.base_url}/v1/openapi.json", "--checks", "all", "--no-color"),
            *("--header", f"Authorization: Bearer {admin}", *arguments),
            cwd=directory,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.schemathesis_formats", "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        text = out.decode()
        assert 0 == process.returncode, text
        return text


async def test_schemathesis_finds_nothing(database: Database, tmp_path: Path) -> None:
    """Some hundred requests: the examples, random ones, and chains of them."""
    phases = "examples,fuzzing,stateful"
    text = await tried(database, tmp_path, "--phases", phases, "--max-examples", "3", "--seed", "1")
    assert 100 < cases(text)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
async def test_schemathesis_finds_nothing_in_thousands(database: Database, tmp_path: Path, seed: int) -> None:
    """Ten thousand in all: the same, and the edges of every rule."""
    text = await tried(database, tmp_path, "--max-examples", "250", "--seed", str(seed))
    assert 3_400 < cases(text)


def cases(text: str) -> int:
    """Read how many requests were made."""
    found = re.search(r"(\d+) generated", text)
    assert found is not None, text
    return int(found[1])
