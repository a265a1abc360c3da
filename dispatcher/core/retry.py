"""When a failed delivery is tried again: the operator's delays, and what the receiver asked for."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Final

from dispatcher.core.outcome import Answered, Outcome, error_class

if TYPE_CHECKING:
    from collections.abc import Sequence

_OWN_FAULT_S: Final = 5.0
_OWN_FAULT_MAX_S: Final = 300.0
_ASKING: Final = frozenset({429, 503})
_SECONDS: Final = re.compile(r"0*([0-9]{1,9})")  # more digits are three centuries: nonsense
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH: Final = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES: Final = (
    # RFC 9110, 5.6.7: IMF-fixdate, then the two obsolete forms (RFC 850, asctime).
    re.compile(
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"
    ),
    re.compile(
        r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, "
        rf"(?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
    ),
    re.compile(
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"
    ),
)


def next_attempt(
    outcome: Outcome,
    *,
    failures: int,
    delays_s: Sequence[float],
    ended_at: dt.datetime,
    retry_after_max_s: float,
) -> dt.datetime | None:
    """Say when to try again after a failed attempt, None where no retry is left.

    `failures` counts the failed attempts so far, this one included: retry k comes `delays_s[k - 1]` after
    `ended_at` (aware), the end of the attempt before. A `Retry-After` on 429 and 503 can postpone it, by
    at most `retry_after_max_s` after `ended_at`; it neither brings it forward nor adds one. A success
    needs no retry.
    """
    if failures < 1:
        raise ValueError("failures counts the attempt that has just failed")
    if failures > len(delays_s) or error_class(outcome) is None:
        return None
    due = ended_at + dt.timedelta(seconds=delays_s[failures - 1])
    asked = _retry_after(outcome, ended_at) if isinstance(outcome, Answered) else None
    if asked is None:
        return due
    latest = ended_at + dt.timedelta(seconds=retry_after_max_s)
    return max(due, min(asked, latest))


def after_own_fault(attempt_no: int) -> dt.timedelta:
    """Say how long to wait after an attempt that ended by a fault of our own: shortly, then longer.

    5 s after the first attempt, at most 5 minutes: the alert is still wanted, the proxy is not to be
    flooded, and the history grows by one fact for each attempt.
    """
    return dt.timedelta(seconds=min(_OWN_FAULT_S * 2.0 ** min(attempt_no - 1, 10), _OWN_FAULT_MAX_S))


def _retry_after(outcome: Answered, ended_at: dt.datetime) -> dt.datetime | None:
    """Read `Retry-After`; None where it is absent, nonsense, or there are two that disagree."""
    if outcome.status not in _ASKING:
        return None
    values = {value.strip(" \t") for name, value in outcome.headers if name.lower() == "retry-after"}
    if len(values) != 1:
        return None
    value = values.pop()
    if match := _SECONDS.fullmatch(value):
        return _plus(ended_at, int(match[1]))
    return _http_date(value, ended_at)


def _plus(moment: dt.datetime, seconds: int) -> dt.datetime:
    try:
        return moment + dt.timedelta(seconds=seconds)
    except OverflowError:
        return dt.datetime.max.replace(tzinfo=dt.UTC)


def _http_date(text: str, now: dt.datetime) -> dt.datetime | None:
    match = next((match for pattern in _DATES if (match := pattern.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:  # "more than 50 years in the future" means the past (RFC 9110, 5.6.7)
        year += now.year // 100 * 100
        if year > now.year + 50:
            year -= 100
        elif year <= now.year - 50:
            year += 100
    try:
        return dt.datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            min(int(match["second"]), 59) if match["second"] == "60" else int(match["second"]),
            tzinfo=dt.UTC,
        )
    except ValueError:
        return None
