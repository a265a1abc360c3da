"""A real week of earthquakes through filters of every kind; whom they let through is found independently.

Distances are pyproj's on the WGS 84 ellipsoid, insides of polygons are Matplotlib's.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from matplotlib.path import Path as Outline
from pyproj import Geod

from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import BEGINNING, Position
from dispatcher.store.outbox import OutboxReader
from tests.management import Management, management
from tests.parts import Parts, detected, insert, new_webhook, parts
from tests.postgres import Database

WEEK: Final = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "usgs_week_2018.jsonl").read_text().splitlines()
]
CALIFORNIA: Final[list[list[float]]] = [
    [-124.5, 42],
    [-120, 42],
    [-120, 39],
    [-114, 34.5],
    [-114.5, 32.5],
    [-117.2, 32.5],
    [-124.5, 42],
]
BAY: Final[list[list[float]]] = [[-123, 37], [-121.5, 37], [-121.5, 38.5], [-123, 38.5], [-123, 37]]
PACIFIC: Final[list[list[float]]] = [[140, -60], [-110, -60], [-110, 60], [140, 60], [140, -60]]
ELLIPSOID: Final = Geod(ellps="WGS84")
Quake = dict[str, Any]


def within(latitude: float, longitude: float, radius_km: float) -> Callable[[Quake], bool]:
    """Ask pyproj; fails where the sphere and the ellipsoid might disagree."""

    def judge(quake: Quake) -> bool:
        _, _, metres = ELLIPSOID.inv(longitude, latitude, quake["longitude"], quake["latitude"])
        assert abs(metres / 1000 / radius_km - 1) > 0.006, quake
        return bool(metres / 1000 < radius_km)

    return judge


def inside(*rings: Sequence[Sequence[float]]) -> Callable[[Quake], bool]:
    """Ask Matplotlib, with every longitude from 0 to 360."""
    outline, *holes = (Outline([(x % 360, y) for x, y in ring]) for ring in rings)

    def judge(quake: Quake) -> bool:
        point = (quake["longitude"] % 360, quake["latitude"])
        return outline.contains_point(point) and not any(hole.contains_point(point) for hole in holes)

    return judge


CASES: Final[list[tuple[dict[str, Any], Callable[[Quake], bool]]]] = [
    ({"min_magnitude": 4}, lambda one: one["magnitude"] is not None and one["magnitude"] >= 4),
    ({"max_magnitude": 1.5}, lambda one: one["magnitude"] is not None and one["magnitude"] <= 1.5),
    (
        {"min_magnitude": 4, "include_unknown": True},
        lambda one: one["magnitude"] is None or one["magnitude"] >= 4,
    ),
    ({"max_depth_km": 0}, lambda one: one["depth_km"] <= 0),
    ({"lat": 37.77, "lon": -122.42, "radius": 150}, within(37.77, -122.42, 150)),
    ({"lat": -18, "lon": 179, "radius": 1100}, within(-18, 179, 1100)),  # Fiji
    ({"lat": 64, "lon": -150, "radius": 4400}, within(64, -150, 4400)),  # the pole is in it
    (
        {"bbox": [-125, 32, -114, 42]},
        lambda one: -125 <= one["longitude"] <= -114 and 32 <= one["latitude"] <= 42,
    ),
    (
        {"bbox": [165, -50, -170, 60]},
        lambda one: (one["longitude"] >= 165 or one["longitude"] <= -170) and -50 <= one["latitude"] <= 60,
    ),
    ({"polygon": {"type": "Polygon", "coordinates": [CALIFORNIA]}}, inside(CALIFORNIA)),
    ({"polygon": {"type": "Polygon", "coordinates": [CALIFORNIA, BAY]}}, inside(CALIFORNIA, BAY)),
    ({"polygon": {"type": "Polygon", "coordinates": [PACIFIC]}}, inside(PACIFIC)),
    (
        {"min_magnitude": 2, "max_depth_km": 10, "polygon": {"type": "Polygon", "coordinates": [CALIFORNIA]}},
        lambda one: one["magnitude"] >= 2 and one["depth_km"] <= 10 and inside(CALIFORNIA)(one),
    ),
    ({"station_codes": ["GRIL01"]}, lambda _: True),  # an earthquake has no station
]


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Parts]:
    """Lead over a fresh database."""
    async with parts(database) as made:
        yield made


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Management]:
    """Run the API over the same database."""
    async with management(database.url) as running:
        yield running


async def routed(one: Parts, lane: Lane = Lane.ALERT) -> dict[OutboxId, list[WebhookId]]:
    """Read a lane of the outbox and say who is told of each event, as the tail does."""
    reader = OutboxReader(one.store.link("tail"), lane)
    page = await reader.read(Position.after(BEGINNING), dt.date(2000, 1, 3), 10_000)
    registry = one.shared.registry
    await registry.refresh(page.registry_version)
    told = await registry.told_before(one.store.link("tail"), page.rows)
    return {row.id: registry.match(row, told) for row in page.rows}


async def scheduled(connection: asyncpg.Connection) -> None:
    """Let everything in the outbox have been routed to nobody."""
    await connection.execute(
        "insert into message (day, outbox_id, lane, batch, type, occurred_at, recorded_at, fan_out, body)"
        " select day, id, lane, 1, type, occurred_at, recorded_at, 0, '{}' from outbox on conflict do nothing"
    )


async def test_a_real_week_goes_through_every_filter(one: Parts, api: Management) -> None:
    """The tail, and a recovery of what is missing, find exactly the earthquakes that they should."""
    await one.connection.executemany(
        "insert into outbox (type, data) values ($1, $2)",
        [(quake["type"], json.dumps(quake["data"])) for quake in WEEK],
    )
    ids = [row["id"] for row in await one.connection.fetch("select id from outbox order by id")]
    made = [await api.new_webhook(events=["event.*"], filter=given) for given, _ in CASES]
    numbers = {
        row["public_id"]: row["id"] for row in await one.connection.fetch("select id, public_id from webhook")
    }
    told = await routed(one)
    await scheduled(one.connection)
    since = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat()
    for webhook, (given, judge) in zip(made, CASES, strict=True):
        expected = [number for number, quake in zip(ids, WEEK, strict=True) if judge(quake["data"])]
        assert 0 < len(expected), given
        number = WebhookId(numbers[webhook["id"]])
        assert expected == [outbox_id for outbox_id, numbers_ in told.items() if number in numbers_], given
        wanted = {"since": since, "include": ["missing"], "dry_run": True}
        reply = await api.ask("POST", f"/v1/webhooks/{webhook['id']}/recover", wanted)
        assert len(expected) == reply.data["count"], given


async def test_sensors_pass_a_magnitude_filter(one: Parts) -> None:
    """To the webhooks that subscribe to them; a list of stations picks among them."""
    strong = await new_webhook(one.connection, events=["event.*", "sensor.*"], filter='{"min_magnitude":6}')
    await new_webhook(one.connection, events=["event.*"], filter='{"min_magnitude":6}')
    station = await new_webhook(one.connection, filter='{"station_codes":["GRIL01"]}')
    sensor = {"sensor_id": "sen_1", "offline_duration_seconds": 5}
    for code in ("GRIL01", "GRIL02"):
        await insert(one.connection, json.dumps({**sensor, "station_code": code}), "sensor.online")
    assert [[strong, station], [strong]] == list((await routed(one, Lane.ROUTINE)).values())


async def test_a_changed_filter_applies_from_then_on(one: Parts, api: Management) -> None:
    """The next event that is routed meets the new filter; a null filter lets everything through."""
    webhook = await api.new_webhook(filter={"min_magnitude": 5})
    path = f"/v1/webhooks/{webhook['id']}"
    weak = await insert(one.connection, detected(magnitude=4.2))
    told = [(await routed(one))[weak[1]]]
    for given in ({"min_magnitude": 4}, {"max_magnitude": 4}, None):
        await api.ask("PATCH", path, {"filter": given})
        told.append((await routed(one))[weak[1]])
    number = await one.connection.fetchval("select id from webhook")
    assert [[], [number], [], [number]] == told


async def test_the_reason_names_the_filter(one: Parts, api: Management) -> None:
    """Whom an event did not reach because of a filter can be asked."""
    webhook = await api.new_webhook(filter={"min_magnitude": 5})
    event = await insert(one.connection, detected(magnitude=4.2))
    await scheduled(one.connection)
    reply = await api.ask("GET", f"/v1/events/{event[1]}/routing")
    assert [(webhook["id"], "filtered_out")] == [
        (found["webhook_id"], found["reason"]) for found in reply.data["webhooks"]
    ]


@pytest.mark.parametrize(
    "broken", ['{"min_magnitude":"much"}', '{"min":3}', '{"bbox":' + "[" * 2000 + "]" * 2000 + "}"], ids=len
)
async def test_a_broken_filter_holds_up_nobody(one: Parts, broken: str) -> None:
    """One that was written with SQL and makes no sense is not applied, and says so in the log."""
    broken_one = await new_webhook(one.connection, filter=broken)
    other = await new_webhook(one.connection, filter='{"min_magnitude":4}')
    event = await insert(one.connection, detected(magnitude=4.2))
    assert {event[1]: [broken_one, other]} == await routed(one)
