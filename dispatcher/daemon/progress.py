"""Up to where every delivery of a lane has a fact: what a restart need not look at again.

A fan-out opens its batch with the number of deliveries that went straight to memory; each durable fact closes
one. The lowest open batch bounds what a restart must search. Deliveries that wait in the database are not
counted here: their webhooks are remembered by `daemon/waiting.py`.
"""

from __future__ import annotations

from dispatcher.core.pending import TAILED


class Progress:
    """Open batches, lane by lane, in ascending order."""

    def __init__(self) -> None:
        self._open: tuple[dict[int, int], ...] = tuple({} for _ in TAILED)
        self._begun: tuple[set[int], ...] = tuple(set() for _ in TAILED)
        self._newest = [0] * len(TAILED)

    def begin(self, lane: int, batch: int) -> None:
        """Start from the batch that the last run had reached."""
        self._newest[lane] = batch

    def opened(self, lane: int, batch: int, claimed: int) -> None:
        """Open a committed batch, or more of it, with this many deliveries in memory."""
        self._newest[lane] = max(batch, self._newest[lane])
        if claimed:
            self._open[lane][batch] = self._open[lane].get(batch, 0) + claimed

    def begun(self, lane: int, batch: int) -> None:
        """Keep a batch open whose message is written and whose deliveries are not, until `ended`.

        All chunks of an event count for the batch of its message: by that a restart finds it.
        """
        self.opened(lane, batch, 1)
        self._begun[lane].add(batch)

    def ended(self, lane: int, batch: int) -> None:
        """Say that all chunks of the batch are written."""
        self.closed(lane, batch)
        self._begun[lane].discard(batch)

    def closed(self, lane: int, batch: int) -> None:
        """Count one delivery of the batch whose first fact is durable."""
        remaining = self._open[lane][batch] - 1
        if remaining:
            self._open[lane][batch] = remaining
        else:
            del self._open[lane][batch]

    def low(self, lane: int) -> int:
        """Give the batch up to which every delivery in memory has a fact."""
        # Insertion order is batch order, and entries only ever shrink or go.
        lowest = next(iter(self._open[lane]), None)
        return self._newest[lane] if lowest is None else lowest - 1

    def reached(self, lane: int) -> int:
        """Give the batch up to which every delivery was at least taken into memory, or waits."""
        return min(self._begun[lane], default=self._newest[lane] + 1) - 1
