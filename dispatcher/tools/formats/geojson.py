"""Reads earthquakes in GeoJSON as the feeds of USGS and EMSC write them.

A document is a FeatureCollection or one Feature, or EMSC's message {"action": …, "data": Feature}. USGS has
the depth in kilometres as the third coordinate; EMSC has it there as a height, and positive in `depth`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dispatcher.tools.formats.quake import NoQuakeError, Quake, moment, number, number_or_none


def read_geojson(document: bytes) -> Iterator[Quake | str]:
    """Give the earthquakes of a document; a text for what is none. Raises `NoQuakeError` for another one."""
    try:
        read = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise NoQuakeError(f"expected GeoJSON: {error}") from None
    match read:
        case {"type": "FeatureCollection", "features": list(features)}:
            pass
        case {"type": "Feature"}:
            features = [read]
        case {"action": str(), "data": {"type": "Feature"} as feature}:
            features = [feature]
        case _:
            raise NoQuakeError("expected a GeoJSON Feature or FeatureCollection")
    for feature in features:
        try:
            yield _quake(feature)
        except NoQuakeError as error:
            yield str(error)


def _quake(feature: Any) -> Quake:
    match feature:
        case {"geometry": {"coordinates": [longitude, latitude, *rest]}, "properties": dict(properties)}:
            pass
        case _:
            raise NoQuakeError("expected a feature with a point and properties")
    if properties.get("status") == "deleted":
        raise NoQuakeError("the event was deleted at its source")
    event_id = feature.get("id") or properties.get("unid")
    if not isinstance(event_id, str):
        raise NoQuakeError("id: expected the event's id")
    depth = properties["depth"] if "depth" in properties else next(iter(rest), None)
    place = properties.get("place") or properties.get("flynn_region")
    kind = properties.get("magType") or properties.get("magtype")
    return Quake(
        event_id=event_id,
        origin_time=moment(properties.get("time"), "properties.time"),
        latitude=number(latitude, "latitude"),
        longitude=number(longitude, "longitude"),
        depth_km=number_or_none(depth, "depth"),
        magnitude=number_or_none(properties.get("mag"), "properties.mag"),
        magnitude_type=kind if isinstance(kind, str) else None,
        location_description=place if isinstance(place, str) else None,
    )
