"""When a failed attempt is followed by another."""

from __future__ import annotations

import datetime as dt

import pytest

from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, Outcome, Timings
from dispatcher.core.retry import after_own_fault, next_attempt

ENDED = dt.datetime(2026, 11, 21, 14, 0, 0, tzinfo=dt.UTC)
GUIDE = (60.0, 300.0, 1800.0)
HOUR = 3600.0


def answered(status: int, *retry_after: str, name: str = "Retry-After") -> Answered:
    """Make an answer that carries these values of Retry-After."""
    headers = (("Date", "x"), *((name, value) for value in retry_after))
    return Answered(status, headers, b"", body_truncated=False, address=None, timings=Timings())


def wait_s(outcome: Outcome, failures: int = 1) -> float | None:
    """Give the seconds from the end of the attempt to the next one."""
    due = next_attempt(outcome, failures=failures, delays_s=GUIDE, ended_at=ENDED, retry_after_max_s=HOUR)
    return None if due is None else (due - ENDED).total_seconds()


@pytest.mark.parametrize(("failures", "expected"), [(1, 60.0), (2, 300.0), (3, 1800.0), (4, None), (5, None)])
def test_delays_of_the_guide(failures: int, expected: float | None) -> None:
    """1, 5 and 30 minutes after the end of the attempt before, then no more."""
    assert wait_s(answered(500), failures) == expected


@pytest.mark.parametrize("error", ErrorClass)
def test_every_class_of_failure_is_tried_again(error: ErrorClass) -> None:
    """Without an answer, the delays are the same, whatever went wrong."""
    assert wait_s(NoAnswer(error, "…", None, Timings())) == 60.0


@pytest.mark.parametrize("status", [301, 400, 404, 410, 429, 500, 503, 999])
def test_every_status_but_success_is_tried_again(status: int) -> None:
    """No status ends a delivery early."""
    assert wait_s(answered(status)) == 60.0


@pytest.mark.parametrize("status", [200, 204, 299])
def test_success_is_not_tried_again(status: int) -> None:
    """A delivered delivery needs no other attempt."""
    assert wait_s(answered(status, "120")) is None


def test_no_delays_no_retries() -> None:
    """An empty list of delays means one attempt, and Retry-After adds none."""
    due = next_attempt(answered(503, "120"), failures=1, delays_s=(), ended_at=ENDED, retry_after_max_s=HOUR)
    assert due is None


def test_attempts_are_counted_from_one() -> None:
    """Nothing is to be retried before anything has failed."""
    with pytest.raises(ValueError, match="failures"):
        wait_s(answered(500), failures=0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        ("61", 61.0),
        ("60", 60.0),
        ("59", 60.0),  # never forward
        ("0", 60.0),
        ("3600", 3600.0),
        ("3601", 3600.0),  # an hour at the most
        ("86400", 3600.0),
        ("999999999", 3600.0),
        ("000120", 120.0),
        (" 120\t", 120.0),
        ("Sat, 21 Nov 2026 14:10:00 GMT", 600.0),
        ("Sat, 21 Nov 2026 14:00:10 GMT", 60.0),
        ("Sat, 21 Nov 2026 13:00:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 14:00:00 GMT", 3600.0),
        ("Saturday, 21-Nov-26 14:10:00 GMT", 600.0),
        ("Saturday, 21-Nov-77 14:10:00 GMT", 60.0),  # 1977: more than 50 years ahead is the past
        ("Saturday, 21-Nov-75 14:10:00 GMT", 3600.0),
        ("Sat Nov 21 14:10:00 2026", 600.0),
        ("Sat Nov  7 14:10:00 2026", 60.0),
        ("Sat, 21 Nov 2026 14:09:60 GMT", 599.0),  # a leap second
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_postpones(status: int, value: str, expected: float) -> None:
    """Seconds or a date, in all three forms, postpone; by at most an hour, and never forward."""
    assert wait_s(answered(status, value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-120",
        "+120",
        "120.5",
        "1e3",
        "120s",
        "0x78",
        "1_000",
        "9999999999",
        "9" * 5000,
        "²³",
        "١٢٠",
        "120, 120",
        "soon",
        "Sat, 21 Nov 2026 14:10:00",
        "Sat, 21 Nov 2026 14:10:00 CET",
        "Sat, 21 Nov 2026 14:10:00 +0000",
        "sat, 21 nov 2026 14:10:00 gmt",
        "Sat, 31 Feb 2027 14:10:00 GMT",
        "Sat, 21 Nov 2026 25:10:00 GMT",
        "Sat, 21 Nov 2026 14:10:61 GMT",
        "Sat, 21 Nov 0000 14:10:00 GMT",
        "2026-11-21T14:10:00Z",
    ],
)
def test_nonsense_is_ignored(value: str) -> None:
    """What is neither seconds nor a date changes nothing."""
    assert wait_s(answered(503, value)) == 60.0


def test_two_values() -> None:
    """Two that agree are one; two that disagree are nonsense."""
    assert wait_s(answered(503, "120", "120")) == 120.0
    assert wait_s(answered(503, "120", "240")) == 60.0


def test_name_of_the_header_in_any_case() -> None:
    """Header names have no case."""
    assert wait_s(answered(429, "120", name="retry-AFTER")) == 120.0


@pytest.mark.parametrize("status", [301, 400, 500, 502])
def test_other_statuses_cannot_ask(status: int) -> None:
    """Retry-After counts with 429 and 503 only."""
    assert wait_s(answered(status, "120")) == 60.0


def test_longer_delays_of_the_operator_hold() -> None:
    """The hour bounds what a receiver asks for, not what the operator configured."""
    due = next_attempt(
        answered(503, "5000"), failures=1, delays_s=(7200.0,), ended_at=ENDED, retry_after_max_s=HOUR
    )
    assert due == ENDED + dt.timedelta(hours=2)


def test_last_moments_of_the_calendar() -> None:
    """No wait can leave the calendar."""
    late = dt.datetime(9999, 12, 31, 22, 0, 0, tzinfo=dt.UTC)
    due = next_attempt(
        answered(503, "999999999"), failures=1, delays_s=GUIDE, ended_at=late, retry_after_max_s=HOUR
    )
    assert due == late + dt.timedelta(hours=1)


def test_own_faults_are_repeated_soon_and_then_less_often() -> None:
    """5 s at first, doubled each time, at most 5 minutes, however long it lasts."""
    waits = [after_own_fault(attempt_no).total_seconds() for attempt_no in (1, 2, 3, 6, 7, 8, 10_000)]
    assert [5, 10, 20, 160, 300, 300, 300] == waits
