"""Reads the outline of an area as GeoJSON writes it: a Polygon or MultiPolygon geometry (RFC 7946, 3.1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from dispatcher.core.geo import Point, Polygon

MAX_VERTICES: Final = 2000
MAX_SHOWN: Final = 100  # characters of what a client wrote
Rings: TypeAlias = list[list[Point]]


def read_polygon(value: Any) -> Polygon:
    """Make the area; raises ValueError in words that follow the field's name."""
    return Polygon.of(_parts(value))


def is_number(value: Any) -> bool:
    """Say whether a value is a number, which true is not, and not an enormous one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def _parts(value: Any) -> list[Rings]:
    match value:
        case {"type": "Polygon", "coordinates": list(rings), **more}:
            parts: list[Any] = [rings]
        case {"type": "MultiPolygon", "coordinates": list(found), **more}:
            parts = found
        case _:
            raise ValueError("must be a GeoJSON geometry of the type Polygon or MultiPolygon")
    if unknown := sorted(str(name) for name in more.keys() - {"bbox"}):
        raise ValueError(f'holds "{unknown[0][:MAX_SHOWN]}", which a GeoJSON geometry does not have')
    match more.get("bbox"):
        case None | [_, _, _, _] | [_, _, _, _, _, _] as box if all(map(is_number, box or ())):
            pass
        case _:
            raise ValueError("must have a bbox of four or six numbers, or none")
    if not parts or not all(isinstance(part, list) and part for part in parts):
        raise ValueError("must have at least one ring")
    read = [[_ring(ring) for ring in part] for part in parts]
    count = sum(len(ring) for part in read for ring in part)
    if count > MAX_VERTICES:
        raise ValueError(f"has {count} positions, at most {MAX_VERTICES} are allowed")
    return read


def _ring(ring: Any) -> list[Point]:
    if not isinstance(ring, list) or len(ring) < 4:
        raise ValueError("must have rings of at least four positions, of which the last is the first again")
    points = []
    for position in ring:
        if not isinstance(position, list) or not 2 <= len(position) <= 3 or not all(map(is_number, position)):
            raise ValueError("must have positions of two numbers, longitude and latitude")
        longitude, latitude = position[:2]
        if not (-360 <= longitude <= 360 and -90 <= latitude <= 90):
            raise ValueError(
                f"has the position [{longitude:g}, {latitude:g}]: longitude comes first, latitude is up to 90"
            )
        points.append((float(longitude), float(latitude)))
    if points[0] != points[-1]:
        raise ValueError("has a ring that is not closed: its last position must be its first")
    if _is_flat(points):
        raise ValueError("has a ring without an area")
    return points


def _is_flat(points: Sequence[Point]) -> bool:
    (x0, y0), *others = points
    sides = [(x - x0, y - y0) for x, y in others if (x, y) != (x0, y0)]
    return all(x * sides[0][1] == y * sides[0][0] for x, y in sides)
