"""Areas on the Earth's surface, and whether a point lies in one: circle, box, polygon.

How this works. Latitudes are degrees from -90 to 90, longitudes from -180 to 180. An area may cross the
antimeridian: its longitudes are then unrolled, beyond 180, and a point is tried at its longitude and at one
turn more and less. Distances are those of the sphere of the Earth's mean radius: at most 0.6 % off the
ellipsoid's. Borders belong to an area. Polygons are GeoJSON's (RFC 7946): their sides are straight lines in
longitude and latitude (3.1.1), and a side that spans more than 180 degrees goes the short way round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

EARTH_RADIUS_KM: Final = 6371.0088  # the mean radius of the IUGG
FARTHEST_KM: Final = math.pi * EARTH_RADIUS_KM  # half way round
_ROUNDING: Final = 1e-9  # degrees, a tenth of a millimetre

Point: TypeAlias = tuple[float, float]  # longitude, latitude: the order of GeoJSON
Ring: TypeAlias = tuple[Point, ...]  # closed: the last point is the first; longitudes unrolled


def unit_vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    """Give the point of the unit sphere."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    return math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)


def distance_km(one: Point, other: Point) -> float:
    """Give the length of the great circle's arc between two points."""
    x, y, z = unit_vector(one[1], one[0])
    p, q, r = unit_vector(other[1], other[0])
    chord = math.sqrt((x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2)
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, chord / 2))


class Box(msgspec.Struct, frozen=True):
    """What lies between two meridians and two parallels; `east` is west + 360 at most, so it may pass 180."""

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def of(cls, west: float, south: float, east: float, north: float) -> Box:
        """Make the box that goes from `west` eastwards, across the antimeridian where east < west."""
        return cls(west, south, east + 360 if east < west else east, north)

    @property
    def bounds(self) -> Box:
        """Itself."""
        return self

    def contains(self, latitude: float, longitude: float) -> bool:
        """Say whether a point lies in it. A pole lies on every meridian."""
        if not self.south <= latitude <= self.north:
            return False
        return abs(latitude) == 90 or any(
            self.west <= turned <= self.east for turned in (longitude, longitude + 360, longitude - 360)
        )


class Circle(msgspec.Struct, frozen=True):
    """What lies within a distance of a point; x, y, z and the square of the chord are on the unit sphere."""

    latitude: float
    longitude: float
    radius_km: float
    x: float
    y: float
    z: float
    chord2: float

    @classmethod
    def around(cls, latitude: float, longitude: float, radius_km: float) -> Circle:
        """Make the circle; a radius from `FARTHEST_KM` on covers everything."""
        angle = min(radius_km / EARTH_RADIUS_KM, math.pi)
        chord2 = 4.0 if angle == math.pi else 4 * math.sin(angle / 2) ** 2
        rounded = chord2 * (1 + 1e-14) + 1e-30  # the centre itself, and the opposite point, are in it
        return cls(latitude, longitude, radius_km, *unit_vector(latitude, longitude), rounded)

    @property
    def bounds(self) -> Box:
        """Give a box around it: every longitude, where it reaches a pole."""
        reach = math.degrees(min(self.radius_km / EARTH_RADIUS_KM, math.pi)) + _ROUNDING
        south, north = self.latitude - reach, self.latitude + reach
        if south <= -90 or north >= 90:
            return Box(-180, max(south, -90), 180, min(north, 90))
        sine = math.sin(math.radians(reach)) / math.cos(math.radians(self.latitude))
        width = math.degrees(math.asin(min(1.0, sine))) + _ROUNDING
        return Box(self.longitude - width, south, self.longitude + width, north)

    def contains(self, latitude: float, longitude: float) -> bool:
        """Say whether a point lies in it."""
        x, y, z = unit_vector(latitude, longitude)
        return (x - self.x) ** 2 + (y - self.y) ** 2 + (z - self.z) ** 2 <= self.chord2


class Polygon(msgspec.Struct, frozen=True):
    """One or more outlines, each with the holes in it."""

    parts: tuple[tuple[Ring, ...], ...]
    bounds: Box

    @classmethod
    def of(cls, parts: Sequence[Sequence[Sequence[Point]]]) -> Polygon:
        """Make it of GeoJSON's rings: of each part the outline, then its holes.

        Raises ValueError for a ring that goes around a pole: it has no inside in longitude and latitude.
        """
        unrolled = tuple(tuple(unroll(ring) for ring in rings) for rings in parts)
        points = [point for rings in unrolled for point in rings[0]]
        longitudes, latitudes = [point[0] for point in points], [point[1] for point in points]
        west, east = min(longitudes), max(longitudes)
        if east - west > 360:
            west, east = -180.0, 180.0
        return cls(unrolled, Box(west, min(latitudes), east, max(latitudes)))

    def contains(self, latitude: float, longitude: float) -> bool:
        """Say whether a point lies in it; the border of a hole belongs to the polygon."""
        if not self.bounds.south <= latitude <= self.bounds.north:
            return False
        return any(
            _place(rings[0], longitude, latitude) >= 0
            and not any(_place(hole, longitude, latitude) > 0 for hole in rings[1:])
            for rings in self.parts
        )


Area: TypeAlias = Box | Circle | Polygon


def unroll(ring: Sequence[Point]) -> Ring:
    """Let a ring's longitudes go on where it crosses the antimeridian.

    A side of more than 180 degrees goes the other, shorter way; one of just 360 goes all the way round, as
    in a band around the Earth. The ring begins from -180 to 180, however its longitudes are counted, so that
    one that goes eastwards or westwards from there is reached in one turn. Raises ValueError for a ring that
    comes back a whole turn away.
    """
    begins = turn = -360.0 * round(ring[0][0] / 360)
    unrolled = [(ring[0][0] + turn, ring[0][1])]
    for (before, _), (longitude, latitude) in pairwise(ring):
        side = longitude - before
        if 180 < abs(side) != 360:
            turn -= 360 * round(side / 360)
        unrolled.append((longitude + turn, latitude))
    if turn != begins:
        raise ValueError(
            "has a ring around a pole: give it sides along -180, the pole and 180, or use lat, lon and radius"
        )
    return tuple(unrolled)


def _place(ring: Ring, longitude: float, latitude: float) -> int:
    """Say where a point lies: 1 inside of a ring, 0 on it, -1 outside; by the even-odd rule."""
    here = _unturned_place(ring, longitude, latitude)
    if here >= 0:
        return here
    return max(
        _unturned_place(ring, longitude + 360, latitude), _unturned_place(ring, longitude - 360, latitude)
    )


def _unturned_place(ring: Ring, longitude: float, latitude: float) -> int:
    inside = False
    x1, y1 = ring[0]
    for x2, y2 in ring[1:]:
        if y1 == y2 == latitude:
            if min(x1, x2) <= longitude <= max(x1, x2):
                return 0
        elif min(y1, y2) <= latitude <= max(y1, y2):
            # Positive: the point lies to the left of the side as it goes north.
            side = (x2 - x1) * (latitude - y1) - (longitude - x1) * (y2 - y1)
            if side == 0:
                return 0
            if (y1 > latitude) is not (y2 > latitude) and (side > 0) is (y2 > y1):
                inside = not inside
        x1, y1 = x2, y2
    return 1 if inside else -1
