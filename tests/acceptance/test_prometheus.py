"""A real Prometheus, with the rules that come with the dispatcher, watches a daemon whose lane stalls."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.acceptance.daemon import REPOSITORY, daemons
from tests.acceptance.subscriber import create_webhook
from tests.acceptance.waiting import eventually
from tests.parts import insert
from tests.postgres import Database
from tests.receiver import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RULES = REPOSITORY / "systemd" / "prometheus" / "grillo-dispatcher.rules.yml"
SCRAPE = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: grillo-dispatcher
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """A running server."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._session = session

    async def ask(self, path: str, **query: str) -> Any:
        """Ask its API; None while it does not answer."""
        try:
            async with self._session.get(f"{self._base}/api/v1/{path}", params=query) as answer:
                return (await answer.json())["data"] if answer.status == 200 else None
        except aiohttp.ClientError:
            return None

    async def value(self, expression: str) -> float | None:
        """Give what an expression amounts to now, None where there is nothing."""
        data = await self.ask("query", query=expression)
        return float(data["result"][0]["value"][1]) if data and data["result"] else None

    async def firing(self) -> set[str]:
        """Give the names of the alerts that fire."""
        data = await self.ask("alerts")
        return {one["labels"]["alertname"] for one in data["alerts"] if one["state"] == "firing"}


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[Prometheus]:
    """Run one that scrapes a target each second."""
    port = free_port()
    config = directory / "prometheus.yml"
    config.write_text(SCRAPE.format(rules=RULES, target=target))
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            yield Prometheus(f"http://127.0.0.1:{port}", session)
    finally:
        process.kill()
        await process.wait()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
async def test_a_stalled_lane_rings(database: Database, tmp_path: Path) -> None:
    """A lock keeps the alerts' tail from writing: within seconds that alert fires, and then it is over."""
    connection = await database.connect()
    other = await database.connect()
    try:
        await create_webhook(database.url, "https://hook.example/", ["sensor.*"])
        async with daemons(database.url, tmp_path) as house:
            daemon = await house.start()
            await daemon.says("leading")
            target = daemon.address("ops").removeprefix("http://")
            async with prometheus(tmp_path, target) as watching:

                async def scraped() -> bool:
                    return await watching.value("dispatcher_lease_held") == 1

                await eventually(scraped, "Prometheus has scraped the daemon", 60)
                assert 1 == await watching.value('up{job="grillo-dispatcher"}')
                assert (await watching.value("dispatcher_partitions_end_timestamp_seconds") or 0) > 1e9
                assert set() == await watching.firing()

                async def rings() -> bool:
                    return "DispatcherAlertLaneStalled" in await watching.firing()

                async with connection.transaction():
                    await connection.execute("lock table message in access exclusive mode")
                    await insert(other)
                    await eventually(rings, "the alert fires", 60)
                    lag = await watching.value('dispatcher_tail_lag_seconds{lane="alert"}')
                    assert lag is not None
                    assert lag > 5

                async def over() -> bool:
                    return set() == await watching.firing()

                await eventually(over, "nothing fires any more", 60)
                assert 1 == await watching.value('dispatcher_outbox_rows_read_total{lane="alert"}')
                assert 1 == await watching.value('dispatcher_webhooks{active="true"}')
    finally:
        await connection.close()
        await other.close()
