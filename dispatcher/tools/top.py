"""`dispatcher top`: the lanes, what waits, and the slowest webhooks, shown again every few seconds."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.store.load import BusyWebhook, busy_webhooks
from dispatcher.store.status import LaneStatus, Scheduled, read_status
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import Paint, duration, moment, printable, say, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dispatcher.config import Config

_WHILE: Final = dt.timedelta(minutes=5)
_CLEAR: Final = "\x1b[H\x1b[2J"
_LANES: Final = ("LANE", "NOT READ", "OLDEST", "NOT ATTEMPTED", "OLDEST", "WEBHOOKS WAITING")
_WEBHOOKS: Final = ("WEBHOOK", "ATTEMPTS", "FAILED", "MEDIAN", "SLOWEST", "URL")


class Picture(msgspec.Struct, frozen=True):
    """Everything that is shown at once."""

    at: dt.datetime
    leader: str | None
    lanes: list[LaneStatus]
    scheduled: Scheduled
    slowest: list[BusyWebhook]  # of the last five minutes


async def top(config: Config, *, every_s: float, count: int | None, webhooks: int, as_json: bool) -> int:
    """Show it `count` times, or until interrupted; each time what the last five minutes amount to."""
    async with open_database(config) as database:
        link = database.link("top")
        paint = Paint(sys.stdout)
        shown = 0
        while True:
            seen = await read_status(link)
            leads = seen.leader is not None and seen.leader.lease_left_s and not seen.leader.dead
            picture = Picture(
                seen.at,
                seen.leader.host if seen.leader is not None and leads else None,
                seen.lanes,
                seen.scheduled,
                await busy_webhooks(database, seen.at - _WHILE, webhooks),
            )
            if as_json:
                say(msgspec.json.encode(picture).decode())
            else:
                if sys.stdout.isatty():
                    sys.stdout.write(_CLEAR)
                say(*_lines(picture, paint))
            shown += 1
            if shown == count:
                return 0
            await asyncio.sleep(every_s)


def _lines(picture: Picture, paint: Paint) -> Iterator[str]:
    leads = f"{printable(picture.leader)} leads" if picture.leader else paint("nobody leads", "red")
    yield f"{moment(picture.at)}  {leads}"
    yield from table(
        _LANES,
        [
            (
                lane.lane,
                f"{lane.unread:,}",
                _age(lane.oldest_unread_s),
                f"{lane.unattempted:,}",
                _age(lane.oldest_unattempted_s),
                str(lane.webhooks_waiting),
            )
            for lane in picture.lanes
        ],
    )
    scheduled = picture.scheduled
    yield f"to be tried again: {scheduled.due:,} due, {scheduled.later:,} later"
    yield ""
    if picture.slowest:
        yield from table(_WEBHOOKS, [_webhook(one) for one in picture.slowest])
    else:
        yield "no attempts in the last five minutes"


def _webhook(one: BusyWebhook) -> tuple[str, ...]:
    return (
        one.webhook,
        str(one.attempts),
        str(one.failures),
        _age(None if one.median_ms is None else one.median_ms / 1000),
        _age(None if one.most_ms is None else one.most_ms / 1000),
        one.url,
    )


def _age(age_s: float | None) -> str:
    return "-" if age_s is None else duration(age_s)
