"""A webhook's filter: what it accepts, and which filters are refused."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.core.filter_form import filter_problems, read_filter
from dispatcher.core.parameters import parse_data, read_parameters

DETECTED = {"event_id", "latitude", "longitude", "depth_km", "magnitude"}
SENSOR = {"sensor_id", "station_code"}
QUAKE = {"event_id": "evt_1", "latitude": 19.4, "longitude": -99.1, "depth_km": 10.0, "magnitude": 4.5}
SQUARE = [[-100, 19], [-99, 19], [-99, 20], [-100, 20], [-100, 19]]


def accepts(given: dict[str, Any], data: dict[str, Any], declared: set[str]) -> bool:
    """Try one filter on one event."""
    return read_filter(given).accepts(read_parameters(data, declared))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"min_magnitude": 4.5}, True),
        ({"min_magnitude": 4.51}, False),
        ({"max_magnitude": 4.5}, True),
        ({"max_magnitude": 4}, False),
        ({"max_depth_km": 10}, True),
        ({"max_depth_km": 9.9}, False),
        ({"lat": 19, "lon": -99, "radius": 50}, True),
        ({"lat": 19, "lon": -99, "radius": 40}, False),
        ({"bbox": [-100, 19, -99, 20]}, True),
        ({"bbox": [-99, 19, -100, 20]}, False),
        ({"polygon": {"type": "Polygon", "coordinates": [SQUARE]}}, True),
        ({"min_magnitude": 4, "bbox": [-100, 19, -99, 20], "max_depth_km": 5}, False),
        ({"bbox": [-100, 19, -99, 20], "lat": 0, "lon": 0, "radius": 100}, False),
        ({"station_codes": ["GRIL01"]}, True),  # an earthquake has no station
    ],
)
def test_all_conditions_must_hold(given: dict[str, Any], *, expected: bool) -> None:
    """Bounds belong to what they bound."""
    assert expected is accepts(given, QUAKE, DETECTED)


@pytest.mark.parametrize("absent", [True, False])
@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"min_magnitude": -5}, ["magnitude"]),
        ({"max_magnitude": 9}, ["magnitude"]),
        ({"max_depth_km": 700}, ["depth_km"]),
        ({"bbox": [-180, -90, 180, 90]}, ["latitude"]),
        ({"lat": 0, "lon": 0, "radius": 20016}, ["longitude"]),
    ],
)
def test_the_unknown_satisfies_no_bound(given: dict[str, Any], fields: list[str], *, absent: bool) -> None:
    """A field that the type has and that is null or absent matches only where `include_unknown` says so."""
    data: dict[str, Any] = {name: value for name, value in QUAKE.items() if name not in fields}
    if not absent:
        data |= dict.fromkeys(fields)
    assert not accepts(given, data, DETECTED)
    assert accepts({**given, "include_unknown": True}, data, DETECTED)
    assert accepts({"max_magnitude": 9} if fields != ["magnitude"] else {"max_depth_km": 99}, data, DETECTED)


def test_the_unknown_does_not_make_up_for_the_known() -> None:
    """`include_unknown` lets nothing in that is known to be out."""
    unknown = {**QUAKE, "magnitude": None, "depth_km": 700}
    assert not accepts({"min_magnitude": 4, "max_depth_km": 70, "include_unknown": True}, unknown, DETECTED)


def test_a_condition_applies_where_the_field_is() -> None:
    """A sensor has no magnitude; a station's code it has; an operator's type has what its events hold."""
    offline = {"sensor_id": "sen_1", "station_code": "GRIL01"}
    assert accepts({"min_magnitude": 9}, offline, SENSOR)
    assert accepts({"bbox": [0, 0, 1, 1]}, offline, SENSOR)
    assert accepts({"station_codes": ["GRIL01", "GRIL02"]}, offline, SENSOR)
    assert not accepts({"station_codes": ["GRIL02"]}, offline, SENSOR)
    assert not accepts({"station_codes": ["GRIL02"]}, {}, SENSOR)
    assert not accepts({"min_magnitude": 3}, {"magnitude": 2.5}, set())
    assert accepts({"min_magnitude": 3}, {"magnitude": 3.5}, set())
    assert not accepts({"min_magnitude": 3}, {"magnitude": "strong"}, set())


def test_the_outbox_spellings_are_read() -> None:
    """Halves of surrogate pairs, the last of duplicate keys, numbers beyond what is sensible."""
    data = parse_data('{"a":"\\ud800","magnitude":1,"magnitude":6,"latitude":91,"longitude":0}')
    assert not read_filter({"bbox": [-180, -90, 180, 90]}).accepts(read_parameters(data, DETECTED))
    assert read_filter({"min_magnitude": 6}).accepts(read_parameters(data, DETECTED))
    assert read_filter({"max_magnitude": 6, "include_unknown": True}).accepts(
        read_parameters({"magnitude": 10**400}, DETECTED)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [("", "must hold a condition; null takes a filter away")]),
        ({"include_unknown": True}, [("", "must hold a condition; null takes a filter away")]),
        ({"min_magnitud": 4}, [("min_magnitud", 'is not a known field; did you mean "min_magnitude"?')]),
        ({"network_ids": ["a"]}, [("network_ids", "stands beside filter, in the webhook itself")]),
        ({"min_magnitude": "4"}, [("min_magnitude", "must be a number, not a string")]),
        ({"min_magnitude": None}, [("min_magnitude", "must be a number, not null")]),
        ({"min_magnitude": True}, [("min_magnitude", "must be a number, not a boolean")]),
        ({"min_magnitude": 11}, [("min_magnitude", "must be from -10 to 10, is 11")]),
        ({"min_magnitude": 10**400}, [("min_magnitude", "must be a number, not a number out of range")]),
        (
            {"min_magnitude": 5, "max_magnitude": 4},
            [("max_magnitude", "must not be less than min_magnitude, 5")],
        ),
        ({"max_depth_km": []}, [("max_depth_km", "must be a number, not an array")]),
        (
            {"lat": 91, "radius": 0},
            [
                ("lat", "must be from -90 to 90, is 91"),
                ("radius", "must be more than 0 km"),
                ("lon", "is required: lat, lon and radius belong together"),
            ],
        ),
        ({"bbox": [1, 2, 3]}, [("bbox", "must be [west, south, east, north], four numbers in degrees")]),
        (
            {"bbox": [0, 9, 1, 8]},
            [("bbox", "must have south and north from -90 to 90, south not above north")],
        ),
        (
            {"bbox": [0, 0, 181, 8]},
            [
                (
                    "bbox",
                    "must have west and east from -180 to 180; across the antimeridian west is the greater",
                )
            ],
        ),
        ({"polygon": 3}, [("polygon", "must be a GeoJSON geometry of the type Polygon or MultiPolygon")]),
        ({"station_codes": []}, [("station_codes", "must have 1 to 1000 entries, has 0")]),
        ({"station_codes": ["A", "A"]}, [("station_codes", 'holds "A" more than once')]),
        (
            {"station_codes": ["A", ""]},
            [("station_codes", "must be a list of station codes, texts of 1 to 100 characters")],
        ),
        (
            {"min_magnitude": 4, "include_unknown": "yes"},
            [("include_unknown", "must be true or false, not a string")],
        ),
    ],
)
def test_bad_filters_are_refused(given: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """One entry for each bad field, in words."""
    assert expected == filter_problems(given)
    with pytest.raises(ValueError, match=r"."):
        read_filter(given)
