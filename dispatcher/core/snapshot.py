"""PostgreSQL's snapshots, and the position of a lane in the outbox between two of them.

How this works (PgQ's rule). A snapshot `xmin:xmax:open` says which transactions were finished when it was
taken: all below xmin, and all below xmax that are not in the list. What is visible in `target` and was not
visible in `done` is exact whatever the order in which transactions commit, and nobody waits for an open one:

    stragglers   xids that were open in `done`, are below its xmax, and are finished in `target`
    range        xids from xmax(done) to xmax(target), less those open in `target`

Both are read in the order (xid, id); all stragglers come before the range. A `Position` is how far that
reading has come. When it is complete, `target` becomes `done`.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Snapshot(msgspec.Struct, frozen=True):
    """A `pg_snapshot`: transaction ids are 64-bit and never wrap."""

    xmin: int
    xmax: int
    open_xids: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read PostgreSQL's text form, `xmin:xmax:xid,xid,…`."""
        xmin, xmax, open_xids = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, filter(None, open_xids.split(",")))))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.open_xids)))}"

    def sees(self, xid: int) -> bool:
        """Say whether a transaction was finished when the snapshot was taken."""
        return xid < self.xmax and xid not in self.open_xids


BEGINNING: Final = Snapshot(1, 1, frozenset())  # sees nothing: everything is still to be read
_BEFORE_ANY_ROW: Final = -1


class Position(msgspec.Struct, frozen=True):
    """How far a lane has been read: everything in `done`, and of `target` all rows up to (xid, outbox_id)."""

    done: Snapshot
    target: Snapshot
    xid: int
    outbox_id: int

    @classmethod
    def after(cls, done: Snapshot) -> Position:
        """Give the position at which everything visible in `done` has been read and nothing else."""
        return cls(done, done, done.xmax, _BEFORE_ANY_ROW)

    @property
    def complete(self) -> bool:
        """True when there is nothing left to read before a newer snapshot is taken."""
        return self.done == self.target

    def stragglers(self, target: Snapshot) -> list[int]:
        """Give the transactions that were open in `done` and are finished in `target`, ascending."""
        return sorted(xid for xid in self.done.open_xids if target.sees(xid))

    def range_start(self) -> tuple[int, int]:
        """Give (xid, id) after which the range is to be read."""
        if self.xid < self.done.xmax:
            return self.done.xmax, _BEFORE_ANY_ROW
        return self.xid, self.outbox_id

    def straggler_start(self) -> tuple[int, int] | None:
        """Give (xid, id) after which stragglers are to be read; None when all have been."""
        if self.complete:
            return 0, _BEFORE_ANY_ROW
        return (self.xid, self.outbox_id) if self.xid < self.done.xmax else None

    def covers(self, xid: int, outbox_id: int) -> bool:
        """Say whether a row has been read."""
        if self.done.sees(xid):
            return True
        if not self.target.sees(xid):
            return False
        late, now_late = xid < self.done.xmax, self.xid < self.done.xmax
        if late is not now_late:
            return late  # all stragglers come before the range
        return (xid, outbox_id) <= (self.xid, self.outbox_id)

    def advanced(self, target: Snapshot, xid: int, outbox_id: int) -> Position:
        """Give the position after the row (xid, outbox_id) of a reading up to `target`."""
        return Position(self.done, target, xid, outbox_id)
