"""The bell of a lane: who rings it, and how often the lane is looked at meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import msgspec
import pytest

from dispatcher.config import Tail
from dispatcher.core.pending import TAILED, Lane
from dispatcher.daemon.bell import Bell
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.store.wakeup import Wakeup
from tests.acceptance.waiting import eventually
from tests.parts import Parts, insert, parts, running
from tests.postgres import Database, wait_for

TAIL = Tail(busy_poll_ms=2, idle_poll_ms=100, idle_after_ms=50)


class Tower:
    """A bell on a real session, and what was rung."""

    def __init__(self, one: Parts) -> None:
        self.rung: list[str] = []
        self.bell = Bell(Lane.ALERT, TAIL)
        self.wakeup = Wakeup(one.store.link("doorbell"), self.rung.append)
        self._outage = one.shared.outage

    async def turn(self, now: float, *, may_ring: bool = True) -> float:
        """Look once; give in how many seconds to look again."""
        return await self.bell.turn(
            self.wakeup, self._outage, await self.wakeup.snapshot(), now, may_ring=may_ring
        )

    async def at_ease(self, now: float) -> None:
        """Wait until all ring who may insert; transactions of other databases may have been open as well."""

        async def quiet() -> bool:
            return await self.turn(now) == 0.25

        await eventually(quiet, "the lane is looked at four times a second", 20)


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


async def test_an_insert_from_before_the_bell_was_armed(database: Database, one: Parts) -> None:
    """It does not ring, however late it commits: until then the lane is looked at as if nobody rang."""
    tower, early, late = Tower(one), await database.connect(), await database.connect()
    await early.execute("begin")
    await insert(early)
    assert 0.0 == await tower.turn(100.0), "armed, and once more at once"
    await late.execute("begin")
    await insert(late)
    assert 0.002 == await tower.turn(100.0)
    assert 0.002 == await tower.turn(100.9)
    assert 0.1 == await tower.turn(101.1), "it may last for hours"
    await early.execute("commit")
    await tower.at_ease(101.2)
    assert [] == tower.rung
    await late.execute("commit")
    await wait_for(lambda: tower.rung == ["0"], "the other one rings")
    await early.close()
    await late.close()


async def test_a_bell_that_rings_too_often(one: Parts) -> None:
    """A NOTIFY makes commits serial: the lane is polled instead, and armed again when it is quiet."""
    tower = Tower(one)
    assert 0.0 == await tower.turn(100.0)
    await tower.at_ease(100.0)
    assert [False] * 64 + [True] == [tower.bell.rung(100.0 + ring / 1000) for ring in range(65)]
    assert 100.064 == tower.bell.next_look
    assert 0.002 == await tower.turn(100.1)
    assert not tower.bell.armed
    await insert(one.connection)
    tower.bell.found(100.11)
    assert 0.002 == await tower.turn(100.15)
    assert 0.0 == await tower.turn(100.17), "quiet for 50 ms"
    assert [] == tower.rung, "nobody was asked to"
    await insert(one.connection)
    await wait_for(lambda: tower.rung == ["0"], "it rings again")


async def test_where_nobody_may_ring(one: Parts) -> None:
    """The lane is polled, and no producer's transaction is made one that notifies."""
    tower = Tower(one)
    assert 0.0 == await tower.turn(100.0, may_ring=False)
    assert 0.01 == await tower.turn(100.0, may_ring=False)
    await insert(one.connection)
    assert 0.01 == await tower.turn(200.0, may_ring=False)
    assert [] == tower.rung


HOLDS = """
    select pid from pg_locks
     where locktype = 'advisory' and classid = 1735550316 and objid = 16 and mode = 'ExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
"""


async def test_a_session_that_ends(one: Parts) -> None:
    """Its locks end with it: all bells are armed anew at once, not when the lanes are looked at next."""
    calm = msgspec.structs.replace(
        one.shared.process.config, tail=Tail(busy_poll_ms=2, idle_poll_ms=600_000, idle_after_ms=50)
    )
    process = dataclasses.replace(one.shared.process, config=calm)
    doorbell = Doorbell(dataclasses.replace(one.shared, process=process))
    wakeup = Wakeup(one.store.link("doorbell"), doorbell.heard, doorbell.lost)

    async def holder() -> int | None:
        held: int | None = await one.connection.fetchval(HOLDS)
        return held if all(map(wakeup.armed, TAILED)) else None

    async with running(doorbell.run(wakeup, may_ring=True)):
        first = await eventually(holder, "all bells are armed", 20)
        await one.connection.execute("select pg_terminate_backend($1)", first)

        async def another() -> bool:
            return await holder() not in {None, first}

        await eventually(another, "all bells are armed anew", 20)


async def test_a_session_that_does_not_listen_is_not_rung_for(one: Parts) -> None:
    """A bell is armed on a session that hears it, and once: else nobody could disarm it."""
    wakeup = Wakeup(one.store.link("doorbell"), lambda _: None)
    assert not await wakeup.arm(Lane.ALERT)
    await wakeup.snapshot()
    assert await wakeup.arm(Lane.ALERT)
    await wakeup.disarm(Lane.ALERT)
    assert await one.connection.fetchval(HOLDS) is None
