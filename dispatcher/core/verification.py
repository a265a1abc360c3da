"""What must hold of one delivery's facts, whoever wrote them: the part of `dispatcher verify` that only thinks.

Each fact carries the state that its writer decided on, and the last one's is what everybody is shown. Here the
state is folded anew, fact by fact, and everything else that follows from the facts is checked with it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from dispatcher.core.delivery import Fact, IllegalFact, Kind, State, Trigger, fold

_SCHEDULE: Final = frozenset({Trigger.FIRST, Trigger.RETRY})
_ALWAYS_DUE: Final = frozenset({Kind.REQUESTED, Kind.INTERRUPTED})


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
    folded: list[Fact] = []
    delivered, scheduled, failures, number = False, 0, 0, 0
    for fact in facts:
        at = f"attempt {fact.attempt_no}"
        if fact.attempt_no > number + 1:
            yield f"attempt {number + 1} is missing: the facts go on with {fact.attempt_no}"
        number = fact.attempt_no
        folded.append(_fact(fact))
        try:
            state = fold(folded)
        except IllegalFact as illegal:
            yield f"{at}: impossible history: {illegal}"
            return
        if state is not fact.state:
            yield from _another_state(fact, state, last=fact is facts[-1])
        yield from _due(fact, state)
        if fact.kind is Kind.REQUESTED:
            # Whoever asks may start the schedule again.
            scheduled, failures, delivered = 0, fact.failures, False
        if fact.kind is Kind.ATTEMPTED:
            success = fact.status_code is not None and 200 <= fact.status_code < 300
            if success is not fact.delivered:
                yield f"{at}: answered {fact.status_code}, recorded as {fact.error_class or 'a success'}"
            if fact.trigger in _SCHEDULE:
                scheduled += 1
                if delivered:
                    yield f"{at}: sent again although it had been delivered and nobody asked for it"
            failures += not fact.delivered and state is not State.DELIVERED
            delivered = delivered or fact.delivered
        if fact.failures != failures:
            yield f"{at}: counts {fact.failures} failures of the schedule, there were {failures}"
    if scheduled > most_attempts:
        yield f"{scheduled} attempts of the schedule, which makes {most_attempts} at most"


def _fact(fact: RecordedFact) -> Fact:
    return Fact(
        fact.attempt_no,
        fact.kind,
        fact.state,
        retry_due=fact.next_attempt_at is not None,
        delivered=fact.delivered,
    )


def _another_state(fact: RecordedFact, state: State, *, last: bool) -> Iterator[str]:
    if last:
        yield f"shown as {fact.state}, but its facts amount to {state}"
    else:
        yield f"attempt {fact.attempt_no}: recorded as {fact.state}, but the facts up to it amount to {state}"


def _due(fact: RecordedFact, state: State) -> Iterator[str]:
    """Compare the time of the next attempt with whether there has to be one."""
    due = fact.next_attempt_at is not None
    if fact.kind in _ALWAYS_DUE:
        if not due:
            yield f"attempt {fact.attempt_no}: {fact.kind}, but no next attempt is scheduled"
    elif due and state is not State.PENDING:
        yield f"attempt {fact.attempt_no}: a next attempt is scheduled, although it is {state}"
