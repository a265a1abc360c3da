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
from dispatcher.core.pending import Lane
from dispatcher.telemetry.histogram import HistogramVec
from dispatcher.telemetry.lane_metrics import LaneFamilies, LaneMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Limit = Literal["in_flight", "held", "pool_connections"]
WakeupSource = Literal["doorbell", "busy_poll", "idle_poll"]

LANES: Final = tuple(lane.name.lower() for lane in Lane)  # in the order in which they go
LIMITS: Final[tuple[Limit, ...]] = ("in_flight", "held", "pool_connections")
WAKEUP_SOURCES: Final[tuple[WakeupSource, ...]] = ("doorbell", "busy_poll", "idle_poll")

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

        families = LaneFamilies(registry, lanes)
        self.lanes: Mapping[str, LaneMetrics] = {lane: LaneMetrics(families, lane) for lane in lanes}

        self.webhooks_spilled = Gauge(
            "dispatcher_webhooks_spilled",
            "Webhooks whose deliveries wait in the database because their share of memory is full.",
            registry=registry,
        )
        self.webhooks_asleep = Gauge(
            "dispatcher_webhooks_waiting_for_rate",
            "Webhooks with deliveries in memory that wait for their own rate limit.",
            registry=registry,
        )
        warm = Gauge(
            "dispatcher_warm_connections",
            "Receivers of event.detected to which a connection is kept open ahead, and those that have one.",
            ("state",),
            registry=registry,
        )
        self.warm_wanted, self.warm_open = warm.labels("wanted"), warm.labels("open")
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
            "1 while this process leads: it reads the outbox, for all shards; otherwise 0.",
            registry=registry,
        )
        self.shards_held = Gauge(
            "dispatcher_shards_held",
            "Shards whose webhooks this process sends to; 0 while it is a standby.",
            registry=registry,
        )

        self.held = Gauge(
            "dispatcher_deliveries_held",
            "Deliveries in memory: queued, under way, or with a fact that is not durable yet.",
            registry=registry,
        )
        self.held_bytes = Gauge(
            "dispatcher_held_bytes",
            "Bodies of deliveries in memory, each counted by itself.",
            registry=registry,
        )
        self.held_bytes_limit = Gauge(
            "dispatcher_held_limit_bytes",
            "Bodies of deliveries that may be in memory, by the settings.",
            registry=registry,
        )
        limits = Gauge(
            "dispatcher_limit",
            "Bounds that the settings give: requests under way, deliveries in memory, pooled connections.",
            ("of",),
            registry=registry,
        )
        self.limits: Mapping[Limit, Gauge] = {name: limits.labels(name) for name in LIMITS}
        pool = Gauge(
            "dispatcher_database_pool_connections",
            "Connections to the database of the management API's pool, by whether they are in use.",
            ("state",),
            registry=registry,
        )
        self.pool_in_use, self.pool_idle = pool.labels("in_use"), pool.labels("idle")
        self.loops_late = Gauge(
            "dispatcher_loops_late", "Loops that make no progress, as /readyz names them.", registry=registry
        )
        self.partitions_end = Gauge(
            "dispatcher_partitions_end_timestamp_seconds",
            "Until when there are partitions; 0 before this process has looked.",
            registry=registry,
        )

    def rest(self) -> None:
        """Forget what a run that ended had in memory: its gauges ask it for their values."""
        of_the_run = [self.held, self.held_bytes, self.webhooks_active, self.webhooks_inactive]
        of_the_run += [self.webhooks_asleep, self.warm_wanted, self.warm_open]
        of_the_run += [self.webhooks_spilled, self.facts_buffered, self.retries_due]
        for lane in self.lanes.values():
            of_the_run += [lane.queued, lane.in_flight, lane.due_age_s]
        for gauge in of_the_run:
            gauge.set_function(_nothing)
        self.rest_tails()

    def rest_tails(self) -> None:
        """Forget the tails of a run that led and has ended."""
        for lane in self.lanes.values():
            lane.tail.rests()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Give the page for a scraper and its content type, as its `Accept` header asks."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _nothing() -> float:
    return 0.0
