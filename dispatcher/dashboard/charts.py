"""Draws what a webhook answered as shapes for SVG: success rate, latency, lag, attempts by outcome.

The server gives coordinates, the template writes them: nothing here makes markup, and the table behind each
chart is made from the same numbers. A chart is `WIDTH` by `HEIGHT` units and stretched to its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dispatcher.dashboard.language import Speech
    from dispatcher.store.attempts import Part, Statistics

WIDTH: Final = 560
HEIGHT: Final = 96
_GAP: Final = 3
OUTCOMES: Final = ("succeeded", "refused", "timed_out", "unreached")  # from the bottom up
_LEAST_TOP_MS: Final = 10.0  # of the scale of latencies


class Bar(msgspec.Struct, frozen=True):
    """A rectangle, and the outcome that it stands for."""

    x: float
    y: float
    width: float
    height: float
    kind: str


class Charts:
    """The charts of one webhook."""

    width: Final = WIDTH
    height: Final = HEIGHT

    def __init__(self, statistics: Statistics, speech: Speech) -> None:
        self.statistics: Final = statistics
        self._speech = speech
        self._step = WIDTH / max(1, len(statistics.parts))

    @property
    def total(self) -> int:
        """How many attempts there were."""
        return sum(part.total for part in self.statistics.parts)

    @property
    def rate(self) -> float | None:
        """The share of attempts that succeeded."""
        return None if not self.total else sum(part.succeeded for part in self.statistics.parts) / self.total

    @property
    def filled(self) -> list[Part]:
        """The parts in which there were attempts, for the tables."""
        return [part for part in self.statistics.parts if part.total]

    def outcomes(self) -> Iterator[Bar]:
        """Give bars of attempts, stacked by outcome."""
        most = max((part.total for part in self.statistics.parts), default=0) or 1
        for place, part in enumerate(self.statistics.parts):
            top = float(HEIGHT)
            for kind in OUTCOMES:
                count = getattr(part, kind)
                if count:
                    height = max(
                        2.0, count / most * HEIGHT
                    )  # a single failure is seen beside a thousand successes
                    top = max(0.0, top - height)
                    yield self._bar(place, top, height, kind)

    def rates(self) -> Iterator[Bar]:
        """Give a bar for each part: what succeeded from the bottom up, what failed above."""
        for place, part in enumerate(self.statistics.parts):
            if not part.total:
                continue
            good = round(part.succeeded / part.total * HEIGHT, 1)
            if part.succeeded < part.total:
                good = min(good, HEIGHT - 3.0)  # a failure is always seen
            if good:
                yield self._bar(place, HEIGHT - good, good, "succeeded")
            if part.succeeded < part.total:
                yield self._bar(place, 0, HEIGHT - good, "refused")

    def times(self, which: str, top: str) -> list[str]:
        """Give the lines of a percentile such as `p50_ms`, on the scale of `top`, such as `p95_ms`.

        A line ends where none is known.
        """
        highest = [getattr(part, top) for part in self.statistics.parts]
        top_ms = max([_LEAST_TOP_MS, *(value for value in highest if value is not None)])
        lines: list[list[str]] = [[]]
        for place, part in enumerate(self.statistics.parts):
            value = getattr(part, which)
            if value is None:
                lines.append([])
                continue
            y = HEIGHT - value / top_ms * (HEIGHT - 2)
            left = place * self._step
            lines[-1] += [f"{left:.1f},{y:.1f}", f"{left + self._step:.1f},{y:.1f}"]
        return [" ".join(line) for line in lines if line]

    def _bar(self, place: int, y: float, height: float, kind: str) -> Bar:
        return Bar(
            round(place * self._step + _GAP / 2, 1),
            round(y, 1),
            round(self._step - _GAP, 1),
            round(height, 1),
            kind,
        )


def spark(attempts: Sequence[bool], places: int) -> list[tuple[int, str]]:
    """Give the places and outcomes of the last attempts, ending at the right."""
    begin = places - len(attempts)
    return [(begin + place, "succeeded" if good else "refused") for place, good in enumerate(attempts)]
