"""A delivery's life: a fold over its immutable facts, and what the next fact has to be.

                       requested (by hand, by a recovery)
                 ┌────────────────────────────────────────────────┐
                 ▼                                                │
    (created) pending ──attempted, 2xx──────────────▶ delivered ──┤
                 │ ▲ └──attempted, no retry left────▶ failed ─────┤
                 │ │    cancelled, superseded ──────▶ cancelled ──┘
                 └─┘    expired, withheld
          attempted, a retry is due │ interrupted (our own fault: uses up no attempt) │ postponed

A fact's place is (attempt_no, step): a request for an attempt, the closing of the delivery without it, the
attempt itself. Delivered is for ever: whatever is tried afterwards by hand, the receiver has it.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from dispatcher.core.outcome import ErrorClass, Outcome, error_class
from dispatcher.core.retry import next_attempt


class State(enum.StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Kind(enum.StrEnum):
    """What a fact says."""

    REQUESTED = "requested"
    POSTPONED = "postponed"  # it waits whether what it tells of lasts
    CANCELLED = "cancelled"  # its webhook was deactivated or deleted
    SUPERSEDED = "superseded"  # a newer revision took its place
    EXPIRED = "expired"  # it became too old to matter
    WITHHELD = "withheld"  # what it tells of did not last
    ATTEMPTED = "attempted"
    INTERRUPTED = "interrupted"


class Trigger(enum.StrEnum):
    """Why an attempt is made."""

    FIRST = "first"
    RETRY = "retry"
    MANUAL = "manual"
    RECOVER = "recover"
    TEST = "test"


# They end a delivery without the attempt.
CLOSING: Final = frozenset({Kind.CANCELLED, Kind.SUPERSEDED, Kind.EXPIRED, Kind.WITHHELD})
STEP: Final = {
    Kind.REQUESTED: 0,
    Kind.POSTPONED: 0,
    **dict.fromkeys(CLOSING, 1),
    Kind.ATTEMPTED: 2,
    Kind.INTERRUPTED: 2,
}

ONCE_ONLY: Final = frozenset({Trigger.MANUAL, Trigger.TEST})  # made by hand: one attempt, no schedule


class IllegalFact(ValueError):
    """A fact that cannot follow the facts before it: somebody has a bug, or changed the history."""


class Fact(msgspec.Struct, frozen=True):
    """What the fold needs of one fact."""

    attempt_no: int
    kind: Kind
    state: State  # what the writer said the state is from here on
    retry_due: bool = False
    delivered: bool = False  # of an attempt: a 2xx came


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What an attempt's outcome means for its delivery."""

    state: State
    next_attempt_at: dt.datetime | None
    failures: int
    error: ErrorClass | None  # why it failed


def judge(
    outcome: Outcome,
    *,
    trigger: Trigger,
    state: State,
    failures: int,
    ended_at: dt.datetime,
    delays_s: Sequence[float],
    retry_after_max_s: float,
) -> Verdict:
    """Decide what follows from an attempt (PRODUCT, section 3: retries after 1, 5, 30 minutes, then failed).

    `state` is the delivery's before the attempt, `failures` how many attempts of its schedule failed.
    """
    error = error_class(outcome)
    if error is None or state is State.DELIVERED:
        return Verdict(State.DELIVERED, None, failures, error)
    failures += 1
    if trigger in ONCE_ONLY:
        return Verdict(State.FAILED, None, failures, error)
    due = next_attempt(
        outcome,
        failures=failures,
        delays_s=delays_s,
        ended_at=ended_at,
        retry_after_max_s=retry_after_max_s,
    )
    return Verdict(State.FAILED if due is None else State.PENDING, due, failures, error)


def fold(facts: Iterable[Fact]) -> State:
    """Give the state that facts amount to, in the order of their places; raises `IllegalFact`.

    Independent of the `state` that the writer put into each fact: `dispatcher verify` compares the two.
    """
    state, place, delivered = State.PENDING, (0, 0), False
    for fact in facts:
        here = (fact.attempt_no, STEP[fact.kind])
        if here <= place:
            raise IllegalFact(f"{fact.kind} at {here} cannot follow {place}")
        place = here
        if fact.delivered:
            if fact.kind is not Kind.ATTEMPTED:
                raise IllegalFact(f"{fact.kind} cannot deliver")
            delivered = True
        state = State.DELIVERED if delivered else _step(state, fact)
    return state


def _step(state: State, fact: Fact) -> State:
    match fact.kind:
        case Kind.REQUESTED:
            return State.PENDING
        case Kind.CANCELLED | Kind.SUPERSEDED | Kind.EXPIRED | Kind.WITHHELD:
            if state is not State.PENDING:
                raise IllegalFact(f"a {state} delivery cannot be {fact.kind}")
            return State.CANCELLED
        case Kind.INTERRUPTED | Kind.POSTPONED:
            if state is not State.PENDING:
                raise IllegalFact(f"a {state} delivery cannot be {fact.kind}")
            return State.PENDING
        case Kind.ATTEMPTED:
            if state is State.CANCELLED:
                return State.CANCELLED  # the request was under way when the delivery was cancelled
            return State.PENDING if fact.retry_due else State.FAILED
