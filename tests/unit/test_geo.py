"""Areas on the Earth's surface."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.core.geo import FARTHEST_KM, Box, Circle, distance_km
from dispatcher.core.geojson import read_polygon

FIJI = [[[176, -20], [-178, -20], [-178, -15], [176, -15], [176, -20]]]  # across the antimeridian
SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]
ARCTIC = [[[-180, 66], [180, 66], [180, 90], [-180, 90], [-180, 66]]]


def polygon(coordinates: Any, kind: str = "Polygon") -> Any:
    """Make a GeoJSON geometry."""
    return {"type": kind, "coordinates": coordinates}


@pytest.mark.parametrize(
    ("box", "latitude", "longitude", "expected"),
    [
        ((-10, -5, 10, 5), 0, 0, True),
        ((-10, -5, 10, 5), 5, 10, True),  # its corner
        ((-10, -5, 10, 5), 5.0001, 0, False),
        ((-10, -5, 10, 5), 0, 10.0001, False),
        ((170, -20, -170, 20), 0, 175, True),  # across the antimeridian
        ((170, -20, -170, 20), 0, -175, True),
        ((170, -20, -170, 20), 0, 180, True),
        ((170, -20, -170, 20), 0, -180, True),
        ((170, -20, -170, 20), 0, 169, False),
        ((170, -20, -170, 20), 0, 0, False),
        ((-180, -20, -170, 20), 0, 180, True),  # the same meridian
        ((0, 60, 10, 90), 90, -120, True),  # the pole lies on every meridian
        ((-180, -90, 180, 90), 12, 34, True),
    ],
)
def test_box(
    box: tuple[float, float, float, float], latitude: float, longitude: float, *, expected: bool
) -> None:
    """A box has its borders, may cross the antimeridian, and touches a pole on every meridian."""
    assert expected is Box.of(*box).contains(latitude, longitude)


@pytest.mark.parametrize(
    ("centre", "radius_km", "point", "expected"),
    [
        ((0, 0), 1, (0, 0), True),
        ((0, 179.9), 30, (0, -179.9), True),  # 22 km across the antimeridian
        ((0, 179.9), 20, (0, -179.9), False),
        ((89.9, 0), 30, (89.9, 180), True),  # 22 km across the pole
        ((89.9, 0), 20, (89.9, 180), False),
        ((90, 0), 1, (90, 77), True),
        ((19.43, -99.13), FARTHEST_KM, (-19.43, 80.87), True),  # the opposite point
        ((19.43, -99.13), 19_000, (-19.43, 80.87), False),
    ],
)
def test_circle(
    centre: tuple[float, float], radius_km: float, point: tuple[float, float], *, expected: bool
) -> None:
    """A circle crosses the antimeridian and the poles as if they were not there."""
    circle = Circle.around(*centre, radius_km)
    assert expected is circle.contains(*point)
    if expected:
        assert circle.bounds.contains(*point)


def test_distance_of_a_degree() -> None:
    """A degree of a great circle is 111.195 km, wherever."""
    assert distance_km((10, 0), (10, 1)) == pytest.approx(111.195, abs=0.001)
    assert distance_km((179.5, 0), (-179.5, 0)) == pytest.approx(111.195, abs=0.001)


@pytest.mark.parametrize(
    ("coordinates", "inside", "outside"),
    [
        ([SQUARE], [(5, 5), (0, 0), (10, 5), (5, 10)], [(5, -0.001), (10.001, 5), (-5, 5)]),
        ([SQUARE, HOLE], [(1, 1), (2, 5), (8, 8)], [(5, 5), (3, 7)]),
        ([SQUARE[::-1], HOLE], [(1, 1)], [(5, 5)]),  # whichever way round
        (
            FIJI,
            [(-17, 179), (-17, -179), (-17, 180), (-17, -180), (-20, 176)],
            [(-17, 175), (-17, -177), (-17, 0)],
        ),
        ([[[176, -20], [182, -20], [182, -15], [176, -15], [176, -20]]], [(-17, -179)], [(-17, -177)]),
        (
            [*FIJI, [[-179, -18], [179, -18], [179, -16], [-179, -16], [-179, -18]]],
            [(-19, 180), (-17, 178)],
            [(-17, 180), (-17, -179.5)],
        ),
        (ARCTIC, [(80, 0), (66, 100), (90, 12), (70, -180), (70, 180)], [(65.9, 0), (-80, 0)]),
    ],
)
def test_polygon(
    coordinates: Any, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    """A polygon has its borders and not its holes; it may cross the antimeridian in either spelling."""
    area = read_polygon(polygon(coordinates))
    assert inside == [point for point in inside + outside if area.contains(*point)]


@pytest.mark.parametrize("west", [*range(-180, 180, 30), 179.5])
def test_wide_polygon_however_its_longitudes_are_counted(west: float) -> None:
    """From -180 to 180, from 0 to 360 or on beyond that: the same area, be it nearly a turn wide."""
    edge = [west + step * 30 for step in range(12)]  # to 330 degrees east of it
    points = [(0, (west + offset + 180) % 360 - 180) for offset in range(5, 360, 10)]
    expected = [offset < 330 for offset in range(5, 360, 10)]
    for spelt in (
        [(x + 180) % 360 - 180 for x in edge],
        [x % 360 for x in edge],
        [-(-x % 360) for x in edge],
        [x for x in edge if -360 <= x <= 360],
    ):
        if len(spelt) == len(edge):
            ring = [[x, -5] for x in spelt] + [[x, 5] for x in reversed(spelt)] + [[spelt[0], -5]]
            area = read_polygon(polygon([ring]))
            assert expected == [area.contains(*point) for point in points], spelt


def test_multi_polygon_holds_what_one_of_its_parts_holds() -> None:
    """As RFC 7946 (3.1.9) wants an area cut at the antimeridian; each part has its own holes."""
    parts = [[SQUARE, HOLE], [[[170, -5], [180, -5], [180, 5], [170, 5], [170, -5]]]]
    area = read_polygon(polygon(parts, "MultiPolygon"))
    points = [(1, 1), (5, 5), (0, 175), (0, -180), (0, -179)]
    assert [(1, 1), (0, 175), (0, -180)] == [point for point in points if area.contains(*point)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (SQUARE, "must be a GeoJSON geometry"),
        ({"type": "Feature", "geometry": polygon([SQUARE])}, "must be a GeoJSON geometry"),
        (polygon([]), "must have at least one ring"),
        (polygon([SQUARE[:3]]), "must have rings of at least four positions"),
        (polygon([SQUARE[:4]]), "is not closed"),
        (polygon([[[0, 0], [1, "1"], [2, 2], [0, 0]]]), "must have positions of two numbers"),
        (polygon([[[0, 0], [1], [2, 2], [0, 0]]]), "must have positions of two numbers"),
        (polygon([[[37.7, -122.4], [38, -122], [38, -123], [37.7, -122.4]]]), "longitude comes first"),
        (polygon([[[0, 0], [1, 1], [2, 2], [0, 0]]]), "without an area"),
        (polygon([[[0, 0], [0, 0], [0, 0], [0, 0]]]), "without an area"),
        (polygon([[[0, 60], [120, 60], [-120, 60], [0, 60.5], [0, 60]]]), "around a pole"),
        (polygon([[[x / 10, x % 2] for x in range(2100)] + [[0, 0]]]), "has 2101 positions"),
        ({**polygon([SQUARE]), "radius": 3}, 'holds "radius"'),
        ({**polygon([SQUARE]), "bbox": [0, 0, 10, [10]]}, "must have a bbox of four or six numbers"),
        ({**polygon([SQUARE]), "bbox": [0, 0, 10, 10, 10]}, "must have a bbox of four or six numbers"),
    ],
)
def test_bad_polygon_is_refused(given: Any, words: str) -> None:
    """With what is wrong in words."""
    with pytest.raises(ValueError, match=words):
        read_polygon(given)
