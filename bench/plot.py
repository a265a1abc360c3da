"""Draws what was measured: figures beside their goals, latencies, the soak's course, systems side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.chart import Bar, Group, Panel, Share, bars, panels, shares
from bench.figures import Figure, quantile
from bench.scenarios.latency import Latency
from bench.scenarios.soak import Soak
from bench.side_by_side import Compared

_QUANTILES: Final = ((0.5, "p50"), (0.99, "p99"))


def goals_chart(figures: Sequence[Figure]) -> str:
    """Draw each figure as a share of its goal, with the spread of the rounds."""
    rows = []
    for one in figures:
        of_goal = sorted(_share(one, ratio) for ratio in one.ratios)
        rows.append(Share(one.name, _share(one, one.ratio), of_goal[0], of_goal[-1]))
    return shares("Each figure as a share of its goal", rows)


def latency_chart(latency: Latency) -> str:
    """Draw the latencies of one event at a time, since COMMIT was sent."""
    groups = []
    for share, name in _QUANTILES:
        found = [
            Bar(situation, quantile([one for values in spans.from_sent for one in values], share))
            for situation, spans in (
                ("COMMIT → arrival", latency.calm),
                ("bare NOTIFY + bare POST", latency.bare),
                ("COMMIT → arrival beside writers", latency.beside_writers),
            )
        ]
        groups.append(Group(f"One event at a time, {name}", "ms", found))
    return bars("Latency of one event at a time", groups)


def soak_chart(soak: Soak) -> str:
    """Draw the course of the soak, slice by slice."""
    slices = soak.slices
    latencies = [(name, [quantile(one.latency_ms, share) for one in slices]) for share, name in _QUANTILES]
    return panels(
        "A steady stream beside failing and hung receivers",
        sum(one.seconds for one in slices),
        [
            Panel("COMMIT → arrival of an alert", "ms", latencies),
            Panel("memory of the dispatcher", "MiB", [("", [one.memory_mib for one in slices])]),
            Panel("CPU a recorded attempt", "µs", [("", [one.cpu_us for one in slices])]),
        ],
    )


def systems_chart(compared: Sequence[Compared]) -> str:
    """Draw systems side by side."""
    groups = [
        Group("Deliveries a second", "", [Bar(one.name, one.per_second) for one in compared]),
        Group("CPU a delivery, PostgreSQL included", "µs", [Bar(one.name, one.cpu_us) for one in compared]),
    ]
    for share, name in _QUANTILES:
        found = [Bar(one.name, quantile(one.latency_ms, share)) for one in compared]
        groups.append(Group(f"One event for one receiver, {name}", "ms", found))
    last = [Bar(one.name, one.wide_ms) for one in compared]
    groups.append(Group("One event for 100 receivers, last arrival", "ms", last))
    return bars("Systems side by side", groups)


def _share(figure: Figure, ratio: float) -> float:
    return ratio / figure.goal if figure.bound == "at least" else figure.goal / ratio
