"""Draws small charts as SVG: the same numbers give the same bytes, light and dark pages are both served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

_WIDTH: Final = 860
_STYLE: Final = """\
<style>
svg { --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --one: #1a7f64; --two: #0969da; --bad: #b3402a; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #f0f6fc; --soft: #9198a1; --line: #3d444d; --one: #3fb68b; --two: #58a6ff; --bad: #f0785f; }
}
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.head { font-weight: 600; } .soft { fill: var(--soft); }
.grid { stroke: var(--line); fill: none; }
.one { --c: var(--one); } .two { --c: var(--two); } .bad { --c: var(--bad); }
.bar, .dot { fill: var(--c); } .spread { stroke: var(--c); stroke-width: 6; opacity: .35; }
.trace { stroke: var(--c); stroke-width: 2; fill: none; }
</style>"""
_COLORS: Final = ("one", "two")


class Share(NamedTuple):
    """A figure as a share of its goal: 1 reaches it, more is better."""

    name: str
    value: float
    lowest: float
    highest: float


class Bar(NamedTuple):
    """A value with its name."""

    name: str
    value: float


class Group(NamedTuple):
    """Bars of one unit, drawn to one scale."""

    title: str
    unit: str
    bars: Sequence[Bar]


class Panel(NamedTuple):
    """Values over time, one line for each name."""

    title: str
    unit: str
    lines: Sequence[tuple[str, Sequence[float]]]


def shares(title: str, rows: Sequence[Share]) -> str:
    """Draw each figure's distance from its goal, on a logarithmic scale; right of the line is better."""
    left, right, top, pitch = 490, 850, 34, 22
    low = min([0.25, *(one.lowest for one in rows)])
    high = max([4.0, *(one.highest for one in rows)])

    def x(share: float) -> float:
        span = math.log2(high / low)
        return left + (right - left) * math.log2(max(share, low) / low) / span

    bottom = top + pitch * len(rows)
    drawn = [
        f'<path class="grid" d="M{x(mark):.1f} {top - 8}V{bottom}"/>'
        f'<text class="soft" x="{x(mark):.1f}" y="{top - 14}" text-anchor="middle">{name}</text>'
        for mark, name in ((0.25, "¼"), (0.5, "½"), (1, "goal"), (2, "2x"), (4, "4x"))
    ]
    for row, one in enumerate(rows):
        y = top + pitch * row + pitch / 2
        color = "one" if one.value >= 1 else "bad"
        drawn.append(
            f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(_shortened(one.name))}</text>'
            f'<g class="{color}"><path class="spread" d="M{x(one.lowest):.1f} {y:.1f}H{x(one.highest):.1f}"/>'
            f'<circle class="dot" cx="{x(one.value):.1f}" cy="{y:.1f}" r="4"/></g>'
        )
    return _svg(title, bottom + 12, drawn)


def bars(title: str, groups: Sequence[Group]) -> str:
    """Draw groups of bars, one below the other; the first of each group has the first color."""
    left, right, y = 250, 740, 8.0
    drawn = []
    for group in groups:
        y += 20
        drawn.append(f'<text x="0" y="{y:.0f}" class="head">{escape(group.title)}</text>')
        most = max((one.value for one in group.bars), default=0.0) or 1.0
        for number, one in enumerate(group.bars):
            y += 22
            width = (right - left) * one.value / most
            name = escape(_shortened(one.name, 38))
            drawn.append(
                f'<text x="{left - 12}" y="{y:.0f}" text-anchor="end">{name}</text>'
                f'<rect class="{_COLORS[min(number, 1)]} bar" x="{left}" y="{y - 11:.0f}" width="{width:.1f}"'
                f' height="14"/><text class="soft" x="{left + width + 8:.1f}" y="{y:.0f}">'
                f"{_number(one.value)} {escape(group.unit)}</text>"
            )
        y += 14
    return _svg(title, y, drawn)


def panels(title: str, seconds: float, drawn_panels: Sequence[Panel]) -> str:
    """Draw values over time, one panel below the other, from zero up; `seconds` is the whole length."""
    left, right, height, y = 60, 850, 110, 0.0
    drawn = []
    for panel in drawn_panels:
        y += 24
        drawn.append(f'<text x="0" y="{y:.0f}" class="head">{escape(panel.title)}</text>')
        named = panel.lines if len(panel.lines) > 1 else ()
        for number, (name, _) in enumerate(named):
            drawn.append(
                f'<g class="{_COLORS[number % 2]}"><rect class="bar" x="{420 + 110 * number}" y="{y - 9:.0f}"'
                f' width="10" height="10"/></g><text class="soft" x="{436 + 110 * number}" y="{y:.0f}">'
                f"{escape(name)}</text>"
            )
        y += 12
        most = max((value for _, values in panel.lines for value in values), default=0.0) or 1.0
        for share in (0, 0.5, 1):
            at = y + height * (1 - share)
            drawn.append(
                f'<path class="grid" d="M{left} {at:.1f}H{right}"/><text class="soft" x="{left - 8}"'
                f' y="{at + 4:.1f}" text-anchor="end">{_number(most * share)}</text>'
            )
        drawn.append(f'<text class="soft" x="{right}" y="{y - 4:.0f}" text-anchor="end">{panel.unit}</text>')
        for number, (_, values) in enumerate(panel.lines):
            step = (right - left) / len(values)
            points = " ".join(
                f"{left + step * (place + 0.5):.1f},{y + height * (1 - value / most):.1f}"
                for place, value in enumerate(values)
            )
            drawn.append(f'<polyline class="{_COLORS[number % 2]} trace" points="{points}"/>')
        y += height + 8
    y += 14
    for share in (0, 0.5, 1):
        anchor = ("start", "middle", "end")[round(share * 2)]
        drawn.append(
            f'<text class="soft" x="{left + (right - left) * share:.0f}" y="{y:.0f}" text-anchor="{anchor}">'
            f"{_number(seconds * share)} s</text>"
        )
    return _svg(title, y + 8, drawn)


def _svg(title: str, height: float, drawn: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}"'
        f' height="{height:.0f}" role="img">\n<title>{escape(title)}</title>\n{_STYLE}\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _shortened(name: str, characters: int = 66) -> str:
    return name if len(name) <= characters else name[: characters - 1] + "…"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
