"""A delivery's life: what follows from an attempt, and the state that facts amount to."""

from __future__ import annotations

import datetime as dt

import pytest

from dispatcher.core.delivery import Fact, IllegalFact, Kind, State, Trigger, Verdict, fold, judge
from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, Outcome, Timings

ENDED = dt.datetime(2026, 11, 21, 14, 0, 0, tzinfo=dt.UTC)
NOTHING = NoAnswer(ErrorClass.TIMEOUT, "…", None, Timings())


def answered(status: int, **headers: str) -> Answered:
    """Make an answer with this status."""
    return Answered(
        status, tuple(headers.items()), b"", body_truncated=False, address=None, timings=Timings()
    )


def verdict(
    outcome: Outcome,
    *,
    trigger: Trigger = Trigger.FIRST,
    state: State = State.PENDING,
    failures: int = 0,
) -> Verdict:
    """Judge an attempt that ended at ENDED under the guide's delays."""
    return judge(
        outcome,
        trigger=trigger,
        state=state,
        failures=failures,
        ended_at=ENDED,
        delays_s=(60, 300, 1800),
        retry_after_max_s=3600,
    )


def after_s(seconds: float) -> dt.datetime:
    """Give the time so long after the attempt."""
    return ENDED + dt.timedelta(seconds=seconds)


def test_four_attempts_then_failed() -> None:
    """Retries 1, 5 and 30 minutes after the end of the attempt before, and never a fifth attempt."""
    seen = []
    failures, trigger = 0, Trigger.FIRST
    while True:
        one = verdict(NOTHING, trigger=trigger, failures=failures)
        seen.append(one)
        if one.next_attempt_at is None:
            break
        failures, trigger = one.failures, Trigger.RETRY
    assert [
        Verdict(State.PENDING, after_s(60), 1, ErrorClass.TIMEOUT),
        Verdict(State.PENDING, after_s(300), 2, ErrorClass.TIMEOUT),
        Verdict(State.PENDING, after_s(1800), 3, ErrorClass.TIMEOUT),
        Verdict(State.FAILED, None, 4, ErrorClass.TIMEOUT),
    ] == seen


@pytest.mark.parametrize("failures", range(4))
@pytest.mark.parametrize("trigger", Trigger)
def test_success_ends_it(trigger: Trigger, failures: int) -> None:
    """Any 2xx delivers, whatever came before and whoever asked for the attempt."""
    for status in (200, 204, 299):
        expected = Verdict(State.DELIVERED, None, failures, None)
        assert expected == verdict(answered(status), trigger=trigger, failures=failures)


@pytest.mark.parametrize("trigger", [Trigger.MANUAL, Trigger.TEST])
def test_attempts_by_hand_are_made_once(trigger: Trigger) -> None:
    """A failed redelivery or test has no schedule."""
    expected = Verdict(State.FAILED, None, 1, ErrorClass.SERVER_ERROR)
    assert expected == verdict(answered(503), trigger=trigger)


def test_recovered_deliveries_are_retried() -> None:
    """A recovery is a first attempt made late: it has the whole schedule before it."""
    expected = Verdict(State.PENDING, after_s(60), 1, ErrorClass.TIMEOUT)
    assert expected == verdict(NOTHING, trigger=Trigger.RECOVER)


@pytest.mark.parametrize("trigger", Trigger)
def test_delivered_is_for_ever(trigger: Trigger) -> None:
    """A redelivery that fails takes nothing back, and asks for no retry."""
    expected = Verdict(State.DELIVERED, None, 2, ErrorClass.SERVER_ERROR)
    assert expected == verdict(answered(500), trigger=trigger, state=State.DELIVERED, failures=2)


def test_receiver_can_postpone_its_retry() -> None:
    """Retry-After counts from the end of the attempt, up to an hour."""
    one = verdict(answered(503, **{"Retry-After": "600"}))
    assert Verdict(State.PENDING, after_s(600), 1, ErrorClass.SERVER_ERROR) == one
    assert after_s(3600) == verdict(answered(429, **{"Retry-After": "99999"})).next_attempt_at


def fact(
    attempt_no: int,
    kind: Kind,
    *,
    retry_due: bool = False,
    delivered: bool = False,
    state: State = State.PENDING,
) -> Fact:
    """Make a fact; `state` is what its writer said, which the fold does not look at."""
    return Fact(attempt_no, kind, state, retry_due=retry_due, delivered=delivered)


FAILED_ATTEMPTS = [fact(n, Kind.ATTEMPTED, retry_due=n < 4) for n in range(1, 5)]
DELIVERED = fact(1, Kind.ATTEMPTED, delivered=True)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([], State.PENDING),
        ([DELIVERED], State.DELIVERED),
        (FAILED_ATTEMPTS[:1], State.PENDING),
        (FAILED_ATTEMPTS[:3], State.PENDING),
        (FAILED_ATTEMPTS, State.FAILED),
        ([fact(1, Kind.INTERRUPTED)], State.PENDING),
        ([fact(1, Kind.INTERRUPTED), fact(2, Kind.ATTEMPTED, delivered=True)], State.DELIVERED),
        ([fact(1, Kind.CANCELLED)], State.CANCELLED),
        ([fact(1, Kind.CANCELLED), fact(1, Kind.ATTEMPTED, retry_due=True)], State.CANCELLED),
        ([fact(1, Kind.CANCELLED), fact(1, Kind.ATTEMPTED, delivered=True)], State.DELIVERED),
        ([*FAILED_ATTEMPTS, fact(5, Kind.REQUESTED)], State.PENDING),
        ([*FAILED_ATTEMPTS, fact(5, Kind.REQUESTED), fact(5, Kind.ATTEMPTED)], State.FAILED),
        ([fact(1, Kind.CANCELLED), fact(2, Kind.REQUESTED)], State.PENDING),
        ([DELIVERED, fact(2, Kind.REQUESTED)], State.DELIVERED),
        ([DELIVERED, fact(2, Kind.REQUESTED), fact(2, Kind.ATTEMPTED)], State.DELIVERED),
        ([DELIVERED, fact(2, Kind.REQUESTED), fact(2, Kind.CANCELLED)], State.DELIVERED),
        ([DELIVERED, fact(2, Kind.REQUESTED), fact(2, Kind.INTERRUPTED)], State.DELIVERED),
    ],
)
def test_fold(facts: list[Fact], expected: State) -> None:
    """The state is what the facts amount to, in their order."""
    assert expected == fold(facts)


@pytest.mark.parametrize(
    "facts",
    [
        [DELIVERED, DELIVERED],
        [fact(2, Kind.ATTEMPTED), fact(1, Kind.ATTEMPTED)],
        [fact(1, Kind.ATTEMPTED), fact(1, Kind.INTERRUPTED)],
        [fact(1, Kind.ATTEMPTED), fact(1, Kind.REQUESTED)],
        [*FAILED_ATTEMPTS, fact(5, Kind.CANCELLED)],
        [*FAILED_ATTEMPTS, fact(5, Kind.INTERRUPTED)],
        [fact(1, Kind.CANCELLED), fact(2, Kind.CANCELLED)],
        [fact(1, Kind.CANCELLED), fact(2, Kind.INTERRUPTED)],
        [fact(1, Kind.INTERRUPTED, delivered=True)],
        [fact(1, Kind.CANCELLED, delivered=True)],
    ],
)
def test_what_cannot_have_happened_is_refused(facts: list[Fact]) -> None:
    """Two facts at one place, facts out of order, an end after the end."""
    with pytest.raises(IllegalFact):
        fold(facts)
