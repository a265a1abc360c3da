"""Gauges of what a process and its run hold, reckoned when they are scraped: no loop has to set them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dispatcher.core.lanes import Lane, Lanes
from dispatcher.telemetry.tail_clock import since_s

if TYPE_CHECKING:
    from dispatcher.daemon.shared import Process
    from dispatcher.daemon.warmth import Warmth
    from dispatcher.store.registry import Registry
    from dispatcher.telemetry.metrics import Metrics


def show_process(process: Process) -> None:
    """Show what holds for as long as the process lives."""
    metrics, delivery = process.metrics, process.config.delivery
    metrics.limits["in_flight"].set(delivery.max_in_flight)
    metrics.limits["held"].set(delivery.max_queued)
    metrics.held_bytes_limit.set(delivery.max_queued_bytes)
    metrics.limits["pool_connections"].set(process.config.database.api_connections)
    metrics.pool_in_use.set_function(lambda: process.database.pool_use.in_use)
    metrics.pool_idle.set_function(lambda: process.database.pool_use.idle)
    metrics.loops_late.set_function(lambda: len(process.health.late()))


def show_run(metrics: Metrics, lanes: Lanes, registry: Registry, warmth: Warmth) -> None:
    """Show what a run holds, until `Metrics.rest`."""
    for lane in Lane:
        series = metrics.lanes[lane.name.lower()]
        series.queued.set_function(partial(lanes.queued_in.__getitem__, lane))
        series.in_flight.set_function(partial(lanes.in_flight_in.__getitem__, lane))
        series.due_age_s.set_function(partial(_due_age_s, lanes, lane))
    metrics.held.set_function(lambda: lanes.held)
    metrics.held_bytes.set_function(lambda: lanes.held_bytes)
    metrics.webhooks_asleep.set_function(lambda: lanes.rates.asleep)
    metrics.warm_wanted.set_function(lambda: warmth.wanted)
    metrics.warm_open.set_function(lambda: warmth.open)
    metrics.webhooks_active.set_function(partial(_count, registry, active=True))
    metrics.webhooks_inactive.set_function(partial(_count, registry, active=False))


def _due_age_s(lanes: Lanes, lane: Lane) -> float:
    return since_s(lanes.due_since(lane))


def _count(registry: Registry, *, active: bool) -> float:
    return sum(not one.deleted and one.active is active for one in registry.webhooks.values())
