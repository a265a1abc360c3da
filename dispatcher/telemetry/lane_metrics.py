"""The metrics that are told apart by lane, and each lane's own series, ready to be counted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from dispatcher.telemetry.histogram import HistogramVec
from dispatcher.telemetry.tail_clock import TailClock
from dispatcher.telemetry.tally import Tally, TallyVec

if TYPE_CHECKING:
    from dispatcher.core.outcome import ErrorClass, Timings

Result = Literal["delivered", "retry", "failed", "cancelled"]
PHASES: Final = ("dns", "connect", "tls", "first_byte")

_ATTEMPT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
_LATENCY_S: Final = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30, 60, 300, 3600),
)


class LaneFamilies:
    """The metrics that are told apart by lane, before their labels are resolved."""

    def __init__(self, registry: CollectorRegistry, lanes: Sequence[str]) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(name, documentation, ("lane",), registry=registry)

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, ("lane",), registry=registry)

        def histogram(name: str, documentation: str, bounds: Sequence[float]) -> HistogramVec:
            family = HistogramVec(name, documentation, bounds, label="lane", values=lanes)
            registry.register(family)
            return family

        self.rows_read = counter("dispatcher_outbox_rows_read_total", "Outbox rows read by the tail.")
        self.lag_s = gauge(
            "dispatcher_tail_lag_seconds",
            "Age of the oldest outbox row that was read and is not fanned out yet; 0 when there is none.",
        )
        self.step_age_s = gauge(
            "dispatcher_tail_step_age_seconds",
            "How long the tail's present step has taken so far; 0 while it waits for rows.",
        )
        self.due_age_s = gauge(
            "dispatcher_oldest_due_delivery_age_seconds",
            "Time past due of the delivery that has waited longest although its webhook has a free slot.",
        )
        self.fanned_out_s = histogram(
            "dispatcher_event_fanned_out_seconds",
            "Time from the recording of an event in the outbox to its deliveries being durable and queued.",
            _LATENCY_S,
        )
        self.phase_s = HistogramVec(
            "dispatcher_attempt_phase_seconds",
            "Time that a phase of an attempt took, where it took place.",
            _ATTEMPT_S,
            label="phase",
            values=PHASES,
        )
        registry.register(self.phase_s)
        self.messages = counter(
            "dispatcher_messages_created_total", "Messages made: events that somebody is told of."
        )
        self.deliveries = counter(
            "dispatcher_deliveries_created_total", "Deliveries made: one event for one webhook."
        )
        self.attempts = TallyVec(
            "dispatcher_attempts_total",
            "Attempts that ended, by what follows and by error class (`none` for a success).",
            ("lane", "result", "error"),
        )
        registry.register(self.attempts)
        self.in_flight = gauge("dispatcher_deliveries_in_flight", "Requests that are under way.")
        self.queued = gauge("dispatcher_deliveries_queued", "Deliveries that wait in memory for a free slot.")
        self.attempt_s = histogram(
            "dispatcher_attempt_duration_seconds", "Time from the start of an attempt to its end.", _ATTEMPT_S
        )
        self.sent_s = histogram(
            "dispatcher_first_attempt_sent_seconds",
            "Time from the recording of an event in the outbox to the start of a first attempt.",
            _LATENCY_S,
        )
        self.answered_s = histogram(
            "dispatcher_first_attempt_answered_seconds",
            "Time from the recording of an event in the outbox to the end of a first attempt.",
            _LATENCY_S,
        )


class LaneMetrics:
    """One lane's own series, ready to be counted on."""

    def __init__(self, families: LaneFamilies, lane: str) -> None:
        self.rows_read: Counter = families.rows_read.labels(lane)
        self.tail = TailClock()
        families.lag_s.labels(lane).set_function(self.tail.lag_s)
        families.step_age_s.labels(lane).set_function(self.tail.step_age_s)
        self.due_age_s: Gauge = families.due_age_s.labels(lane)
        self.fanned_out_s = families.fanned_out_s[lane]
        self.messages: Counter = families.messages.labels(lane)
        self.deliveries: Counter = families.deliveries.labels(lane)
        self.in_flight: Gauge = families.in_flight.labels(lane)
        self.queued: Gauge = families.queued.labels(lane)
        self.attempt_s = families.attempt_s[lane]
        self.sent_s = families.sent_s[lane]
        self.answered_s = families.answered_s[lane]
        self._attempts = families.attempts
        self._phases_s = [families.phase_s[phase] for phase in PHASES]
        self._lane = lane
        self._by_end: dict[tuple[Result, ErrorClass | None], Tally] = {}
        self._attempts_ending("delivered", None)  # shown from the start, so that a rate has a first value

    def attempted(self, result: Result, error: ErrorClass | None, duration_s: float) -> None:
        """Count one attempt that ended: what follows from it, why it failed, how long it took."""
        ended = self._by_end.get((result, error)) or self._attempts_ending(result, error)
        ended.count += 1
        self.attempt_s.observe(duration_s)

    def took(self, timings: Timings) -> None:
        """Count the phases of an attempt that took place; a kept connection has but the last one."""
        dns_s, connect_s, tls_s, first_byte_s = self._phases_s
        if timings.dns_ms is not None:
            dns_s.observe(timings.dns_ms / 1000)
        if timings.connect_ms is not None:
            connect_s.observe(timings.connect_ms / 1000)
        if timings.tls_ms is not None:
            tls_s.observe(timings.tls_ms / 1000)
        if timings.first_byte_ms is not None:
            first_byte_s.observe(timings.first_byte_ms / 1000)

    def _attempts_ending(self, result: Result, error: ErrorClass | None) -> Tally:
        tally = self._attempts[self._lane, result, "none" if error is None else error.value]
        self._by_end[result, error] = tally
        return tally
