"""Counting, and the page that Prometheus reads."""

from __future__ import annotations

import datetime as dt

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dispatcher.core.outcome import ErrorClass, Timings
from dispatcher.telemetry.health import Health
from dispatcher.telemetry.histogram import Histogram
from dispatcher.telemetry.lane_metrics import PHASES
from dispatcher.telemetry.metrics import LANES, WAKEUP_SOURCES, Metrics
from dispatcher.telemetry.tail_clock import since_s


def test_a_histogram_counts_up_to_and_including_each_bound() -> None:
    """Prometheus' `le` means less or equal, and buckets are cumulative."""
    histogram = Histogram((1.0, 2.5))
    for value in (0.5, 1.0, 1.1, 2.5, 9.0):
        histogram.observe(value)
    assert [("1.0", 2.0), ("2.5", 4.0), ("+Inf", 5.0)] == histogram.buckets()
    assert 5 == histogram.count
    assert pytest.approx(14.1) == histogram.sum


def test_a_negative_duration_counts_as_none() -> None:
    """The database's clock and ours may differ; a sum that falls would look like a restart."""
    histogram = Histogram((1.0,))
    histogram.observe(-3)
    assert (1, 0.0) == (histogram.count, histogram.sum)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read the page as a scraper does."""
    page, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_an_attempt_is_counted_by_what_follows_and_why() -> None:
    """The error class is `none` for a success."""
    metrics = Metrics()
    lane = metrics.lanes["alert"]
    lane.attempted("delivered", None, 0.02)
    lane.attempted("retry", ErrorClass.TIMEOUT, 30.0)
    lane.attempted("retry", ErrorClass.TIMEOUT, 30.0)
    page = samples(metrics)

    def count(result: str, error: str) -> float:
        labels = {"lane": "alert", "result": result, "error": error}
        return page["dispatcher_attempts_total", frozenset(labels.items())]

    assert (1.0, 2.0) == (count("delivered", "none"), count("retry", "timeout"))
    assert 3.0 == page["dispatcher_attempt_duration_seconds_count", frozenset({("lane", "alert")})]


def test_every_lane_and_source_is_shown_from_the_start() -> None:
    """A rate needs a first value; a series that appears with its first event hides that event."""
    page = samples(Metrics())
    for lane in LANES:
        assert ("dispatcher_deliveries_created_total", frozenset({("lane", lane)})) in page
        assert ("dispatcher_first_attempt_sent_seconds_count", frozenset({("lane", lane)})) in page
    for source in WAKEUP_SOURCES:
        assert ("dispatcher_tail_wakeups_total", frozenset({("source", source)})) in page


def test_two_sets_of_metrics_are_independent() -> None:
    """Each process, and each test, counts for itself."""
    first, second = Metrics(), Metrics()
    first.facts_recorded.inc(3)
    name = ("dispatcher_facts_recorded_total", frozenset[tuple[str, str]]())
    assert (3.0, 0.0) == (samples(first)[name], samples(second)[name])


def test_a_loop_without_progress_is_late_and_says_so() -> None:
    """Readiness and the watchdog follow steps that succeeded."""
    now_s = [100.0]
    health = Health(clock=lambda: now_s[0])
    tail, recorder = health.pulse("tail", 5.0), health.pulse("recorder", 60.0)
    now_s[0] = 104.0
    tail.beat()
    now_s[0] = 108.0
    assert [] == health.late()
    now_s[0] = 110.5
    assert ["tail: no progress for 6.5 s"] == health.late()
    tail.beat()
    recorder.beat()
    assert [] == health.late()


def test_a_loop_that_ended_is_not_missed() -> None:
    """A drained lane is no stalled lane."""
    now_s = [0.0]
    health = Health(clock=lambda: now_s[0])
    health.pulse("tail", 1.0)
    health.forget("tail")
    now_s[0] = 9.0
    assert [] == health.late()


def test_the_lag_of_a_tail_that_hangs_grows() -> None:
    """Reckoned when it is asked for: a loop that stands still sets nothing."""
    metrics = Metrics()
    tail = metrics.lanes["alert"].tail
    lag = ("dispatcher_tail_lag_seconds", frozenset({("lane", "alert")}))
    age = ("dispatcher_tail_step_age_seconds", frozenset({("lane", "alert")}))
    assert (0.0, 0.0) == (samples(metrics)[lag], samples(metrics)[age])
    tail.begins()
    tail.found(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=90))
    first, second = samples(metrics), samples(metrics)
    assert 90 <= first[lag] <= second[lag]
    assert 0 < first[age] < second[age]
    tail.rests()
    assert (0.0, 0.0) == (samples(metrics)[lag], samples(metrics)[age])


def test_a_moment_to_come_is_no_negative_age() -> None:
    """Clocks differ."""
    assert 0 == since_s(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    assert 0 == since_s(None)


def test_phases_that_did_not_take_place_are_not_counted() -> None:
    """On a kept connection there is but the answer's first byte."""
    metrics = Metrics()
    metrics.lanes["alert"].took(Timings(first_byte_ms=20.0))
    metrics.lanes["retry"].took(Timings(dns_ms=1.0, connect_ms=2.0, tls_ms=30.0, first_byte_ms=20.0))
    page = samples(metrics)
    name = "dispatcher_attempt_phase_seconds"
    counts = [page[f"{name}_count", frozenset({("phase", phase)})] for phase in PHASES]
    assert [1.0, 1.0, 1.0, 2.0] == counts
    assert 0.03 == page[f"{name}_sum", frozenset({("phase", "tls")})]


def test_what_a_run_held_is_forgotten_with_it() -> None:
    """A standby must not show what it held when it led."""
    metrics = Metrics()
    metrics.held.set_function(lambda: 7)
    metrics.lanes["alert"].due_age_s.set_function(lambda: 99)
    held = ("dispatcher_deliveries_held", frozenset[tuple[str, str]]())
    assert 7 == samples(metrics)[held]
    metrics.rest()
    page = samples(metrics)
    age = page["dispatcher_oldest_due_delivery_age_seconds", frozenset({("lane", "alert")})]
    assert (0.0, 0.0) == (page[held], age)
