"""What a dispatcher has to offer to be measured beside ours: `python -m bench --system MODULE:CLASS`.

How this works. A system is started three times, each time with an empty database of its own on the bench's
PostgreSQL and the URLs of some receivers; from then on every event that `insert` commits is to be sent to
each of them, by POST, with a Content-Length and over HTTP/1.1. The bench measures from outside: when requests
arrive, and what the system's processes and PostgreSQL cost. What else it does (sign, record, retry) is its
own affair, and worth saying in its docstring. The class is made without arguments.

`ours` and `naive` are built in, and are examples of how to write another.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

BUILT_IN: Final = {"ours": "bench.systems.ours:Ours", "naive": "bench.systems.naive:Naive"}


class Place(msgspec.Struct, frozen=True):
    """Where a system runs."""

    database_url: str  # of an empty database; the login may do anything
    directory: Path  # for files; gone afterwards
    core: int  # that its processes are to be pinned to (`bench.child.pinned`); PostgreSQL has another


class System(Protocol):
    """A dispatcher; one object is started and stopped once."""

    async def start(self, place: Place, webhooks: Sequence[str]) -> None:
        """Begin to serve these URLs; returns when it works."""

    async def insert(self, events: Sequence[str]) -> None:
        """Commit events, JSON objects, in one transaction."""

    def pids(self) -> Sequence[int]:
        """Name its processes, but for PostgreSQL's."""

    async def stop(self) -> None:
        """End everything that `start` began; also called where that failed."""


def named(name: str) -> type[System]:
    """Find a system's class, built in or `MODULE:CLASS`; raises ValueError where there is none."""
    module, colon, attribute = BUILT_IN.get(name, name).partition(":")
    if not colon:
        raise ValueError(f"{name}: expected one of {', '.join(BUILT_IN)}, or MODULE:CLASS")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error
    system: type[System] = found
    return system
