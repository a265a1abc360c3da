"""Reads a webhook's filter as a client writes it, and names everything that is wrong with it.

The words have no subject: they follow the name of the field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from dispatcher.core.filter import Filter
from dispatcher.core.geo import FARTHEST_KM, Area, Box, Circle
from dispatcher.core.geojson import is_number, read_polygon
from dispatcher.core.webhook import closest

MAX_STATIONS: Final = 1000
MAX_NAME: Final = 100  # characters of a station's code
MAGNITUDES: Final = (-10, 10)
DEPTHS_KM: Final = (-100, 7000)
MAX_RADIUS_KM: Final = math.ceil(FARTHEST_KM)
_CIRCLE: Final = ("lat", "lon", "radius")
_ELSEWHERE: Final = {
    "network_ids": "stands beside filter, in the webhook itself",
    "events": "stands beside filter, in the webhook itself",
}


def read_filter(given: Mapping[str, Any]) -> Filter:
    """Make a filter of what a client gave; raises ValueError, with the first problem, for a bad one."""
    problems = filter_problems(given)
    if problems:
        field, words = problems[0]
        raise ValueError(f"{field} {words}" if field else words)
    areas: list[Area] = []
    if "radius" in given:
        areas.append(Circle.around(given["lat"], given["lon"], given["radius"]))
    if "bbox" in given:
        areas.append(Box.of(*map(float, given["bbox"])))
    if "polygon" in given:
        areas.append(read_polygon(given["polygon"]))
    stations = given.get("station_codes")
    return Filter.of(
        min_magnitude=given.get("min_magnitude"),
        max_magnitude=given.get("max_magnitude"),
        max_depth_km=given.get("max_depth_km"),
        areas=tuple(areas),
        station_codes=None if stations is None else frozenset(stations),
        include_unknown=given.get("include_unknown", False),
    )


def filter_problems(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name what is wrong: (field, words), one for each bad field; the field is empty for the whole."""
    problems = [
        (name[:MAX_NAME], _ELSEWHERE.get(name) or f"is not a known field{closest(name, _JUDGES.keys())}")
        for name in given
        if name not in _JUDGES
    ]
    wrong = {
        name: words for name, judge in _JUDGES.items() if name in given and (words := judge(given[name]))
    }
    if "min_magnitude" in given and "max_magnitude" in given and not wrong.keys() & _MAGNITUDE:
        low, high = given["min_magnitude"], given["max_magnitude"]
        if low > high:
            wrong["max_magnitude"] = f"must not be less than min_magnitude, {low:g}"
    if any(name in given for name in _CIRCLE):
        wrong |= {
            name: "is required: lat, lon and radius belong together" for name in _CIRCLE if name not in given
        }
    if not problems and not given.keys() & (_JUDGES.keys() - {"include_unknown"}):
        problems.append(("", "must hold a condition; null takes a filter away"))
    return [*problems, *wrong.items()]


def _between(low: float, high: float) -> Callable[[Any], str]:
    def judge(value: Any) -> str:
        if not is_number(value):
            return f"must be a number, not {_kind(value)}"
        return "" if low <= value <= high else f"must be from {low:g} to {high:g}, is {value:g}"

    return judge


def _radius(value: Any) -> str:
    return _between(0, MAX_RADIUS_KM)(value) or ("" if value > 0 else "must be more than 0 km")


def _bbox(value: Any) -> str:
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        return "must be [west, south, east, north], four numbers in degrees"
    west, south, east, north = value
    if not (-180 <= west <= 180 and -180 <= east <= 180):
        return "must have west and east from -180 to 180; across the antimeridian west is the greater"
    if not -90 <= south <= north <= 90:
        return "must have south and north from -90 to 90, south not above north"
    return ""


def _stations(value: Any) -> str:
    if not isinstance(value, list) or not all(
        isinstance(one, str) and 0 < len(one) <= MAX_NAME for one in value
    ):
        return f"must be a list of station codes, texts of 1 to {MAX_NAME} characters"
    if not 0 < len(value) <= MAX_STATIONS:
        return f"must have 1 to {MAX_STATIONS} entries, has {len(value)}"
    again = sorted({one for one in value if value.count(one) > 1}) if len(set(value)) < len(value) else []
    return f'holds "{again[0]}" more than once' if again else ""


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else f"must be true or false, not {_kind(value)}"


def _polygon(value: Any) -> str:
    try:
        read_polygon(value)
    except ValueError as error:
        return str(error)
    return ""


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number out of range")


_JUDGES: Final[Mapping[str, Callable[[Any], str]]] = {
    "min_magnitude": _between(*MAGNITUDES),
    "max_magnitude": _between(*MAGNITUDES),
    "max_depth_km": _between(*DEPTHS_KM),
    "lat": _between(-90, 90),
    "lon": _between(-180, 180),
    "radius": _radius,
    "bbox": _bbox,
    "polygon": _polygon,
    "station_codes": _stations,
    "include_unknown": _flag,
}
_MAGNITUDE: Final = {"min_magnitude", "max_magnitude"}
