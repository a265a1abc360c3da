"""What must hold of one delivery's facts, whoever wrote them: the part of `dispatcher verify` that thinks.

Each fact carries the state that its writer decided on, and the last one's is what everybody is shown. Here
the state is folded anew, fact by fact, and everything else that follows from the facts is checked with it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from dispatcher.core.delivery import Fact, IllegalFact, Kind, State, Trigger, fold

_SCHEDULE: Final = frozenset({Trigger.FIRST, Trigger.RETRY})
_ALWAYS_DUE: Final = frozenset({Kind.REQUESTED, Kind.INTERRUPTED, Kind.POSTPONED})


class RecordedFact(msgspec.Struct, frozen=True, kw_only=True):
    """One fact as it is recorded."""

    attempt_no: int
    kind: Kind
    state: State
    trigger: Trigger | None = None
    failures: int = 0
    status_code: int | None = None
    error_class: str | None = None
    next_attempt_at: dt.datetime | None = None

    @property
    def delivered(self) -> bool:
        """True of an attempt that succeeded."""
        return self.kind is Kind.ATTEMPTED and self.error_class is None


def shown_state(facts: Sequence[RecordedFact]) -> State:
    """Give the state that the API shows: the last fact's."""
    return facts[-1].state if facts else State.PENDING


def problems(facts: Sequence[RecordedFact], *, most_attempts: int) -> Iterator[str]:
    """Say in words what is wrong with a delivery's facts, given in the order of their places.

    `most_attempts` is how many attempts the schedule makes by itself.
    """
    folded = [
        Fact(
            fact.attempt_no,
            fact.kind,
            fact.state,
            retry_due=fact.next_attempt_at is not None,
            delivered=fact.delivered,
        )
        for fact in facts
    ]
    schedule = _Schedule()
    number = 0
    for count, fact in enumerate(facts, 1):
        at = f"attempt {fact.attempt_no}"
        if fact.attempt_no > number + 1:
            yield f"attempt {number + 1} is missing: the facts go on with {fact.attempt_no}"
        number = fact.attempt_no
        try:
            state = fold(folded[:count])
        except IllegalFact as illegal:
            yield f"{at}: impossible history: {illegal}"
            return
        if state is not fact.state and count == len(facts):
            yield f"shown as {fact.state}, but its facts amount to {state}"
        elif state is not fact.state:
            yield f"{at}: recorded as {fact.state}, but the facts up to it amount to {state}"
        yield from (f"{at}: {problem}" for problem in _due(fact, state))
        yield from (f"{at}: {problem}" for problem in schedule.goes_on(fact, state))
    if schedule.attempts > most_attempts:
        yield f"{schedule.attempts} attempts of the schedule, which makes {most_attempts} at most"


def _due(fact: RecordedFact, state: State) -> Iterator[str]:
    """Compare the time of the next attempt with whether there has to be one."""
    due = fact.next_attempt_at is not None
    if fact.kind in _ALWAYS_DUE:
        if not due:
            yield f"{fact.kind}, but no next attempt is scheduled"
    elif due and state is not State.PENDING:
        yield f"a next attempt is scheduled, although it is {state}"


class _Schedule:
    """The attempts that are made by themselves, since the last one that somebody asked for."""

    def __init__(self) -> None:
        self.attempts = 0
        self._failures = 0
        self._delivered = False

    def goes_on(self, fact: RecordedFact, state: State) -> Iterator[str]:
        """Take one more fact, after which the delivery is in `state`; say what does not fit."""
        if fact.kind is Kind.REQUESTED:  # whoever asks may begin it anew
            self.attempts, self._failures, self._delivered = 0, fact.failures, False
        elif fact.kind is Kind.ATTEMPTED:
            yield from self._attempted(fact, state)
        if fact.failures != self._failures:
            yield f"counts {fact.failures} failed attempts of the schedule, there were {self._failures}"

    def _attempted(self, fact: RecordedFact, state: State) -> Iterator[str]:
        if (fact.status_code in range(200, 300)) is not fact.delivered:
            yield f"answered {fact.status_code}, recorded as {fact.error_class or 'a success'}"
        if fact.trigger in _SCHEDULE:
            self.attempts += 1
            if self._delivered:
                yield "sent again although it had been delivered and nobody asked for it"
        self._failures += not fact.delivered and state is not State.DELIVERED
        self._delivered = self._delivered or fact.delivered
