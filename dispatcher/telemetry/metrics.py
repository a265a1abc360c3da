"""What Prometheus is told: every metric of the dispatcher, its help text and its labels, in one place.

How this works: labels are bounded (lanes, results, error classes; never an id or a URL) and resolved
once, since `labels()` costs more than counting. The loops hold a `LaneMetrics` and call `inc`, `set` and
`observe` on its attributes; gauges of what somebody counts anyway can take `set_function` instead.
Every metric is described in docs/reference/metrics.md, which a test compares with this file.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from dispatcher import __version__
from dispatcher.core.lanes import Lane
from dispatcher.telemetry.histogram import HistogramVec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.core.outcome import ErrorClass

Result = Literal["delivered", "retry", "failed", "cancelled"]
WakeupSource = Literal["doorbell", "busy_poll", "idle_poll"]

LANES: Final = tuple(lane.name.lower() for lane in Lane)  # in the order in which they go
WAKEUP_SOURCES: Final[tuple[WakeupSource, ...]] = ("doorbell", "busy_poll", "idle_poll")

_ATTEMPT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
_LATENCY_S: Final = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30, 60, 300, 3600),
)
_FLUSH_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics of one process, on a registry of their own."""

    def __init__(self, lanes: Sequence[str] = LANES) -> None:
        disable_created_metrics()  # one more series for each counter, which no Prometheus reads
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Gauge(
            "dispatcher_build_info",
            "Always 1; the labels name the version that runs.",
            ("version", "python_version"),
            registry=registry,
        ).labels(__version__, platform.python_version()).set(1)

        families = _LaneFamilies(registry, lanes)
        self.lanes: Mapping[str, LaneMetrics] = {lane: LaneMetrics(families, lane) for lane in lanes}

        self.webhooks_spilled = Gauge(
            "dispatcher_webhooks_spilled",
            "Webhooks whose deliveries wait in the database because their share of memory is full.",
            registry=registry,
        )
        webhooks = Gauge(
            "dispatcher_webhooks", "Webhooks, by whether they are active.", ("active",), registry=registry
        )
        self.webhooks_active = webhooks.labels("true")
        self.webhooks_inactive = webhooks.labels("false")
        self.facts_recorded = Counter(
            "dispatcher_facts_recorded_total", "Facts that are durable in the history.", registry=registry
        )
        self.facts_buffered = Gauge(
            "dispatcher_facts_buffered", "Facts that wait to be written to the history.", registry=registry
        )
        flush = HistogramVec(
            "dispatcher_recorder_flush_seconds",
            "Time that one batch of facts took to become durable.",
            _FLUSH_S,
        )
        registry.register(flush)
        self.flush_s = flush[""]
        self.retries_due = Gauge(
            "dispatcher_retries_due", "Retries whose time has come and that have not left.", registry=registry
        )
        self.oldest_due_age_s = Gauge(
            "dispatcher_oldest_due_delivery_age_seconds",
            "Age of the delivery that has waited longest past its due time; 0 when none waits.",
            registry=registry,
        )
        wakeups = Counter(
            "dispatcher_tail_wakeups_total",
            "Wake-ups of the tail, by what woke it.",
            ("source",),
            registry=registry,
        )
        self.wakeups: Mapping[WakeupSource, Counter] = {name: wakeups.labels(name) for name in WAKEUP_SOURCES}
        self.database_up = Gauge(
            "dispatcher_database_up", "1 while the database answers, otherwise 0.", registry=registry
        )
        self.lease_held = Gauge(
            "dispatcher_lease_held",
            "1 while this process may send, 0 while it is a standby.",
            registry=registry,
        )

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Give the page for a scraper and its content type, as its `Accept` header asks."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _LaneFamilies:
    """The metrics that are told apart by lane, before their labels are resolved."""

    def __init__(self, registry: CollectorRegistry, lanes: Sequence[str]) -> None:
        def counter(name: str, documentation: str, *more_labels: str) -> Counter:
            return Counter(name, documentation, ("lane", *more_labels), registry=registry)

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, ("lane",), registry=registry)

        def histogram(name: str, documentation: str, bounds: Sequence[float]) -> HistogramVec:
            family = HistogramVec(name, documentation, bounds, label="lane", values=lanes)
            registry.register(family)
            return family

        self.rows_read = counter("dispatcher_outbox_rows_read_total", "Outbox rows read by the tail.")
        self.lag_s = gauge(
            "dispatcher_tail_lag_seconds", "Age of the oldest outbox row not read yet; 0 when none waits."
        )
        self.messages = counter(
            "dispatcher_messages_created_total", "Messages made: events that somebody is told of."
        )
        self.deliveries = counter(
            "dispatcher_deliveries_created_total", "Deliveries made: one event for one webhook."
        )
        self.attempts = counter(
            "dispatcher_attempts_total",
            "Attempts that ended, by what follows and by error class (`none` for a success).",
            "result",
            "error",
        )
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

    def __init__(self, families: _LaneFamilies, lane: str) -> None:
        self.rows_read: Counter = families.rows_read.labels(lane)
        self.lag_s: Gauge = families.lag_s.labels(lane)
        self.messages: Counter = families.messages.labels(lane)
        self.deliveries: Counter = families.deliveries.labels(lane)
        self.in_flight: Gauge = families.in_flight.labels(lane)
        self.queued: Gauge = families.queued.labels(lane)
        self.attempt_s = families.attempt_s[lane]
        self.sent_s = families.sent_s[lane]
        self.answered_s = families.answered_s[lane]
        self._attempts = families.attempts
        self._lane = lane
        self._by_end: dict[tuple[Result, ErrorClass | None], Counter] = {}
        self._attempts_ending("delivered", None)  # shown from the start, so that a rate has a first value

    def attempted(self, result: Result, error: ErrorClass | None, duration_s: float) -> None:
        """Count one attempt that ended: what follows from it, why it failed, how long it took."""
        ended = self._by_end.get((result, error)) or self._attempts_ending(result, error)
        ended.inc()
        self.attempt_s.observe(duration_s)

    def _attempts_ending(self, result: Result, error: ErrorClass | None) -> Counter:
        child = self._attempts.labels(self._lane, result, "none" if error is None else error.value)
        self._by_end[result, error] = child
        return child
