"""A webhook's filter: which events of the types that it subscribes to it is told of.

All conditions must hold. One applies to the events that have the field it asks for, and to no other: a
sensor has no magnitude, so a bound on the magnitude does not keep its events away. What an event has and
does not know (null, absent) satisfies no bound on it, unless `include_unknown` says so.
"""

from __future__ import annotations

import msgspec

from dispatcher.core.cells import EVERYWHERE, Cell, cells_of
from dispatcher.core.geo import Area
from dispatcher.core.parameters import Field, Parameters


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """The conditions, ready to be tried. What is found out beforehand is kept: filters are tried often."""

    min_magnitude: float | None
    max_magnitude: float | None
    max_depth_km: float | None
    areas: tuple[Area, ...]
    station_codes: frozenset[str] | None
    include_unknown: bool
    asks_for: frozenset[Field]  # what its conditions are about
    cells: tuple[Cell, ...]  # where an event may lie that it accepts

    @classmethod
    def of(
        cls,
        *,
        min_magnitude: float | None = None,
        max_magnitude: float | None = None,
        max_depth_km: float | None = None,
        areas: tuple[Area, ...] = (),
        station_codes: frozenset[str] | None = None,
        include_unknown: bool = False,
    ) -> Filter:
        """Make a filter of conditions."""
        asked: dict[Field, bool] = {
            "magnitude": min_magnitude is not None or max_magnitude is not None,
            "depth": max_depth_km is not None,
            "location": bool(areas),
            "station": station_codes is not None,
        }
        return cls(
            min_magnitude=min_magnitude,
            max_magnitude=max_magnitude,
            max_depth_km=max_depth_km,
            areas=areas,
            station_codes=station_codes,
            include_unknown=include_unknown,
            asks_for=frozenset(field for field, is_asked in asked.items() if is_asked),
            cells=cells_of(areas),
        )

    def reduced(self, has: frozenset[Field]) -> Filter:
        """Give the conditions that apply to events which have these fields."""
        if self.asks_for <= has:
            return self
        located = "location" in has
        return Filter(
            min_magnitude=self.min_magnitude if "magnitude" in has else None,
            max_magnitude=self.max_magnitude if "magnitude" in has else None,
            max_depth_km=self.max_depth_km if "depth" in has else None,
            areas=self.areas if located else (),
            station_codes=self.station_codes if "station" in has else None,
            include_unknown=self.include_unknown,
            asks_for=self.asks_for & has,
            cells=self.cells if located else (EVERYWHERE,),
        )

    def accepts(self, event: Parameters) -> bool:
        """Say whether an event satisfies every condition that applies to it."""
        applying = event.has
        return (
            ("magnitude" not in applying or self._magnitude(event.magnitude))
            and ("depth" not in applying or self._depth(event.depth_km))
            and ("station" not in applying or self._station(event.station_code))
            and ("location" not in applying or self._place(event.location))
        )

    def _magnitude(self, magnitude: float | None) -> bool:
        low, high = self.min_magnitude, self.max_magnitude
        if magnitude is None:
            return self.include_unknown or low is None is high
        return (low is None or magnitude >= low) and (high is None or magnitude <= high)

    def _depth(self, depth_km: float | None) -> bool:
        if self.max_depth_km is None:
            return True
        return self.include_unknown if depth_km is None else depth_km <= self.max_depth_km

    def _station(self, code: str | None) -> bool:
        if self.station_codes is None:
            return True
        return self.include_unknown if code is None else code in self.station_codes

    def _place(self, location: tuple[float, float] | None) -> bool:
        if not self.areas:
            return True
        if location is None:
            return self.include_unknown
        return all(area.contains(*location) for area in self.areas)
