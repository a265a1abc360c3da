"""`dispatcher status`: who holds which shard, how far each lane is, what is pending, what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.diagnosis.secrecy import key_state
from dispatcher.store.status import COUNTED, Status, read_status
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import duration, moment, printable, say, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dispatcher.config import Config

_LATE_S: Final = 60.0  # an unread row this old means that the tail does not follow
_MONTHS_AHEAD: Final = 1  # partitions must reach this far, or producers will be refused
_HEAD: Final = ("LANE", "BATCH", "NOT READ", "OLDEST", "NOT ATTEMPTED", "OLDEST", "WEBHOOKS WAITING")


async def status(config: Config, *, as_json: bool) -> int:
    """Print where everything stands; 0 when all is well, 1 when something is wrong."""
    async with open_database(config) as database:
        seen = await read_status(database.link("status"))
    key = key_state(config, seen.key_check)
    wrong = list(_problems(seen, key))
    if as_json:
        shown: dict[str, Any] = msgspec.to_builtins(seen)
        del shown["key_check"]
        told = None if seen.branch is None else {**shown["branch"], "meaning": str(seen.branch)}
        shown |= {"branch": told, "encryption_key": key, "problems": wrong}
        say(msgspec.json.encode(shown).decode())
    else:
        say(*_lines(seen, key))
        if seen.branch is not None:
            say(f"NOTICE of {moment(seen.branch.noticed_at)}: {seen.branch}")
        say(*(f"WRONG: {printable(problem)}" for problem in wrong) if wrong else ["all is well"])
    return 1 if wrong else 0


def _problems(seen: Status, key: str) -> Iterator[str]:
    leader = seen.leader
    if leader is None or not leader.lease_left_s:
        yield "nobody leads: nothing is sent; start `dispatcher serve`"
    elif leader.dead:
        yield f"nobody leads: {leader.who} is dead"
    for number, holder in enumerate(seen.shards[1:], 1):
        if holder is None or not holder.holds:
            yield f"nobody holds shard {number}: its webhooks are sent nothing; start `dispatcher serve`"
    if seen.restored is not None:
        yield seen.restored
    for lane in seen.lanes:
        if lane.oldest_unread_s is not None and lane.oldest_unread_s > _LATE_S:
            yield f"lane {lane.lane}: a row has not been read for {duration(lane.oldest_unread_s)}"
    if key == "differs":
        yield "the encryption key is not the one that the database's secrets were sealed with"
    year, month = map(int, seen.last_month.split("-"))
    if (year - seen.at.year) * 12 + month - seen.at.month < _MONTHS_AHEAD:
        yield f"partitions end with {seen.last_month}, then INSERTs are refused: run `dispatcher migrate`"


def _lines(seen: Status, key: str) -> Iterator[str]:
    yield f"PostgreSQL {seen.server_version}, {moment(seen.at)}"
    if seen.leader is not None:
        leader = seen.leader
        left = f"lease {duration(leader.lease_left_s)} more" if leader.lease_left_s else "lease over"
        yield (
            f"run {leader.run} of {printable(leader.who)}, version {leader.version}, "
            f"since {moment(leader.since)}, {left}"
        )
    if len(seen.shards) > 1:
        yield from _shares(seen)
    yield from table(
        _HEAD,
        [
            (
                lane.lane,
                str(lane.batch),
                _count(lane.unread),
                _age(lane.oldest_unread_s),
                _count(lane.unattempted),
                _age(lane.oldest_unattempted_s),
                str(lane.webhooks_waiting),
            )
            for lane in seen.lanes
        ],
    )
    scheduled = seen.scheduled
    more = "" if scheduled.due + scheduled.later <= COUNTED else " (of the first 10,000)"
    first = f", the first at {moment(scheduled.first_at)}" if scheduled.first_at else ""
    yield f"to be tried again: {scheduled.due:,} due, {scheduled.later:,} later{more}{first}"
    ages = [scheduled.oldest_event_s, *(lane.oldest_unattempted_s for lane in seen.lanes)]
    yield f"oldest pending: {_age(max((age for age in ages if age is not None), default=None))}"
    yield f"partitions: {seen.first_month} to {seen.last_month}; encryption key: {key}"


def _shares(seen: Status) -> Iterator[str]:
    """Say who holds which shards, the leader first."""
    held: dict[str, list[str]] = {}
    for number, one in enumerate(seen.shards):
        held.setdefault(one.who if one is not None and one.holds else "nobody", []).append(str(number))
    for who, numbers in held.items():
        yield f"{len(numbers)} of {len(seen.shards)} shards: {', '.join(numbers)}: {printable(who)}"


def _count(number: int) -> str:
    return f"{number:,}" if number <= COUNTED else f"over {COUNTED:,}"


def _age(age_s: float | None) -> str:
    return "-" if age_s is None else duration(age_s)
