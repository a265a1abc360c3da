"""Which copy of the database a run goes on in, by the database's oid and the timeline of the server's log.

A restored dump has another oid, and is refused (store/outbox.py). A promoted server has another timeline, and
is not: failover goes on by itself. It is written down, so that somebody is told what may be sent twice.
"""

from __future__ import annotations

import datetime as dt

import msgspec

from dispatcher.core.ids import RunId
from dispatcher.store.transaction import Statements


class Branch(msgspec.Struct, frozen=True):
    """A run went on where the server's history had branched off: what came after that may be lost here."""

    before: int  # timeline of the server's log until then
    timeline: int  # and now
    noticed_at: dt.datetime
    known_until: dt.datetime | None  # nothing up to this moment is lost; None while there is no message

    def __str__(self) -> str:
        """Say what may have happened and what follows."""
        since = "" if self.known_until is None else f" since {self.known_until:%Y-%m-%d %H:%M:%SZ}"
        return (
            f"the server was promoted, or recovered to a point in time: timeline {self.before} became "
            f"{self.timeline}. Unless nothing was lost by that, what was sent{since} may be sent twice"
        )


async def enter(statements: Statements, run_id: RunId, *, acknowledged: bool = False) -> Branch | None:
    """Remember that the run works in this copy; give the branch that nobody had noticed yet.

    Where there is one, the outbox's ids go on beyond those that may have been given in what was lost.
    With `acknowledged` an operator takes the copy over, whichever it is.
    """
    row = await statements.fetchrow("incarnation_enter", run_id, acknowledged)
    if row is None or row["before"] is None:
        return None
    return Branch(row["before"], row["timeline"], row["noticed_at"], row["known_until"])


async def unacknowledged(statements: Statements) -> Branch | None:
    """Give the newest branch, for a week after it was noticed, unless `dispatcher rebase` came since."""
    row = await statements.fetchrow("incarnation_branched")
    return None if row is None else Branch(**row)
