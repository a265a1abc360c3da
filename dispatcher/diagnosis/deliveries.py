"""What a webhook's last deliveries say: whether they arrive, how fast they are answered, why some failed."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from dispatcher.diagnosis.advice import advice_for
from dispatcher.diagnosis.finding import Finding, fail, ok, short_time, skipped, warn, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dispatcher.store.recent import LatestDelivery

LOOKED_AT: Final = 20
_PROMPT_S: Final = 5.0  # the guide: "Respond quickly (< 5 seconds)"


def judge_deliveries(latest: Sequence[LatestDelivery]) -> Finding:
    """Judge deliveries, the newest first."""
    if not latest:
        return skipped("deliveries", words("there is none yet: nothing that it subscribes to has happened"))
    attempted = [one for one in latest if one.attempts]
    if not attempted:
        return warn(
            "deliveries",
            words("{count} wait, and none was attempted", count=len(latest)),
            words("Look at the dispatcher itself: `dispatcher doctor` without a webhook."),
        )
    failing = 0
    for one in attempted:
        if one.state == "delivered":
            break
        failing += 1
    newest = attempted[0]
    if failing:
        return fail(
            "deliveries",
            words(
                "the last {failing} of {all} did not arrive; the newest is {state}: {what}",
                failing=failing,
                all=len(attempted),
                state=newest.state,
                what=_what(newest),
            ),
            advice_for(newest.error, newest.status_code),
        )
    lost = [one for one in attempted if one.state != "delivered"]
    if lost:
        return warn(
            "deliveries",
            words(
                "the newest arrived, {lost} of the last {all} did not; among those: {what}",
                lost=len(lost),
                all=len(attempted),
                what=_what(lost[0]),
            ),
            advice_for(lost[0].error, lost[0].status_code),
        )
    return ok("deliveries", words("the last {all} all arrived", all=len(attempted)))


def judge_speed(latest: Sequence[LatestDelivery]) -> Finding:
    """Judge how long the answers to these deliveries' last attempts took, against the guide's 5 seconds."""
    times_s = [
        one.duration_ms / 1000
        for one in latest
        if one.duration_ms is not None and one.status_code is not None
    ]
    if not times_s:
        return skipped("speed", words("there was no answer yet whose time could be told"))
    found = words(
        "the last {count} answers took {median} (median) and {most} at most",
        count=len(times_s),
        median=short_time(median(times_s)),
        most=short_time(max(times_s)),
    )
    if max(times_s) > _PROMPT_S:
        slow = words(
            "Answer 200 at once, and process in the background or through a queue: at most 5 seconds."
        )
        return warn("speed", found, slow)
    return ok("speed", found)


def _what(one: LatestDelivery) -> str:
    parts = [str(one.status_code) if one.status_code is not None else "", one.error or one.reason or ""]
    return " ".join(part for part in parts if part) or "no answer was recorded"
