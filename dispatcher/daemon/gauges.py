"""Gauges of what a process and its runs hold, reckoned when they are scraped: no loop has to set them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dispatcher.core.pending import Lane
from dispatcher.telemetry.tail_clock import since_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dispatcher.daemon.run import Run
    from dispatcher.daemon.shared import Process
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


def show_runs(metrics: Metrics, runs: Sequence[Run]) -> None:
    """Show what these runs hold together, from now on."""
    for lane in Lane:
        series = metrics.lanes[lane.name.lower()]
        series.queued.set_function(partial(_queued, runs, lane))
        series.in_flight.set_function(partial(_in_flight, runs, lane))
        series.due_age_s.set_function(partial(_due_age_s, runs, lane))
    metrics.held.set_function(lambda: sum(one.lanes.room.held for one in runs))
    metrics.held_bytes.set_function(lambda: sum(one.lanes.room.held_bytes for one in runs))
    metrics.webhooks_spilled.set_function(lambda: sum(one.waiting.count for one in runs))
    metrics.facts_buffered.set_function(lambda: sum(one.recorder.buffered for one in runs))
    metrics.retries_due.set_function(lambda: sum(one.retries.due for one in runs))
    metrics.webhooks_asleep.set_function(lambda: sum(one.lanes.rates.asleep for one in runs))
    metrics.warm_wanted.set_function(lambda: sum(one.warmth.wanted for one in runs))
    metrics.warm_open.set_function(lambda: sum(one.warmth.open for one in runs))
    metrics.webhooks_active.set_function(partial(_count, runs, active=True))
    metrics.webhooks_inactive.set_function(partial(_count, runs, active=False))


def _queued(runs: Sequence[Run], lane: Lane) -> float:
    return sum(one.lanes.queued_in[lane] for one in runs)


def _in_flight(runs: Sequence[Run], lane: Lane) -> float:
    return sum(one.lanes.in_flight_in[lane] for one in runs)


def _due_age_s(runs: Sequence[Run], lane: Lane) -> float:
    return max((since_s(one.lanes.due_since(lane)) for one in runs), default=0.0)


def _count(runs: Sequence[Run], *, active: bool) -> float:
    return sum(
        run.shard.owns(one.id) and not one.deleted and one.active is active
        for run in runs
        for one in run.registry.webhooks.values()
    )
