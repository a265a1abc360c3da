"""An attempt that is over: its fact for the history, its metrics, its one line in the log."""

from __future__ import annotations

import datetime as dt
from typing import Final, assert_never

import msgspec

from dispatcher.core.delivery import STEP, Kind, State, Trigger, Verdict
from dispatcher.core.outcome import Answered, NoAnswer, Outcome, error_class
from dispatcher.core.pending import Lane, Pending
from dispatcher.store.ledger import FactRow
from dispatcher.store.registry import Webhook
from dispatcher.telemetry.lane_metrics import LaneMetrics
from dispatcher.telemetry.log import canonical_line

_LANE_NAMES: Final = tuple(lane.name.lower() for lane in Lane)
_NUL: Final = str.maketrans({"\x00": "\ufffd"})
_encode: Final = msgspec.json.Encoder().encode


class Ended(msgspec.Struct, frozen=True, gc=False):
    """Everything that is known of it."""

    pending: Pending
    delivery_id: str
    webhook: Webhook
    trigger: Trigger
    started_at: dt.datetime
    duration_s: float
    headers: tuple[tuple[str, str], ...]
    outcome: Outcome
    verdict: Verdict

    def __repr__(self) -> str:
        return f"Ended({self.delivery_id})"  # the headers' values often are tokens

    def fact(self) -> FactRow:
        """Give its fact."""
        pending, outcome, verdict = self.pending, self.outcome, self.verdict
        error = error_class(outcome)
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
        return FactRow(
            day=pending.key.day,
            outbox_id=pending.key.outbox_id,
            webhook_id=pending.key.webhook_id,
            attempt_no=pending.attempt_no,
            step=STEP[Kind.ATTEMPTED],
            kind=Kind.ATTEMPTED,
            state=verdict.state,
            trigger=self.trigger,
            failures=verdict.failures,
            started_at=self.started_at,
            duration_ms=round(self.duration_s * 1000, 3),
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

    def report(self, fact: FactRow, metrics: LaneMetrics) -> None:
        """Count it, and write its canonical line."""
        pending, verdict, duration_s = self.pending, self.verdict, self.duration_s
        error = error_class(self.outcome)
        if error is None:
            metrics.attempted("delivered", None, duration_s)
        else:
            metrics.attempted("retry" if verdict.state is State.PENDING else "failed", error, duration_s)
        metrics.took(self.outcome.timings)
        since_recorded_s = (self.started_at - pending.payload.recorded_at).total_seconds()
        limited = self.webhook.rate_limit_per_s is not None  # then it asked to wait
        if pending.trigger is Trigger.FIRST and pending.attempt_no == 1 and not limited:
            metrics.sent_s.observe(since_recorded_s)
            metrics.answered_s.observe(since_recorded_s + duration_s)
        canonical_line(
            "attempt",
            {
                "delivery": self.delivery_id,
                "webhook": self.webhook.public_id,
                "type": pending.payload.type,
                "outbox_id": pending.key.outbox_id,
                "attempt": pending.attempt_no,
                "trigger": fact.trigger,
                "lane": _LANE_NAMES[pending.lane],
                "state": verdict.state,
                "status": fact.status_code,
                "error": fact.error_class,
                "message": fact.error_message,
                "address": fact.address,
                "duration_ms": fact.duration_ms,
                "since_recorded_ms": round(since_recorded_s * 1000, 1),
                "next_attempt_at": verdict.next_attempt_at,
            },
        )


def _text(message: str) -> str:
    """Give a message as PostgreSQL can hold it: without U+0000 and halves of surrogate pairs."""
    return message.translate(_NUL).encode("utf-8", "replace").decode()
