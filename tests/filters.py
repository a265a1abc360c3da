"""Makes filters and events at random, with a liking for poles, the antimeridian and the borders of cells."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from dispatcher.core.geo import FARTHEST_KM

LATITUDES = st.floats(-90, 90) | st.sampled_from([-90, -89.99, -45, 0, 2, 10, 44.999, 45, 89.99, 90])
LONGITUDES = st.floats(-180, 180) | st.sampled_from([-180, -179.99, -135, 0, 2, 10, 45, 179.99, 180])
MAGNITUDES = st.floats(-2, 9).map(lambda value: round(value, 1))
CIRCLES = st.fixed_dictionaries(
    {
        "lat": LATITUDES,
        "lon": LONGITUDES,
        "radius": st.floats(0.001, 100) | st.floats(100, 3000) | st.floats(3000, FARTHEST_KM),
    }
)
STATIONS = st.sampled_from(["GRIL01", "GRIL02", "OAX"])


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    """Make a box, small or large, perhaps across the antimeridian."""
    south, north = sorted([draw(LATITUDES), draw(LATITUDES)])
    west = draw(LONGITUDES)
    east = draw(LONGITUDES | st.floats(0, 5).map(lambda width: (west + width + 180) % 360 - 180))
    return [west, south, east, north]


@st.composite
def polygons(draw: st.DrawFn) -> dict[str, Any]:
    """Make a star around a point that is not near a pole, perhaps across the antimeridian, perhaps holed."""
    latitude, longitude = draw(st.floats(-50, 50)), draw(LONGITUDES)
    count = draw(st.integers(3, 8))
    reach = draw(st.floats(0.1, 30))
    rings = []
    for share in (1.0, 0.5)[: draw(st.integers(1, 2))]:
        ring = []
        for number in range(count):
            angle = number / count
            x = (1 - abs(4 * ((angle + 0.25) % 1) - 2)) * reach * share  # a diamond's outline
            y = (1 - abs(4 * angle - 2)) * reach * share
            ring.append([(longitude + x + 180) % 360 - 180, latitude + y])
        rings.append([*ring, ring[0]])
    return {"type": "Polygon", "coordinates": rings}


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """Make a good filter."""
    low, high = sorted([draw(MAGNITUDES), draw(MAGNITUDES)])
    parts: dict[str, st.SearchStrategy[dict[str, Any]]] = {
        "least": st.just({"min_magnitude": low}),
        "greatest": st.just({"max_magnitude": high}),
        "depth": st.fixed_dictionaries({"max_depth_km": st.integers(-2, 300)}),
        "circle": CIRCLES,
        "box": st.fixed_dictionaries({"bbox": boxes()}),
        "polygon": st.fixed_dictionaries({"polygon": polygons()}),
        "stations": st.fixed_dictionaries(
            {"station_codes": st.lists(STATIONS, min_size=1, max_size=2, unique=True)}
        ),
    }
    names = draw(st.lists(st.sampled_from(sorted(parts)), min_size=1, max_size=3, unique=True))
    given: dict[str, Any] = {"include_unknown": True} if draw(st.integers(0, 4)) == 0 else {}
    for name in names:
        given |= draw(parts[name])
    return given


def events() -> st.SearchStrategy[dict[str, Any]]:
    """Make the data of an earthquake, or of something else, of which not everything need be known."""
    quake = {
        "magnitude": st.none() | MAGNITUDES,
        "depth_km": st.none() | st.integers(-3, 400),
        "latitude": LATITUDES,
        "longitude": LONGITUDES,
    }
    return st.one_of(
        st.fixed_dictionaries(quake),
        st.fixed_dictionaries({}, optional=quake),
        st.fixed_dictionaries({"station_code": STATIONS}),
    )
