"""Traces by W3C Trace Context: what is read, what is written, and that ids are found again."""

from __future__ import annotations

import datetime as dt

import pytest

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.trace import Span, TraceIds, read_traceparent
from tests.traceparents import ACCEPTED, LEFT_OUT

DAY = dt.date(2026, 11, 22)
KEY = bytes(range(16))
PRODUCER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("value", ACCEPTED)
def test_a_traceparent_is_read(value: str) -> None:
    """Of versions to come the fields that version 00 has too; of the flags the one that it knows."""
    read = read_traceparent(value)
    assert read is not None
    assert value[3:52] == read.traceparent[3:52]
    assert bool(int(value[53:55], 16) & 1) == read.sampled
    assert read == read_traceparent(read.traceparent)


@pytest.mark.parametrize("value", LEFT_OUT)
def test_anything_else_is_none(value: str) -> None:
    """The specification says: then a trace begins here."""
    assert read_traceparent(value) is None
    assert TraceIds(KEY, 1).event(DAY, OutboxId(1), None) == TraceIds(KEY, 1).event(DAY, OutboxId(1), value)


def test_a_producers_trace_goes_on() -> None:
    """Its trace id and its decision about sampling hold, whatever the ratio is for traces that begin here."""
    for ratio in (0.0, 1.0):
        event = TraceIds(KEY, ratio).event(DAY, OutboxId(7), PRODUCER)
        assert event.parent == Span(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, sampled=True)
        assert (event.parent.trace_id, True) == (event.span.trace_id, event.span.sampled)
        assert event.span.span_id != event.parent.span_id
    assert not TraceIds(KEY, 1.0).event(DAY, OutboxId(7), PRODUCER[:-1] + "0").span.sampled


def test_every_attempt_finds_the_same_trace() -> None:
    """Another process, after a crash, derives the ids that the first one had; no two spans share one."""
    one, other = TraceIds(KEY, 1), TraceIds(KEY, 1)
    seen = set()
    for number in range(1, 50):
        event = one.event(DAY, OutboxId(number), None)
        assert event == other.event(DAY, OutboxId(number), None)
        assert event.parent is None
        seen.add(event.span.span_id)
        for webhook in (1, 2):
            key = DeliveryKey(DAY, OutboxId(number), WebhookId(webhook))
            for attempt_no in (1, 2):
                span = one.attempt(event.span, key, attempt_no)
                assert span == other.attempt(event.span, key, attempt_no)
                assert event.span.trace_id == span.trace_id
                seen.add(span.span_id)
    assert 49 * 5 == len(seen)
    assert one.event(DAY, OutboxId(1), None) != TraceIds(bytes(16), 1).event(DAY, OutboxId(1), None)


def test_a_share_of_traces_is_sampled() -> None:
    """All, none, or about the share; the same ones whenever they are asked for."""
    for ratio, least, most in ((0.0, 0, 0), (0.25, 180, 320), (1.0, 1000, 1000)):
        ids = TraceIds(KEY, ratio)
        sampled = [ids.event(DAY, OutboxId(number), None).span.sampled for number in range(1000)]
        assert least <= sum(sampled) <= most
