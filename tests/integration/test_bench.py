"""The bench measures any dispatcher: both that are built in serve; its charts hold what they are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from bench.chart import Bar, Group, Panel, Share, bars, panels, shares
from bench.machine import cores
from bench.systems import BUILT_IN, Place, named
from tests.parts import detected
from tests.postgres import Database
from tests.receiver import Receiver

RECEIVERS: Final = 3
EVENTS: Final = ["evt_1", "evt_2", "evt_3"]
CHARTS: Final[dict[str, Callable[[], str]]] = {
    "shares": lambda: shares("a < b", [Share("x & y", 1.0, 0.1, 9.0), Share("z" * 200, 0.5, 0.5, 0.5)]),
    "bars": lambda: bars(
        "a < b", [Group("<t>", "ms", [Bar("one", 0.0), Bar("two", 1e4)]), Group("", "", [])]
    ),
    "panels": lambda: panels("a < b", 60, [Panel("<p>", "ms", [("one", [0.0, 2.0]), ("two", [1.0, 3.0])])]),
}


def running(pids: list[int]) -> list[int]:
    """Give those processes that there are."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_IN)
async def test_each_system_sends_every_event_to_every_receiver(
    database: Database, tmp_path: Path, name: str
) -> None:
    """Once each, from processes that it names and that are gone when it was stopped."""
    system = named(name)()
    async with Receiver() as receiver:
        urls = [receiver.url(f"/{number}") for number in range(RECEIVERS)]
        try:
            await system.start(Place(database.url, tmp_path, cores()[0]), urls)
            pids = list(system.pids())
            assert pids == running(pids) != []
            events = [detected(event_id=event) for event in EVENTS]
            await system.insert(events[:1])
            await system.insert(events[1:])
            await receiver.wait_for(len(EVENTS) * RECEIVERS, 30)
        finally:
            await system.stop()
        told = []
        for request in receiver.requests:
            body = json.loads(request.body)
            told.append((request.path, body.get("data", body)["event_id"]))
        assert [(f"/{number}", event) for number in range(RECEIVERS) for event in EVENTS] == sorted(told)
        assert [] == running(pids)


@pytest.mark.parametrize("name", ["nonsense", "no.such.module:System", "bench.systems:Nothing"])
def test_an_unknown_system_is_refused(name: str) -> None:
    """Before anything is started, in words that name it."""
    with pytest.raises(ValueError, match=name):
        named(name)


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_well_formed_and_always_the_same(name: str) -> None:
    """What is written into them is escaped, and twice the same numbers are twice the same bytes."""
    drawn = CHARTS[name]()
    assert drawn == CHARTS[name]()
    assert "a < b" == ET.fromstring(drawn).findtext("{http://www.w3.org/2000/svg}title")
    assert "prefers-color-scheme: dark" in drawn
