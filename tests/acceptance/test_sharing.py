"""Daemons share the webhooks: fairly, whoever comes or goes, and nothing is lost or sent twice."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from dispatcher.core.errors import OperatorError
from dispatcher.store.lease import TERM_S
from tests.acceptance.daemon import daemons
from tests.acceptance.harness import RETRY_DELAYS_S, Harness
from tests.acceptance.producer import Event, real_events
from tests.acceptance.shards import divide, out_of_order, overlaps, quiet, runs, shares, stray_facts
from tests.acceptance.subscriber import moody, prompt, slow
from tests.parts import DETECTED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Database

TAKEOVER_S = 10.0  # after kill -9, by contract
AT_ONCE_S = TERM_S / 2  # sooner than any lease runs out
SHARDS = 4
SETTINGS = {"DELIVERY__RETRY_DELAYS_S": RETRY_DELAYS_S, "DELIVERY__MAX_QUEUED": "500"}


def revised_events(count: int) -> list[Event]:
    """Make earthquakes, of which each is revised again and again, and sensors that come and go."""
    now = dt.datetime.now(dt.UTC)
    events: list[Event] = []
    for serial in range(count):
        subject = serial % 40
        if subject < 10:
            kind, data = "sensor.online", {"station_code": "GRIL01", "offline_duration_seconds": serial}
            data["sensor_id"] = f"sen_{subject}"
        elif serial < 40:
            kind, data = "event.detected", {**DETECTED, "event_id": f"evt_{subject}"}
        else:
            changes = {"magnitude": {"old": serial, "new": serial + 1}}
            kind, data = "event.updated", {"event_id": f"evt_{subject}", "changes": changes}
        events.append(Event(serial, kind, json.dumps({**data, "serial": serial}), now))
    return events


async def subscribe(world: Harness) -> None:
    """Add two webhooks in each shard: a prompt one, and one that is slow or unreliable."""
    for number in range(SHARDS):
        await world.subscribe(["*"], prompt)
        manner = slow(0.05) if number % 2 else moody(world.rng, 0.1)
        await world.subscribe(["*"], manner)


async def test_shares_follow_who_is_there(database: Database, tmp_path: Path) -> None:
    """Who comes gets his share, who goes leaves it at once, and order is kept all the while."""
    async with Harness(database.url, seed=11) as world:
        await subscribe(world)
        await divide(world.url, SHARDS)
        async with daemons(database.url, tmp_path, **SETTINGS) as house:
            first = await house.start()
            await shares(world, {first: 4}, AT_ONCE_S)
            async with world.producing(revised_events(2_000), pause_s=0.05, producers=1):
                await quiet(world, 50)
                second = await house.start()
                await shares(world, {first: 2, second: 2}, TAKEOVER_S)
                taken = await runs(world)
                await quiet(world, 200)
                assert taken == await runs(world), "a shard moved although nobody came or went"
                third = await house.start()
                await shares(world, {first: 1, second: 2, third: 1}, TAKEOVER_S)
                await quiet(world, 50)
                first.terminate()
                await shares(world, {second: 2, third: 2}, AT_ONCE_S)
                assert 0 == await first.ended(), first.last_words()
                await quiet(world, 50)
            await world.settled()
            assert [] == house.complaints()
            assert (200, []) == await second.readiness()
        history = await world.conserved()
        assert 0 == history.interrupted()
        assert (0, [], []) == (
            await stray_facts(world),
            overlaps(world.subscribers),
            out_of_order(world.subscribers),
        )


@pytest.mark.slow
async def test_shards_of_a_killed_daemon_go_over(database: Database, tmp_path: Path) -> None:
    """Within ten seconds after kill -9, with everything that it had under way."""
    async with Harness(database.url, seed=12) as world:
        await subscribe(world)
        await divide(world.url, SHARDS)
        async with daemons(database.url, tmp_path, **SETTINGS) as house:
            first, second = await house.start(), await house.start()
            await shares(world, {first: 2, second: 2}, TAKEOVER_S)
            async with world.producing(real_events(), pause_s=0.05):
                await quiet(world, 50)
                await world.under_way(1)
                first.kill()
                await shares(world, {second: 4}, TAKEOVER_S)
                await quiet(world, 50)
            await world.settled()
            assert [] == house.complaints()
            await divided_anew_is_refused(world)
        await world.conserved()
        assert (0, []) == (await stray_facts(world), overlaps(world.subscribers))


async def divided_anew_is_refused(world: Harness) -> None:
    """Check that the number of shards stays as long as anybody holds one."""
    with pytest.raises(OperatorError, match="stop every one of them first"):
        await divide(world.url, 2)


@pytest.mark.slow
async def test_a_frozen_daemon_has_lost_its_shards(database: Database, tmp_path: Path) -> None:
    """The others take them over; thawed, it records nothing under them and gets its fair share again."""
    async with Harness(database.url, seed=13) as world:
        await subscribe(world)
        await divide(world.url, SHARDS)
        async with daemons(database.url, tmp_path, **SETTINGS) as house:
            first, second = await house.start(), await house.start()
            await shares(world, {first: 2, second: 2}, TAKEOVER_S)
            async with world.producing(real_events(), pause_s=0.1):
                await quiet(world, 50)
                first.freeze()
                await shares(world, {second: 4}, TAKEOVER_S)
                async with world.connection() as connection:
                    lost, at = await connection.fetchrow(
                        "select array(select r.id from run r where not exists (select from lease l"
                        " where l.run_id = r.id)), clock_timestamp()"
                    )
                await quiet(world, 20)
                first.thaw()
                await first.says("lead lost", count=2)
                await shares(world, {first: 2, second: 2}, TAKEOVER_S)
                await quiet(world, 50)
            await world.settled()
            assert [] == house.complaints()
        await world.conserved()
        async with world.connection() as connection:
            late = await connection.fetchval(
                "select count(*) from delivery_event where run_id = any ($1) and recorded_at > $2", lost, at
            )
        assert (0, 0, []) == (late, await stray_facts(world), overlaps(world.subscribers))


@pytest.mark.slow
async def test_shards_are_divided_anew_while_nobody_sends(database: Database, tmp_path: Path) -> None:
    """What was pending, due or waiting under the old number arrives under the new one, once."""
    async with Harness(database.url, seed=14) as world:
        await subscribe(world)
        async with daemons(database.url, tmp_path, **{**SETTINGS, "DELIVERY__MAX_QUEUED": "20"}) as house:
            events = real_events()
            for part, count in enumerate((3, 2, 1)):
                daemon = await house.start()
                async with world.producing(events[part * 200 : part * 200 + 200], pause_s=0, to_the_end=True):
                    await quiet(world, 20)
                daemon.terminate()
                assert 0 == await daemon.ended(), daemon.last_words()
                await divide(world.url, count)
            last = await house.start()
            await world.settled()
            assert [] == house.complaints()
            last.terminate()
            assert 0 == await last.ended(), last.last_words()
        history = await world.conserved()
        assert (0, []) == (history.interrupted(), overlaps(world.subscribers))
