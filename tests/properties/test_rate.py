"""A rate limit's promises: never more than it allows in any window, and no wait that it does not demand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.ids import WebhookId
from dispatcher.core.rate import MAX_RATE_PER_S, MIN_RATE_PER_S, Rates, TokenBucket

SECOND_NS = 1_000_000_000
WEBHOOK = WebhookId(1)

rates = st.floats(MIN_RATE_PER_S, MAX_RATE_PER_S)
# Moments at which somebody would like to start a request: many at once, and long rests.
pauses = st.lists(st.sampled_from([0, 1, 1000, 10**6]) | st.integers(0, 20 * SECOND_NS), max_size=60)


def starts(bucket: TokenBucket, pauses_ns: list[int]) -> list[int]:
    """Give the times at which requests started."""
    now_ns, started = 0, []
    for pause_ns in pauses_ns:
        now_ns += pause_ns
        if bucket.take(now_ns):
            started.append(now_ns)
    return started


@given(rates, pauses)
def test_no_window_holds_more(rate_per_s: float, pauses_ns: list[int]) -> None:
    """In any time t there start at most burst + rate * t requests, exactly."""
    bucket = TokenBucket(WEBHOOK, rate_per_s)
    started = starts(bucket, pauses_ns)
    for first, begin in enumerate(started):
        for last, end in enumerate(started[first:], first):
            allowed = bucket.burst + Fraction(rate_per_s) * (end - begin) / SECOND_NS
            assert last - first + 1 <= allowed


@given(rates, pauses)
def test_nobody_waits_while_a_token_is_there(rate_per_s: float, pauses_ns: list[int]) -> None:
    """It is a bucket that gains a token every interval until it is full, and is asked for one at a time."""
    bucket = TokenBucket(WEBHOOK, rate_per_s)
    interval_ns = -(-SECOND_NS // Fraction(rate_per_s))  # a nanosecond is the least that it counts
    tokens, now_ns = Fraction(bucket.burst), 0
    for pause_ns in pauses_ns:
        now_ns += pause_ns
        tokens = min(Fraction(bucket.burst), tokens + Fraction(pause_ns, interval_ns))
        assert (tokens >= 1) == (bucket.ready_at_ns <= now_ns) == bucket.take(now_ns)
        tokens -= tokens >= 1


@given(rates, rates, pauses, st.integers(0, SECOND_NS))
def test_a_new_rate_holds_from_the_next_token_on(
    before: float, after: float, pauses_ns: list[int], pause_ns: int
) -> None:
    """Nobody waits longer than the new rate's interval, and a change grants no tokens of its own."""
    bucket = TokenBucket(WEBHOOK, before)
    starts(bucket, pauses_ns)
    now_ns = sum(pauses_ns) + pause_ns
    empty = bucket.ready_at_ns > now_ns
    bucket.change(after, now_ns)
    assert bucket.ready_at_ns <= now_ns + -(-SECOND_NS // Fraction(after)) + 1
    if empty:
        assert not bucket.take(now_ns - 1)


@pytest.mark.parametrize(
    ("rate_per_s", "burst"), [(0.1, 1), (1, 1), (10, 1), (25, 2), (100, 10), (1000, 100)]
)
def test_a_burst_is_a_tenth_of_a_second(rate_per_s: float, burst: int) -> None:
    """So many may start at once after a rest, and no more."""
    assert burst == len(starts(TokenBucket(WEBHOOK, rate_per_s), [0] * 200))


@given(st.lists(st.tuples(st.integers(1, 5), rates), min_size=1, max_size=30))
def test_a_sleeper_is_woken_once(changes: list[tuple[int, float]]) -> None:
    """However often limits change while webhooks sleep, each wakes once, and not before its token."""
    asked = Rates()
    limits: dict[WebhookId, float] = {}
    for webhook, rate_per_s in changes:
        limits[WebhookId(webhook)] = rate_per_s
        for webhook_id in asked.change(limits, 0):
            while asked.take(asked.buckets[webhook_id], 0):
                pass
    assert len(limits) == asked.asleep
    woken: list[WebhookId] = []
    while asked.asleep:
        now_ns = asked.next_ns
        for webhook_id in asked.awake(now_ns):
            assert asked.buckets[webhook_id].ready_at_ns <= now_ns
            woken.append(webhook_id)
    assert sorted(limits) == sorted(woken)
