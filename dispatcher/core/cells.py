"""Grids of cells over the Earth, on which areas are laid so that an event need not look at all of them.

There are grids of three sizes. An area lies on the finest one on which it touches few cells; one that is too
large for any lies everywhere. A point lies in one cell of each grid, and everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Final, TypeAlias

from dispatcher.core.geo import Area, Box

Cell: TypeAlias = tuple[int, int, int]  # size in degrees, row, column

EVERYWHERE: Final[Cell] = (0, 0, 0)
_SIZES: Final = (2, 10, 45)  # each divides 180
_MOST_CELLS: Final = 9  # of one area


def cells_of(areas: Sequence[Area]) -> tuple[Cell, ...]:
    """Give the cells in which a point may lie that lies in all of these areas."""
    for size in _SIZES:
        around = 360 // size
        for area in areas:
            rows, columns = _touched(area.bounds, size)
            if len(rows) * len(columns) <= _MOST_CELLS:
                return tuple((size, row, column % around) for row in rows for column in columns)
    return (EVERYWHERE,)


def cells_at(location: tuple[float, float] | None) -> list[Cell]:
    """Give the cells of a point (latitude, longitude), not of a pole; of an unknown one `EVERYWHERE`."""
    if location is None:
        return [EVERYWHERE]
    latitude, longitude = location
    return [
        EVERYWHERE,
        *(
            (size, floor((latitude + 90) / size), floor((longitude + 180) / size) % (360 // size))
            for size in _SIZES
        ),
    ]


def _touched(box: Box, size: int) -> tuple[range, range]:
    """Give the rows and columns that a box touches; columns may go on beyond one turn."""
    rows = range(floor((box.south + 90) / size), floor((box.north + 90) / size) + 1)
    first, last = floor((box.west + 180) / size), floor((box.east + 180) / size)
    return rows, range(first, min(last, first + 360 // size - 1) + 1)
