"""Whether the database counts as away, when loops that asked it end before they had an answer."""

from __future__ import annotations

import asyncio

from dispatcher.core.errors import DatabaseUnavailable
from dispatcher.daemon.outage import Outage
from dispatcher.telemetry.metrics import Metrics
from tests.postgres import wait_for


async def _refuse() -> int:
    raise DatabaseUnavailable("refused")


async def _answer() -> int:
    return 1


async def test_it_is_back_although_whoever_missed_it_ended() -> None:
    """The run that had no answer lost its shard; another loop of the process gets one."""
    heard = list[str | None]()
    outage = Outage(Metrics(), heard.append)
    missing = asyncio.create_task(outage.patiently("recorder", _refuse))
    await wait_for(lambda: heard, "somebody noticed")
    assert "refused" == outage.reason
    missing.cancel()
    await asyncio.wait([missing])
    assert 1 == await outage.patiently("sharing", _answer)
    assert ["refused", None] == heard


async def test_loops_of_two_runs_are_told_apart() -> None:
    """They have the same name: an answer to one is none to the other."""
    heard = list[str | None]()
    outage = Outage(Metrics(), heard.append)
    missing = asyncio.create_task(outage.patiently("lease", _refuse))
    await wait_for(lambda: heard, "somebody noticed")
    await outage.patiently("lease", _answer)
    assert (["refused"], "refused") == (heard, outage.reason)
    missing.cancel()
