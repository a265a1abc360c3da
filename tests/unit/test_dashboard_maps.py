"""The map of the dashboard: everything is on it, and what belongs together stays together."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from dispatcher.dashboard.maps import HEIGHT, WIDTH, Map
from dispatcher.store.attempts import Epicentre

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def epicentre(longitude: float, latitude: float, magnitude: float | None = 5.0) -> Epicentre:
    """Give an event's place."""
    return Epicentre(NOW, longitude, latitude, magnitude, "somewhere")


def corners(drawn: Map) -> list[tuple[float, float]]:
    """Give every corner of every outline."""
    return [
        (float(x), float(y))
        for outline in drawn.outlines
        for x, y in (point.split(",") for point in outline.split())
    ]


def test_nothing_with_a_place_is_no_map() -> None:
    """A filter by magnitude alone, and no event yet."""
    assert not Map({"min_magnitude": 5}, []).shown
    assert not Map(None, []).shown


@pytest.mark.parametrize(
    ("condition", "places"),
    [
        ({"lat": 19.43, "lon": -99.13, "radius": 500}, [(-99, 17), (-102, 18)]),
        ({"bbox": [170, -20, -170, 20]}, [(179.9, 0), (-179.9, 1)]),
        ({"polygon": {"type": "Polygon", "coordinates": [[[179, 0], [-179, 0], [-179, 2], [179, 0]]]}}, []),
        ({"lat": 89, "lon": 0, "radius": 1000}, [(120, 88)]),
        ({"lat": 0, "lon": 0, "radius": 20_015}, []),
        ({"bbox": [-180, -90, 180, 90]}, [(0, 0)]),
        (None, [(-150, 61, None), (-150, 61), (-149, -90)]),
        (None, [(12, 42)]),
    ],
)
def test_everything_is_on_the_map(condition: dict[str, Any] | None, places: list[tuple[float, ...]]) -> None:
    """Circles, boxes and outlines, also across the antimeridian and around a pole; and every event."""
    drawn = Map(condition, [epicentre(*place) for place in places])
    assert drawn.shown
    for x, y in [*corners(drawn), *((mark.x, mark.y) for mark in drawn.marks)]:
        assert -1 <= x <= WIDTH + 1
        assert -1 <= y <= HEIGHT + 1
    assert 1 <= len(drawn.meridians) <= 9
    assert 1 <= len(drawn.parallels) <= 9
    assert len(places) == len(list(drawn.marks))


def test_what_lies_across_the_antimeridian_stays_together() -> None:
    """Two events a degree apart are near each other, not at both ends of the world."""
    drawn = Map({"bbox": [179, -1, -179, 1]}, [epicentre(179.5, 0), epicentre(-179.5, 0)])
    one, other = drawn.marks
    assert abs(one.x - other.x) < WIDTH / 2
    assert {"179°", "\N{MINUS SIGN}179°"} & {line.name for line in drawn.meridians}


def test_north_is_up_and_east_is_right() -> None:
    """And the stronger event has the larger mark."""
    drawn = Map(None, [epicentre(10, 50, 7), epicentre(9, 49, 2), epicentre(9.5, 49.5, None)])
    unknown, weak, strong = sorted(drawn.marks, key=lambda mark: mark.radius)
    assert strong.x > weak.x
    assert strong.y < weak.y
    assert unknown.radius < weak.radius < strong.radius
