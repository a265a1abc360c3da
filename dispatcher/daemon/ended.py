"""An attempt that is over: its fact for the history, its metrics, its one line in the log."""

from __future__ import annotations

import datetime as dt
from typing import Final, assert_never

import msgspec

from dispatcher.core.delivery import STEP, Kind, State, Trigger, Verdict
from dispatcher.core.outcome import Answered, NoAnswer, Outcome
from dispatcher.core.pending import Lane, Pending
from dispatcher.store.ledger import FactRow
from dispatcher.store.registry import Webhook
from dispatcher.telemetry.lane_metrics import LaneMetrics
from dispatcher.telemetry.log import CanonicalLine, canonical_line

_LANE_NAMES: Final = tuple(lane.name.lower() for lane in Lane)
_STEP: Final = STEP[Kind.ATTEMPTED]
_NUL: Final = str.maketrans({"\x00": "\ufffd"})
_encode: Final = msgspec.json.Encoder().encode


class _Line(CanonicalLine, kw_only=True, gc=False):
    """The one line of an attempt."""

    event: str = "attempt"
    delivery: str
    webhook: str
    type: str
    outbox_id: int
    attempt: int
    trigger: str
    lane: str
    state: str
    status: int | None
    error: str | None
    message: str | None
    address: str | None
    duration_ms: float
    since_recorded_ms: float
    next_attempt_at: dt.datetime | None


class Ended(msgspec.Struct, frozen=True, gc=False):
    """Everything that is known of it."""

    pending: Pending
    delivery_id: str
    webhook: Webhook
    trigger: Trigger
    started_at: dt.datetime
    ended_at: dt.datetime
    duration_us: int
    headers: tuple[tuple[str, str], ...]
    outcome: Outcome
    verdict: Verdict

    def __repr__(self) -> str:
        return f"Ended({self.delivery_id})"  # the headers' values often are tokens

    def fact(self) -> FactRow:
        """Give its fact."""
        pending, outcome, verdict = self.pending, self.outcome, self.verdict
        error = verdict.error
        status: int | None = None
        message: str | None = None
        response_headers: str | None = None
        response_body: bytes | None = None
        truncated: bool | None = None
        match outcome:
            case Answered():
                status = outcome.status
                response_headers = _encode(outcome.headers).decode()
                response_body = outcome.body
                truncated = outcome.body_truncated
            case NoAnswer():
                message = _text(outcome.message)
            case _:
                assert_never(outcome)
        day, outbox_id, webhook_id = pending.key
        return FactRow(
            day=day,
            outbox_id=outbox_id,
            webhook_id=webhook_id,
            attempt_no=pending.attempt_no,
            step=_STEP,
            kind=Kind.ATTEMPTED,
            state=verdict.state,
            trigger=self.trigger,
            failures=verdict.failures,
            started_at=self.started_at,
            duration_ms=self.duration_us / 1000,
            status_code=status,
            error_class=None if error is None else error.value,
            error_message=message,
            next_attempt_at=verdict.next_attempt_at,
            address=outcome.address,
            request_headers=_encode(self.webhook.shown(self.headers)).decode(),
            response_headers=response_headers,
            response_body=response_body,
            response_truncated=truncated,
            timings=_encode(outcome.timings).decode(),
        )

    def report(self, metrics: LaneMetrics) -> None:
        """Count it, and write its canonical line."""
        pending, verdict, duration_s = self.pending, self.verdict, self.duration_us / 1e6
        if verdict.error is None:
            metrics.attempted("delivered", None, duration_s)
        else:
            metrics.attempted(
                "retry" if verdict.state is State.PENDING else "failed", verdict.error, duration_s
            )
        metrics.took(self.outcome.timings)
        limited = self.webhook.rate_limit_per_s is not None  # then it asked to wait
        if pending.trigger is Trigger.FIRST and pending.attempt_no == 1 and not limited:
            since_recorded_s = self._since_recorded_s()
            metrics.sent_s.observe(since_recorded_s)
            metrics.answered_s.observe(since_recorded_s + duration_s)
        canonical_line(self)

    def line(self) -> CanonicalLine:
        """Give its line for the log."""
        pending, outcome, verdict = self.pending, self.outcome, self.verdict
        return _Line(
            timestamp=self.ended_at,
            delivery=self.delivery_id,
            webhook=self.webhook.public_id,
            type=pending.payload.type,
            outbox_id=pending.key.outbox_id,
            attempt=pending.attempt_no,
            trigger=self.trigger,
            lane=_LANE_NAMES[pending.lane],
            state=verdict.state,
            status=outcome.status if isinstance(outcome, Answered) else None,
            error=verdict.error,
            message=None if isinstance(outcome, Answered) else _text(outcome.message),
            address=outcome.address,
            duration_ms=self.duration_us / 1000,
            since_recorded_ms=round(self._since_recorded_s() * 10_000) / 10,
            next_attempt_at=verdict.next_attempt_at,
        )

    def _since_recorded_s(self) -> float:
        return (self.started_at - self.pending.payload.recorded_at).total_seconds()


def _text(message: str) -> str:
    """Give a message as PostgreSQL can hold it: without U+0000 and halves of surrogate pairs."""
    return message.translate(_NUL).encode("utf-8", "replace").decode()
