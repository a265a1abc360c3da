"""Whether the dispatcher is at work: who leads, how far the lanes are, how far the partitions reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dispatcher.diagnosis.finding import Finding, fail, ok, short_time, warn, words

if TYPE_CHECKING:
    from dispatcher.store.status import Status

_LATE_S: Final = 60.0  # an unread row this old means that the tail does not follow
_BEHIND_S: Final = 5.0
_MONTHS_AHEAD: Final = 1  # partitions must reach this far, or producers will be refused


def examine_leader(seen: Status) -> Finding:
    """Say who leads."""
    leader = seen.leader
    start = words("Start `dispatcher serve`: nothing is sent while nobody leads.")
    if leader is None or not leader.lease_left_s:
        return fail("leader", words("nobody leads"), start)
    if leader.dead:
        return fail("leader", words("the process that led, on {host}, is dead", host=leader.host), start)
    free = [str(number) for number, one in enumerate(seen.shards) if one is None or not one.holds]
    if free:
        names = ", ".join(free)
        found = words("nobody holds the shards {numbers} of {count}", numbers=names, count=len(seen.shards))
        return fail("leader", found, words("Start `dispatcher serve`: their webhooks are sent nothing."))
    return ok(
        "leader",
        words(
            "{host} leads with version {version}, since {since}",
            host=leader.host,
            version=leader.version,
            since=f"{leader.since:%Y-%m-%d %H:%M:%SZ}",
        ),
    )


def examine_lag(seen: Status) -> Finding:
    """Judge the oldest row of the outbox that was not read, and the oldest delivery without an attempt."""
    if seen.restored is not None:
        return fail(
            "outbox",
            words("{reason}", reason=seen.restored),
            words("Run `dispatcher rebase`, once you know why."),
        )
    ages = [
        (age_s, f"{what} in lane {lane.lane}")
        for lane in seen.lanes
        for age_s, what in (
            (lane.oldest_unread_s, "an unread row"),
            (lane.oldest_unattempted_s, "a delivery without an attempt"),
        )
        if age_s is not None
    ]
    if not ages:
        return ok("outbox", words("everything is read, and was attempted"))
    age_s, what = max(ages)
    found = words("the oldest that waits is {what}, for {time}", what=what, time=short_time(age_s))
    if age_s > _LATE_S:
        look = words(
            "Look at the dispatcher's log and at `dispatcher top`; receivers that hang hold only their own."
        )
        return fail("outbox", found, look)
    if age_s > _BEHIND_S:
        return warn("outbox", found, words("Look again: it may be a burst that is being worked off."))
    return ok("outbox", found)


def examine_history(seen: Status) -> Finding:
    """Tell of a promotion, or a recovery to a point in time, until it is acknowledged or a week old."""
    if seen.branch is None:
        return ok("history", words("the server's history has not branched off lately"))
    return warn(
        "history",
        words("{branch}", branch=seen.branch),
        words(
            "Where its last seconds were lost, stop the dispatcher and run `dispatcher rebase --yes`; "
            "where nothing was, there is nothing to do."
        ),
    )


def examine_partitions(seen: Status) -> Finding:
    """Judge how far ahead partitions were made."""
    year, month = map(int, seen.last_month.split("-"))
    ahead = (year - seen.at.year) * 12 + month - seen.at.month
    found = words("they reach from {first} to {last}", first=seen.first_month, last=seen.last_month)
    if ahead < _MONTHS_AHEAD:
        return fail(
            "partitions",
            found,
            words("Run `dispatcher migrate`: afterwards producers' INSERTs would be refused."),
        )
    return ok("partitions", found)
