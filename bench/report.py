"""Writes what was measured: `RESULTS.md` for reading, charts beside it for looking at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from bench.figures import Figure, Rounds, quantile
from bench.machine import commit_name, machine_name, software_names
from bench.scenarios.latency import Latency
from bench.scenarios.throughput import Rate, Throughput
from bench.scenarios.upstream import Upstream

_INTRODUCTION: Final = """\
# Results

Written by `make bench`. Each figure is a ratio of two measurements of the same run, taken in turns, so that a
machine that others share moves both. What is measured and how:
[docs/explanation/performance.md](../docs/explanation/performance.md).
"""

_HISTORY: Final = """\
# A long history

Written by `python -m bench --only history`. Each figure stands beside its bound. What is measured and how:
[docs/explanation/performance.md](../docs/explanation/performance.md#a-long-history).
"""


class Chart(NamedTuple):
    """A picture beside the page."""

    file: str
    svg: str

    @property
    def title(self) -> str:
        """What it shows, in its own words."""
        return self.svg.partition("<title>")[2].partition("</title>")[0]


def table(figures: Sequence[Figure]) -> str:
    """Draw the figures as a Markdown table."""
    lines = [
        "| figure | ours | beside it | ratio | rounds, lowest to highest | goal | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        sign = "≥" if one.bound == "at least" else "≤"
        lines.append(
            f"| {one.name} | {_number(one.ours_value)} {one.unit} | {_number(one.beside_value)} {one.unit} "
            f"| **{_number(one.ratio)}** | {_number(min(one.ratios))} to {_number(max(one.ratios))} "
            f"| {sign} {one.goal:g} | {'yes' if one.reached else 'no'} |"
        )
    return "\n".join(lines)


def details(throughput: Throughput, latency: Latency, upstream: Upstream) -> str:
    """Draw what the figures are made of."""
    lines = [
        "| throughput | a second | CPU of the client or dispatcher | of PostgreSQL | share of its core |",
        "|---|---|---|---|---|",
        _rate_line("bare client, no database", throughput.bare),
        _rate_line("recorded, immediate receivers", throughput.fast),
        _rate_line("recorded, receivers that take 100 ms", throughput.slow),
        "",
        "| latency, ms | p50 | p90 | p99 | longest |",
        "|---|---|---|---|---|",
    ]
    for name, spans in (
        ("bare NOTIFY + bare POST", latency.bare),
        ("COMMIT → arrival", latency.calm),
        ("COMMIT → arrival beside open writers", latency.beside_writers),
    ):
        for since, rounds in (("sent", spans.from_sent), ("acknowledged", spans.from_acknowledged)):
            values = [one for values in rounds for one in values]
            cells = " | ".join(f"{quantile(values, share):.2f}" for share in (0.5, 0.9, 0.99, 1.0))
            lines.append(f"| {name}, since COMMIT was {since} | {cells} |")
    lines += [
        "",
        f"Idle: {upstream.idle_dispatcher:.2%} of a core and, in PostgreSQL, {upstream.idle_postgresql:.2%}.",
    ]
    return "\n".join(lines)


def _rate_line(name: str, rates: Sequence[Rate]) -> str:
    return (
        f"| {name} | {median(one.per_second for one in rates):,.0f} "
        f"| {median(one.cpu_us for one in rates):.0f} µs "
        f"| {median(one.postgresql_cpu_us for one in rates):.0f} µs "
        f"| {median(one.core_share for one in rates):.0%} |"
    )


def write(
    folder: Path,
    *,
    figures: Sequence[Figure],
    more: str,
    rounds: Rounds,
    command: str,
    remarks: Sequence[str],
    charts: Sequence[Chart],
) -> None:
    """Write the page and its charts."""
    facts = _circumstances(f"{command}`, {rounds.count} rounds", remarks)
    pictures = "\n\n".join(f"![{chart.title}]({chart.file})" for chart in charts)
    page = f"{_INTRODUCTION}\n{facts}\n\n{table(figures)}\n\n{more}\n\n{pictures}\n"
    for chart in charts:
        (folder / chart.file).write_text(chart.svg, encoding="utf-8")
    (folder / "RESULTS.md").write_text(page, encoding="utf-8")


def write_history(folder: Path, *, figures: Sequence[Figure], command: str, remarks: Sequence[str]) -> None:
    """Write the page about a long history."""
    facts = _circumstances(f"{command}`", remarks)
    (folder / "HISTORY.md").write_text(f"{_HISTORY}\n{facts}\n\n{table(figures)}\n", encoding="utf-8")


def _circumstances(command: str, remarks: Sequence[str]) -> str:
    now = dt.datetime.now(dt.UTC)
    facts = [
        f"{now:%Y-%m-%d %H:%M} UTC, commit {commit_name()}, `{command}",
        machine_name(),
        software_names(),
        *remarks,
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 0.1 else f"{value:.2f}"
