"""What it costs to find who is told of an earthquake among 10,000 webhooks that filter.

Half of them lie around the world, half are the subscribers of one national network, close together: circles,
boxes, polygons and bare magnitudes. The events are a real week's, and moved to that country; beside it stands
a plain loop over every filter. CPU time of this process alone: no database, no network.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure
from dispatcher.core.filter_form import read_filter
from dispatcher.core.ids import WebhookId
from dispatcher.core.parameters import Parameters, read_parameters
from dispatcher.core.routing import EVERY_NETWORK, RoutedEvent, Routes, Subscription

_WEBHOOKS: Final = 10_000
_EVENTS: Final = 60
_WEEK: Final = Path(__file__).parents[2] / "tests" / "data" / "usgs_week_2018.jsonl"
_DECLARED: Final = frozenset({"magnitude", "depth_km", "latitude", "longitude"})
_HOME: Final = (19.0, -99.0)  # the country of the network, in degrees


class Matching:
    """All rounds."""

    def __init__(self) -> None:
        chance = random.Random(1)  # the same filters in every run
        self._subscriptions = [
            Subscription(
                WebhookId(number),
                f"whk_{number}",
                1,
                frozenset({"event.*"}),
                None,
                read_filter(_wanted(chance, number)),
            )
            for number in range(1, _WEBHOOKS + 1)
        ]
        self._networks = {1: frozenset({EVERY_NETWORK})}
        self._states = _states(chance)
        self.ours_ms: list[float] = []
        self.plain_ms: list[float] = []
        self.longest_ms = 0.0
        self.told = 0.0  # webhooks an event, on average

    def round(self) -> None:
        """Match every event by the index, then by the loop; raises RuntimeError where they differ."""
        routes = Routes(self._subscriptions, self._networks)
        routes.match(RoutedEvent("event.detected", None, states=self._states[:1]))  # makes the index
        found, ours_ms = self._timed(
            lambda state: routes.match(RoutedEvent("event.detected", None, states=(state,)))
        )
        expected, plain_ms = self._timed(
            lambda state: [
                one.webhook_id
                for one in self._subscriptions
                if one.filter is None or one.filter.accepts(state)
            ]
        )
        if found != expected:
            raise RuntimeError("the index and a plain loop disagree about who is told")
        self.ours_ms.append(sum(ours_ms) / len(ours_ms))
        self.plain_ms.append(sum(plain_ms) / len(plain_ms))
        self.longest_ms = max(self.longest_ms, *ours_ms)
        self.told = sum(map(len, found)) / len(found)

    def _timed(
        self, match: Callable[[Parameters], list[WebhookId]]
    ) -> tuple[list[list[WebhookId]], list[float]]:
        found, spent = [], []
        for state in self._states:
            started = time.process_time_ns()
            found.append(match(state))
            spent.append((time.process_time_ns() - started) / 1e6)
        return found, spent

    def figures(self) -> Iterator[Figure]:
        """Compare the two."""
        yield Figure(
            name=f"who is told of an event, among {_WEBHOOKS:,} webhooks with filters: CPU ÷ a plain loop",
            unit="ms",
            ours=self.ours_ms,
            beside=self.plain_ms,
            bound="at most",
            goal=0.25,
        )


def _wanted(chance: random.Random, number: int) -> dict[str, Any]:
    home = number % 2
    latitude = _HOME[0] + chance.gauss(0, 4) if home else chance.uniform(-60, 70)
    longitude = _HOME[1] + chance.gauss(0, 5) if home else chance.uniform(-180, 180)
    reach = chance.uniform(0.5, 5)
    sides = [longitude - reach, latitude - reach, longitude + reach, latitude + reach]
    west, south, east, north = (round(one, 3) for one in sides)
    around = [
        [west, south],
        [east, south],
        [east, north],
        [longitude, north + 1],
        [west, north],
        [west, south],
    ]
    areas: Sequence[dict[str, Any]] = (
        {"lat": latitude, "lon": longitude, "radius": reach * 111},
        {"lat": latitude, "lon": longitude, "radius": reach * 111},
        {"bbox": [_turned(west), south, _turned(east), north]},
        {"polygon": {"type": "Polygon", "coordinates": [around]}},
        {},
    )
    return {"min_magnitude": round(chance.uniform(3, 7), 1), **chance.choice(areas)}


def _turned(longitude: float) -> float:
    return (longitude + 180) % 360 - 180


def _states(chance: random.Random) -> tuple[Parameters, ...]:
    quakes = [json.loads(line)["data"] for line in _WEEK.read_text().splitlines()]
    states = []
    for number, data in enumerate(chance.sample(quakes, _EVENTS)):
        moved = {"latitude": _HOME[0], "longitude": _HOME[1], "magnitude": chance.uniform(3, 7.5)}
        states.append(read_parameters({**data, **moved} if number % 2 else data, _DECLARED))
    return tuple(states)
