"""The state that is written is the one that the facts amount to, whatever happens to a delivery."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.delivery import Fact, Kind, State, Trigger, fold, judge
from dispatcher.core.outcome import Answered, ErrorClass, NoAnswer, Outcome, Timings, error_class

ENDED = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
DELAYS = (60.0, 300.0, 1800.0)

OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.integers(100, 999).map(lambda status: Answered(status, (), b"", False, None, Timings())),
    st.sampled_from(ErrorClass).map(lambda error: NoAnswer(error, "…", None, Timings())),
)
STEPS = st.lists(
    st.one_of(OUTCOMES, st.sampled_from(["interrupted", "cancelled", "requested", "recovered"])), max_size=25
)


@dataclass
class Delivery:
    """One delivery as the daemon deals with it: what is due, and what was written."""

    trigger: Trigger | None = Trigger.FIRST  # of the attempt that is due; None: none is
    attempt_no: int = 1
    state: State = State.PENDING
    failures: int = 0
    facts: list[Fact] = field(default_factory=list)
    requests: int = 0  # that left since the schedule began

    def write(self, kind: Kind, state: State, *, retry_due: bool = False, delivered: bool = False) -> None:
        """Append a fact."""
        self.facts.append(Fact(self.attempt_no, kind, state, retry_due=retry_due, delivered=delivered))
        self.state = state

    def attempt(self, outcome: Outcome) -> None:
        """Make the attempt that is due, as `daemon/attempts.py` does."""
        assert self.trigger is not None
        verdict = judge(
            outcome,
            trigger=self.trigger,
            state=self.state,
            failures=self.failures,
            ended_at=ENDED,
            delays_s=DELAYS,
            retry_after_max_s=3600,
        )
        due = verdict.next_attempt_at is not None
        self.write(Kind.ATTEMPTED, verdict.state, retry_due=due, delivered=error_class(outcome) is None)
        self.failures, self.attempt_no = verdict.failures, self.attempt_no + 1
        self.trigger = Trigger.RETRY if due else None
        self.requests += 1

    def interrupt(self) -> None:
        """Crash during the attempt: it is due again under the next number."""
        self.write(Kind.INTERRUPTED, self.state)
        self.attempt_no += 1

    def cancel(self) -> None:
        """Close it before the attempt that is due: its webhook was deactivated."""
        self.write(Kind.CANCELLED, State.DELIVERED if self.state is State.DELIVERED else State.CANCELLED)
        self.attempt_no, self.trigger = self.attempt_no + 1, None

    def request(self, trigger: Trigger) -> None:
        """Ask for an attempt by hand: what is delivered stays so."""
        self.write(Kind.REQUESTED, self.state if self.state is State.DELIVERED else State.PENDING)
        self.trigger, self.failures, self.requests = trigger, 0, 0


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([Trigger.FIRST, Trigger.TEST]), STEPS)
def test_what_is_written_is_what_the_facts_amount_to(trigger: Trigger, steps: list[Outcome | str]) -> None:
    """After every fact; and no schedule makes more attempts than it has."""
    delivery = Delivery(trigger)
    for step in steps:
        match step:
            case "requested" | "recovered":
                if delivery.trigger is None:
                    delivery.request(Trigger.MANUAL if step == "requested" else Trigger.RECOVER)
            case _ if delivery.trigger is None:
                continue
            case "interrupted":
                delivery.interrupt()
            case "cancelled":
                delivery.cancel()
            case Answered() | NoAnswer():
                delivery.attempt(step)
        assert delivery.state == fold(delivery.facts)
        assert delivery.requests <= 1 + len(DELAYS)
        assert (delivery.trigger is None) == (delivery.state is not State.PENDING) or (
            delivery.state is State.DELIVERED and delivery.trigger is not None
        )


@given(st.lists(OUTCOMES.filter(lambda outcome: error_class(outcome) is not None), min_size=4, max_size=8))
def test_interruptions_use_up_no_attempt(outcomes: list[Outcome]) -> None:
    """Four requests answered with failures end it, however many crashes came in between."""
    delivery = Delivery()
    for outcome in outcomes:
        if delivery.trigger is None:
            break
        delivery.interrupt()
        delivery.attempt(outcome)
    assert (State.FAILED, 4, 4) == (delivery.state, delivery.requests, delivery.failures)
