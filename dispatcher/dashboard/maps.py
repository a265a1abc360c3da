"""A small map of where a webhook listens and where its last events were, drawn from coordinates alone.

How this works: outlines and epicentres are put on a plane (longitude shrunk by the cosine of the latitude in
the middle), seen from a meridian in their midst, so that what lies across the antimeridian stays together.
There are no tiles and no coasts; lines of latitude and longitude say where it is. Strange areas (around a
pole, all of the earth) are drawn as far as a plane can.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from dispatcher.store.attempts import Epicentre

WIDTH: Final = 720.0
HEIGHT: Final = 320.0
_MARGIN: Final = 1.25  # of what is shown
_LEAST_DEG: Final = 1.0  # on each side of the middle
_STEPS_DEG: Final = (0.5, 1, 2, 5, 10, 15, 30, 60, 90)
_MOST_LINES: Final = 7
_KM_A_DEG: Final = 111.195
_CORNERS: Final = 72  # of a circle

Position: TypeAlias = tuple[float, float]  # longitude, latitude
Outline: TypeAlias = Sequence[Position]


class Mark(msgspec.Struct, frozen=True):
    """An epicentre on the map."""

    x: float
    y: float
    radius: float
    epicentre: Epicentre


class Line(msgspec.Struct, frozen=True):
    """A line of latitude or longitude, and what it is called."""

    place: float
    name: str


class Map:
    """What is drawn; `shown` is false where nothing has a place."""

    width: Final = WIDTH
    height: Final = HEIGHT

    def __init__(self, condition: Mapping[str, Any] | None, epicentres: Sequence[Epicentre]) -> None:
        self.epicentres: Final = epicentres
        outlines = list(_outlines(condition or {}))
        first = next((outline[0][0] for outline in outlines), epicentres[0].longitude if epicentres else 0.0)
        self._meridian: Final = first
        outlines = [self._unrolled(outline) for outline in outlines]
        points = [point for outline in outlines for point in outline]
        points += [(self._unwrapped(one.longitude), one.latitude) for one in epicentres]
        self.shown: Final = bool(points)
        xs = [longitude for longitude, _ in points] or [0.0]
        ys = [latitude for _, latitude in points] or [0.0]
        self._middle: Final = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        self._shrink: Final = max(0.2, math.cos(math.radians(self._middle[1])))
        half_x = max((max(xs) - min(xs)) / 2 * self._shrink, _LEAST_DEG) * _MARGIN
        half_y = max((max(ys) - min(ys)) / 2, _LEAST_DEG) * _MARGIN
        self._scale: Final = min(WIDTH / 2 / half_x, HEIGHT / 2 / half_y)
        self.outlines: Final = [self._path(outline) for outline in outlines]

    @property
    def marks(self) -> Iterator[Mark]:
        """Give the epicentres, the oldest first, so that the newest lies on top."""
        for one in reversed(self.epicentres):
            x, y = self._place(self._unwrapped(one.longitude), one.latitude)
            yield Mark(x, y, round(3 + 1.4 * max(0.0, min(one.magnitude or 0.0, 9.0)), 1), one)

    @property
    def meridians(self) -> list[Line]:
        """Give lines of longitude."""
        reach = WIDTH / 2 / self._scale / self._shrink
        return [
            Line(self._place(degrees, 0)[0], _named((degrees + 180) % 360 - 180))
            for degrees in _lines(self._middle[0] - reach, self._middle[0] + reach)
        ]

    @property
    def parallels(self) -> list[Line]:
        """Give lines of latitude."""
        reach = HEIGHT / 2 / self._scale
        south, north = max(self._middle[1] - reach, -90), min(self._middle[1] + reach, 90)
        return [Line(self._place(0, degrees)[1], _named(degrees)) for degrees in _lines(south, north)]

    def _unwrapped(self, longitude: float, near: float | None = None) -> float:
        """Give a longitude within half a turn of a meridian."""
        meridian = self._meridian if near is None else near
        return meridian + (longitude - meridian + 180) % 360 - 180

    def _place(self, x: float, y: float) -> Position:
        right = (x - self._middle[0]) * self._shrink * self._scale
        return round(WIDTH / 2 + right, 1), round(HEIGHT / 2 - (y - self._middle[1]) * self._scale, 1)

    def _unrolled(self, outline: Outline) -> Outline:
        """Give an outline whose corners each lie near the one before."""
        points = []
        near = self._meridian
        for longitude, latitude in outline:
            near = self._unwrapped(longitude, near)
            points.append((near, latitude))
        return points

    def _path(self, outline: Outline) -> str:
        """Give an outline as points of SVG."""
        return " ".join("{},{}".format(*self._place(x, y)) for x, y in outline)


def _outlines(condition: Mapping[str, Any]) -> Iterator[Outline]:
    if "radius" in condition:
        yield _circle(condition["lon"], condition["lat"], condition["radius"])
    if "bbox" in condition:
        west, south, east, north = condition["bbox"]
        east += 360 if east < west else 0
        steps = [west + (east - west) * step / 8 for step in range(9)]
        yield [*((x, south) for x in steps), *((x, north) for x in reversed(steps))]
    outline = condition.get("polygon")
    if outline is not None:
        parts = [outline["coordinates"]] if outline["type"] == "Polygon" else outline["coordinates"]
        for rings in parts:
            yield [(position[0], position[1]) for position in rings[0]]


def _circle(longitude: float, latitude: float, radius_km: float) -> Outline:
    """Give points of a circle on the sphere, clockwise from the north."""
    angle = math.radians(min(radius_km / _KM_A_DEG, 179.0))
    centre = math.radians(latitude)
    points = []
    for corner in range(_CORNERS):
        bearing = 2 * math.pi * corner / _CORNERS
        sine = math.sin(centre) * math.cos(angle) + math.cos(centre) * math.sin(angle) * math.cos(bearing)
        north = math.asin(max(-1.0, min(1.0, sine)))
        east = math.atan2(
            math.sin(bearing) * math.sin(angle) * math.cos(centre),
            math.cos(angle) - math.sin(centre) * math.sin(north),
        )
        points.append((longitude + math.degrees(east), math.degrees(north)))
    return points


def _lines(low: float, high: float) -> Iterable[float]:
    step = next((one for one in _STEPS_DEG if (high - low) / one <= _MOST_LINES), _STEPS_DEG[-1])
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _named(degrees: float) -> str:
    return f"{degrees:g}°".replace("-", "\N{MINUS SIGN}")
