"""Histograms for the hot path: plain integers, made into Prometheus' families when they are scraped.

prometheus-client's own takes a lock for every value and walks its buckets: 0.8 to 1.2 µs, several times
for each attempt. One event loop writes here, so no lock is needed, and bisection costs 0.1 µs.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Histogram:
    """The values of one series; one thread observes, any may read."""

    __slots__ = ("_counts", "_sum", "_upper_bounds")

    def __init__(self, upper_bounds: Sequence[float]) -> None:
        self._upper_bounds = tuple(upper_bounds)
        self._counts = [0] * (len(self._upper_bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the metric's unit; below zero (clocks differ) counts as zero."""
        self._counts[bisect_left(self._upper_bounds, value)] += 1
        if value > 0.0:
            self._sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Give (upper bound, values up to it) for each bucket, cumulative, `+Inf` last."""
        bounds = [*map(floatToGoString, self._upper_bounds), "+Inf"]
        return list(zip(bounds, accumulate(map(float, self._counts)), strict=True))

    @property
    def sum(self) -> float:
        """The sum of all values."""
        return self._sum


class HistogramVec(Collector):
    """One metric: a histogram for each value of its label, or a single one without a label."""

    def __init__(
        self,
        name: str,
        documentation: str,
        upper_bounds: Sequence[float],
        *,
        label: str | None = None,
        values: Iterable[str] = (),
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        keys = ("",) if label is None else tuple(values)
        self._series = {key: Histogram(upper_bounds) for key in keys}

    def __getitem__(self, value: str) -> Histogram:
        """Give the series of one label value; `""` where the metric has no label."""
        return self._series[value]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Make the family that a scrape shows."""
        labels = () if self._label is None else (self._label,)
        family = HistogramMetricFamily(self._name, self._documentation, labels=labels)
        for key, series in self._series.items():
            family.add_metric([key] if labels else [], series.buckets(), series.sum)
        yield family
