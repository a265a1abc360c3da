"""A figure: what was measured, what was measured beside it, round by round, and what it is to reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, Literal

import msgspec

Bound = Literal["at least", "at most"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report: the ratio of two measurements, each taken in every round."""

    name: str
    unit: str
    ours: Sequence[float]  # by round
    beside: Sequence[float]  # by round
    bound: Bound
    goal: float
    ours_whole: float | None = None  # over all rounds; the median of the rounds where there is no such thing
    beside_whole: float | None = None

    @property
    def ours_value(self) -> float:
        """What we reach."""
        return median(self.ours) if self.ours_whole is None else self.ours_whole

    @property
    def beside_value(self) -> float:
        """What the baseline reaches."""
        return median(self.beside) if self.beside_whole is None else self.beside_whole

    @property
    def ratios(self) -> list[float]:
        """The ratio of each round."""
        return [ours / beside for ours, beside in zip(self.ours, self.beside, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios, or the ratio of the wholes."""
        if self.ours_whole is None or self.beside_whole is None:
            return median(self.ratios)
        return self.ours_whole / self.beside_whole

    @property
    def reached(self) -> bool:
        """Whether the goal is."""
        return self.ratio >= self.goal if self.bound == "at least" else self.ratio <= self.goal


class Rounds(msgspec.Struct, frozen=True):
    """How long and how often to measure."""

    count: int
    seconds: float  # of a throughput measurement
    events: int  # of a latency measurement, in a round
    idle_s: float


FULL: Final = Rounds(count=5, seconds=3.0, events=96, idle_s=20.0)
QUICK: Final = Rounds(count=2, seconds=1.0, events=10, idle_s=2.0)


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
