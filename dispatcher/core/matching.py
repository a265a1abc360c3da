"""Finds the webhooks whose filter accepts an event without trying every filter.

How this works. An `Index` is made for the events that have the same fields: conditions on others do not apply
to them, and a webhook of which none is left is always told. The rest is laid on grids (core/cells.py); an
event looks at the piles of its own cells only. In a pile the filters are sorted by their least magnitude, so
those that want more are not looked at. Circles and boxes, by far the most, are tried in one expression, and
polygons when their box holds the event.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import inf
from typing import Any, Final, TypeVar

from dispatcher.core.cells import EVERYWHERE, Cell, cells_at
from dispatcher.core.filter import Filter
from dispatcher.core.geo import Box, Circle, Polygon, unit_vector
from dispatcher.core.ids import WebhookId
from dispatcher.core.parameters import Field, Parameters

_SIMPLE: Final = frozenset({"magnitude", "location"})
Entry = TypeVar("Entry", bound=tuple[Any, ...])  # its least magnitude first


class Index:
    """The filters of the webhooks that may be told of events with certain fields."""

    def __init__(self, filters: Iterable[tuple[WebhookId, Filter | None]], has: frozenset[Field]) -> None:
        self._always: list[WebhookId] = []
        self._all: list[tuple[WebhookId, Filter]] = []
        self._piles: dict[Cell, _Pile] = {}
        self._lenient: list[tuple[WebhookId, Filter]] = []  # in piles that an unknown place has no part in
        for webhook_id, whole in filters:
            if whole is None or whole.asks_for.isdisjoint(has):
                self._always.append(webhook_id)
                continue
            wanted = whole.reduced(has)
            self._all.append((webhook_id, wanted))
            if wanted.include_unknown and EVERYWHERE not in wanted.cells:
                self._lenient.append((webhook_id, wanted))
            self._lay(webhook_id, wanted)

    def match(self, event: Parameters) -> list[WebhookId]:
        """Give the webhooks that are told of an event, in the order of their numbers."""
        found = self._always.copy()
        if not self._all:
            return found
        location = event.location
        if location is not None and abs(location[0]) == 90:
            found += [number for number, wanted in self._all if wanted.accepts(event)]  # on every meridian
        else:
            for cell in cells_at(location):
                pile = self._piles.get(cell)
                if pile is not None:
                    pile.match(event, found)
            if location is None:
                found += [number for number, wanted in self._lenient if wanted.accepts(event)]
        found.sort()
        return found

    def _lay(self, webhook_id: WebhookId, wanted: Filter) -> None:
        """Put a filter on the piles of its cells."""
        least = _least_magnitude(wanted)
        simple = not wanted.include_unknown and wanted.max_magnitude is None and wanted.asks_for <= _SIMPLE
        piles = [self._pile(cell) for cell in wanted.cells]
        match wanted.areas:
            case () if simple:
                for pile in piles:
                    pile.plain.append((least, webhook_id))
            case (Circle() as circle,) if simple:
                disc = (least, circle.x, circle.y, circle.z, circle.chord2, webhook_id)
                for pile in piles:
                    pile.circles.append(disc)
            case (Box() as box,) if simple:
                sides = (least, box.west, box.south, box.east, box.north, webhook_id)
                for pile in piles:
                    pile.boxes.append(sides)
            case (Polygon(bounds=box) as outline,) if simple:
                around = (least, box.west, box.south, box.east, box.north, webhook_id, outline)
                for pile in piles:
                    pile.polygons.append(around)
            case _:
                for pile in piles:
                    pile.others.append((least, webhook_id, wanted))

    def _pile(self, cell: Cell) -> _Pile:
        pile = self._piles.get(cell)
        if pile is None:
            pile = self._piles[cell] = _Pile()
        return pile


class _Pile:
    """The filters of one cell; sorted by least magnitude when an event first comes to it."""

    def __init__(self) -> None:
        self.plain: list[tuple[float, WebhookId]] = []
        self.circles: list[tuple[float, float, float, float, float, WebhookId]] = []
        self.boxes: list[tuple[float, float, float, float, float, WebhookId]] = []
        self.polygons: list[tuple[float, float, float, float, float, WebhookId, Polygon]] = []
        self.others: list[tuple[float, WebhookId, Filter]] = []
        self._sorted = False

    def match(self, event: Parameters, found: list[WebhookId]) -> None:
        """Add those that are told of an event."""
        if not self._sorted:
            for entries in (self.plain, self.circles, self.boxes, self.polygons, self.others):
                entries.sort(key=_least)
            self._sorted = True
        known = event.magnitude if "magnitude" in event.has else inf
        if known is None:
            known = -inf
        found += [entry[1] for entry in _up_to(self.plain, known)]
        if event.location is not None:
            latitude, longitude = event.location
            x, y, z = unit_vector(latitude, longitude)
            found += [
                number
                for _, p, q, r, chord2, number in _up_to(self.circles, known)
                if (x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2 <= chord2
            ]
            more, less = longitude + 360, longitude - 360
            found += [
                number
                for _, west, south, east, north, number in _up_to(self.boxes, known)
                if south <= latitude <= north
                and (west <= longitude <= east or west <= more <= east or west <= less <= east)
            ]
            found += [
                number
                for _, west, south, east, north, number, outline in _up_to(self.polygons, known)
                if south <= latitude <= north
                and (west <= longitude <= east or west <= more <= east or west <= less <= east)
                and outline.contains(latitude, longitude)
            ]
        found += [number for _, number, wanted in _up_to(self.others, known) if wanted.accepts(event)]


def _least_magnitude(wanted: Filter) -> float:
    """Give the magnitude below which a filter need not be tried."""
    if wanted.include_unknown or wanted.min_magnitude is None:
        return -inf
    return wanted.min_magnitude


def _up_to(entries: list[Entry], magnitude: float) -> list[Entry]:
    """Give the entries whose least magnitude is not beyond this one."""
    end = bisect_right(entries, magnitude, key=_least)
    return entries if end == len(entries) else entries[:end]


def _least(entry: tuple[Any, ...]) -> float:
    least: float = entry[0]
    return least
