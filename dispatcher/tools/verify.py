"""`dispatcher verify`: rebuilds every delivery's state from its facts and compares it with what is shown."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.config import Config
from dispatcher.core.delivery import State
from dispatcher.store.verification import Discrepancy, Tally, Verification
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import printable, say

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERYTHING: Final = dt.date(1, 1, 1)
_PROMISED_ATTEMPTS: Final = 1 + len(Config().delivery.retry_delays_s)


async def verify(config: Config, *, since: dt.date | None, as_json: bool) -> int:
    """Print each discrepancy and a summary; 0 when there is none, else 1.

    `since` is the UTC day on which the events were recorded.
    """
    # A list of delays that was shortened leaves longer schedules in the history: the guide's is the least.
    most_attempts = max(_PROMISED_ATTEMPTS, 1 + len(config.delivery.retry_delays_s))
    async with open_database(config) as database:
        verification = Verification(
            database.link("verify"), since=since or _EVERYTHING, most_attempts=most_attempts
        )
        async for found in verification.discrepancies():
            say(msgspec.json.encode(found).decode() if as_json else _line(found))
    if as_json:
        say(msgspec.json.encode({"summary": verification.tally}).decode())
    else:
        say(*_summary(verification.tally))
    return 1 if verification.tally.discrepancies else 0


def _line(found: Discrepancy) -> str:
    event = f"event {found.outbox_id} of {found.day}"
    if found.delivery is None:
        return f"{event}: {printable(found.problem)}"
    return f"{found.delivery} ({event}, {found.webhook or 'unknown webhook'}): {printable(found.problem)}"


def _summary(tally: Tally) -> Iterator[str]:
    unread = f", {tally.not_read_yet:,} more not read yet" if tally.not_read_yet else ""
    yield f"{tally.events:,} events{unread}"
    states = ", ".join(f"{tally.states[state]:,} {state}" for state in State)
    yield f"{tally.states.total():,} deliveries with {tally.facts:,} facts: {states}"
    if tally.discrepancies:
        yield f"{tally.discrepancies:,} discrepancies"
    else:
        yield "no discrepancy: what is shown is what the facts amount to"
