"""The index tells exactly those whose filter accepts an event; circles are those of geodesy."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from dispatcher.core.filter_form import filter_problems, read_filter
from dispatcher.core.geo import EARTH_RADIUS_KM, Box, Circle, distance_km
from dispatcher.core.geojson import read_polygon
from dispatcher.core.ids import WebhookId
from dispatcher.core.parameters import read_parameters
from dispatcher.core.routing import EVERY_NETWORK, RoutedEvent, Routes, Subscription
from tests.filters import LATITUDES, LONGITUDES, boxes, events, filters, polygons

SPHERE = Geod(a=EARTH_RADIUS_KM * 1000, b=EARTH_RADIUS_KM * 1000)
ELLIPSOID = Geod(ellps="WGS84")
QUAKE = frozenset({"magnitude", "depth_km", "latitude", "longitude"})
DECLARED = {
    "event.detected": QUAKE,
    "sensor.offline": frozenset({"station_code"}),
    "quarry.blast": frozenset(),
}
POINTS = st.tuples(LONGITUDES, LATITUDES)
NETWORKS = {1: frozenset({EVERY_NETWORK}), 2: frozenset({"net_a"})}


@settings(max_examples=300)
@given(
    st.lists(st.none() | filters(), max_size=12),
    st.lists(st.tuples(st.sampled_from(sorted(DECLARED)), events()), min_size=1, max_size=6),
)
def test_index_agrees_with_a_plain_loop(
    wanted: list[dict[str, Any] | None], told: list[tuple[str, dict[str, Any]]]
) -> None:
    """Whatever the filters, the organizations and the events; asked again and in another order too."""
    subscriptions = [
        Subscription(
            WebhookId(number),
            f"whk_{number}",
            number % 3,
            frozenset({"*"}),
            frozenset({"net_a"}) if number % 2 else None,
            None if one is None else read_filter(one),
        )
        for number, one in enumerate(wanted, 1)
    ]
    routes = Routes(subscriptions, NETWORKS)
    for event_type, data in [*told, *reversed(told)]:
        state = read_parameters(data, DECLARED[event_type])
        expected = [
            one.webhook_id
            for one in subscriptions
            if one.organization_id in NETWORKS and (one.filter is None or one.filter.accepts(state))
        ]
        assert expected == routes.match(RoutedEvent(event_type, "net_a", states=(state,)))


@given(st.lists(filters(), min_size=1, max_size=8), events(), events())
def test_one_of_the_states_is_enough(wanted: list[dict[str, Any]], before: Any, after: Any) -> None:
    """An event in two states goes to whoever is told of one of them, once."""
    routes = Routes(
        [
            Subscription(WebhookId(number), f"whk_{number}", 1, frozenset({"*"}), None, read_filter(one))
            for number, one in enumerate(wanted, 1)
        ],
        NETWORKS,
    )
    states = tuple(read_parameters(data, QUAKE) for data in (before, after))
    one, other = (set(routes.match(RoutedEvent("event.detected", None, states=(state,)))) for state in states)
    assert sorted(one | other) == routes.match(RoutedEvent("event.detected", None, states=states))


@given(filters())
def test_good_filters_are_good(wanted: dict[str, Any]) -> None:
    """What the other properties are tried with is what a client may send."""
    assert [] == filter_problems(wanted)


@given(POINTS, POINTS)
def test_distance_is_that_of_geodesy(one: tuple[float, float], other: tuple[float, float]) -> None:
    """A millimetre off the sphere's, save near the opposite point; 0.6 % off the ellipsoid's."""
    ours = distance_km(one, other)
    sphere, ellipsoid = (geod.inv(*one, *other)[2] / 1000 for geod in (SPHERE, ELLIPSOID))
    assert math.isclose(ours, sphere, abs_tol=1e-3 if ours < 19_000 else 0.2)
    assert math.isclose(ours, ellipsoid, rel_tol=0.006, abs_tol=1e-6)


@given(POINTS, st.floats(0, 360), st.floats(0.001, 19_000), st.sampled_from([0.999, 1.001]))
def test_circle_ends_at_its_radius(
    centre: tuple[float, float], azimuth: float, radius_km: float, share: float
) -> None:
    """A point a thousandth of the radius nearer is in, one a thousandth farther is out; its box holds it."""
    longitude, latitude, _ = SPHERE.fwd(*centre, azimuth, radius_km * share * 1000)
    circle = Circle.around(centre[1], centre[0], radius_km)
    assert (share < 1) is circle.contains(latitude, longitude)
    if share < 1:
        assert circle.bounds.contains(latitude, longitude)


@given(boxes(), POINTS)
def test_boxes_go_eastwards(sides: list[float], point: tuple[float, float]) -> None:
    """From west to east is never the other way; the nearest thousandth of a degree to a side is left out."""
    west, south, east, north = sides
    longitude, latitude = point
    if all(abs((longitude - side + 180) % 360 - 180) > 1e-3 for side in (west, east)) and abs(latitude) < 90:
        width = 360 if (west, east) == (-180, 180) else (east - west) % 360
        expected = south <= latitude <= north and (longitude - west) % 360 <= width
        assert expected is Box.of(west, south, east, north).contains(latitude, longitude)


@given(polygons(), st.floats(-180, 180), st.floats(-80, 80), st.floats(-180, 180))
def test_polygons_may_lie_anywhere(
    outline: dict[str, Any], longitude: float, latitude: float, shift: float
) -> None:
    """A polygon and a point moved alike, across the antimeridian or not, keep their relation."""
    longitude, latitude, shift = round(longitude, 2) + 0.005, round(latitude, 2) + 0.005, round(shift)
    rings = [[[round(x, 2), round(y, 2)] for x, y in ring] for ring in outline["coordinates"]]
    moved = [[[(x + shift + 180) % 360 - 180, y] for x, y in ring] for ring in rings]
    try:
        here = read_polygon({"type": "Polygon", "coordinates": rings})
        there = read_polygon({"type": "Polygon", "coordinates": moved})
    except ValueError:
        return  # rounded flat
    assert here.contains(latitude, longitude) is there.contains(
        latitude, (longitude + shift + 180) % 360 - 180
    )
