"""A counter for the hot path: a plain integer, made into Prometheus' family when it is scraped.

prometheus-client's own takes a lock and asks whether it may count: a microsecond for each attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Tally:
    """The count of one series; one thread counts, any may read."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class TallyVec(Collector):
    """One metric: a tally for each combination of its labels' values that was asked for."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._series: dict[tuple[str, ...], Tally] = {}

    def __getitem__(self, values: tuple[str, ...]) -> Tally:
        """Give the series of these labels' values, shown from now on."""
        return self._series.setdefault(values, Tally())

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Make the family that a scrape shows."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, series in list(self._series.items()):
            family.add_metric(values, series.count)
        yield family
