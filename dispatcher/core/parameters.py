"""What an event says of itself, as far as filters ask: magnitude, depth, place, station."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

Field: TypeAlias = Literal["magnitude", "depth", "location", "station"]

# The fields of `data` that a filter's conditions ask for.
NAMES: Final[Mapping[Field, tuple[str, ...]]] = {
    "magnitude": ("magnitude",),
    "depth": ("depth_km",),
    "location": ("latitude", "longitude"),
    "station": ("station_code",),
}


class Parameters(msgspec.Struct, frozen=True):
    """One state of an event. `has` is what it could say; what it does not know is None."""

    has: frozenset[Field]
    magnitude: float | None = None
    depth_km: float | None = None
    location: tuple[float, float] | None = None  # latitude, longitude
    station_code: str | None = None


NOTHING: Final = Parameters(has=frozenset())  # no condition applies to it


def parse_data(text: str) -> Mapping[str, Any]:
    """Read `data` as it stands in the outbox: halves of surrogate pairs, which msgspec refuses, included."""
    data: dict[str, Any] = json.loads(text)
    return data


def read_parameters(data: Mapping[str, Any], declared: Collection[str]) -> Parameters:
    """Read an event's data; `declared` are the fields that its type registers.

    An event has a field when its type registers it or the data holds it, be it as null.
    """
    latitude, longitude = _number(data.get("latitude")), _number(data.get("longitude"))
    located = (
        latitude is not None and longitude is not None and -90 <= latitude <= 90 and -180 <= longitude <= 180
    )
    station = data.get("station_code")
    return Parameters(
        has=frozenset(
            field for field, names in NAMES.items() if any(name in declared or name in data for name in names)
        ),
        magnitude=_number(data.get("magnitude")),
        depth_km=_number(data.get("depth_km")),
        location=(latitude, longitude) if located else None,  # type: ignore[arg-type]
        station_code=station if isinstance(station, str) else None,
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
