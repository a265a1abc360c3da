"""One view of whether PostgreSQL answers, shared by all loops: one log line per change, not per try."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from dispatcher.core.errors import DatabaseUnavailable, DispatcherError
from dispatcher.telemetry.metrics import Metrics

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0  # deliveries flow within 3 s after PostgreSQL answers again

log = structlog.get_logger("database")


class Outage:
    """Knows which loops cannot reach the database."""

    def __init__(self, metrics: Metrics, tell: Callable[[str | None], None] = lambda _: None) -> None:
        """`tell` hears each change: the reason, or None when the database is back."""
        self._metrics = metrics
        self._tell = tell
        self._without: dict[object, str] = {}  # by call: loops of several runs have the same names
        self._is_away = False  # and all were told
        metrics.database_up.set(1)

    @property
    def reason(self) -> str | None:
        """Why the database counts as away, or None while it answers."""
        return next(iter(self._without.values()), None)

    async def patiently(self, loop_name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the database until it answers; waits ever longer in between, up to a second."""
        pause_s = _FIRST_PAUSE_S
        call = object()
        try:
            while True:
                try:
                    answer = await ask()
                except DatabaseUnavailable as error:
                    self._away(call, loop_name, str(error))
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                except DispatcherError:  # such as LeaseLost: the database has answered
                    self._back(call)
                    raise
                else:
                    if self._is_away:
                        self._back(call)
                    return answer
        finally:
            # A loop that ended, with the lead or the process, does not speak for the database any more.
            if self._without:
                self._without.pop(call, None)

    async def patiently_until(
        self, stop: asyncio.Event, loop_name: str, ask: Callable[[], Awaitable[T]]
    ) -> T | None:
        """Ask the database until it answers or `stop` is set; None then."""
        asking = asyncio.ensure_future(self.patiently(loop_name, ask))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        finally:
            for task in (asking, stopping):
                task.cancel()
            await asyncio.wait({asking, stopping})

    def _away(self, call: object, loop_name: str, reason: str) -> None:
        self._without[call] = reason
        if not self._is_away:
            self._is_away = True
            log.warning("database away", loop=loop_name, reason=reason)
            self._metrics.database_up.set(0)
            self._tell(reason)

    def _back(self, call: object) -> None:
        """Take an answer: the database is back unless somebody still has none.

        Whoever noticed that it was away may have ended since.
        """
        self._without.pop(call, None)
        if self._is_away and not self._without:
            self._is_away = False
            log.info("database back")
            self._metrics.database_up.set(1)
            self._tell(None)
