"""The JSON Schema of a webhook's filter, for readers and for generators of clients.

`core.filter_form` judges. What a schema cannot say stands in the descriptions: that a ring is
closed, that the least is not above the greatest.
"""

from __future__ import annotations

from typing import Any, Final

from dispatcher.core.filter_form import (
    DEPTHS_KM,
    MAGNITUDES,
    MAX_NAME,
    MAX_RADIUS_KM,
    MAX_STATIONS,
)


def _number(low: float, high: float, description: str) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, "description": description}


_POSITION: Final = {
    "type": "array",
    "minItems": 2,
    "maxItems": 3,
    "prefixItems": [
        {"type": "number", "minimum": -360, "maximum": 360},
        {"type": "number", "minimum": -90, "maximum": 90},
    ],
    "items": {"type": "number"},
}
_RINGS: Final = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 4, "items": _POSITION},
}
FILTER_SCHEMA: Final[dict[str, Any]] = {
    "properties": {
        "min_magnitude": _number(*MAGNITUDES, "Not smaller than this"),
        "max_magnitude": _number(*MAGNITUDES, "Not greater than this; not below min_magnitude"),
        "max_depth_km": _number(*DEPTHS_KM, "Not deeper than this"),
        "lat": _number(-90, 90, "The centre of a circle; lat, lon and radius belong together"),
        "lon": _number(-180, 180, "The centre of a circle"),
        "radius": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_RADIUS_KM,
            "description": "How far from the centre, in kilometres along the great circle",
        },
        "bbox": {
            "type": "array",
            "prefixItems": [
                {"type": "number", "minimum": -180, "maximum": 180},
                {"type": "number", "minimum": -90, "maximum": 90},
                {"type": "number", "minimum": -180, "maximum": 180},
                {"type": "number", "minimum": -90, "maximum": 90},
            ],
            "minItems": 4,
            "maxItems": 4,
            "items": False,
            "description": "[west, south, east, north] in degrees; west > east crosses the antimeridian",
        },
        "polygon": {
            "type": "object",
            "oneOf": [
                {
                    "properties": {"type": {"const": "Polygon"}, "coordinates": _RINGS},
                },
                {
                    "properties": {
                        "type": {"const": "MultiPolygon"},
                        "coordinates": {"type": "array", "minItems": 1, "items": _RINGS},
                    },
                },
            ],
            "required": ["type", "coordinates"],
            "properties": {
                "bbox": {
                    "type": ["array", "null"],
                    "items": {"type": "number"},
                    "minItems": 4,
                    "maxItems": 6,
                },
            },
            "description": "A GeoJSON Polygon or MultiPolygon: of each part the outline, then the holes, all"
            " rings closed; sides of more than 180 degrees cross the antimeridian",
        },
        "station_codes": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_STATIONS,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": r"^[^\u0000]*$"},
            "description": "Only these stations",
        },
        "include_unknown": {
            "type": "boolean",
            "description": "Let what an event does not know (null, absent) satisfy a condition on it",
        },
    },
    "additionalProperties": False,
    "dependentRequired": {"lat": ["lon", "radius"], "lon": ["lat", "radius"], "radius": ["lat", "lon"]},
    "anyOf": [
        {"required": [name]}
        for name in (
            *("min_magnitude", "max_magnitude", "max_depth_km", "radius", "bbox", "polygon", "station_codes"),
        )
    ],
}
