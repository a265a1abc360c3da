"""Deliveries about the same subject leave in order, and hold up nothing else."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from dispatcher.core.delivery import Trigger
from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.ordering import Order, Ordering
from dispatcher.core.pending import Lane, Payload, Pending

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


def pending(number: int, subject: str = "evt_1", lane: Lane = Lane.EVENT, **more: object) -> Pending:
    """Make a delivery about an earthquake, or a sensor, to webhook 1 unless `webhook` says otherwise."""
    webhook = WebhookId(int(str(more.get("webhook", 1))))
    name = "sensor_id" if subject.startswith("sen") else "event_id"
    body = json.dumps({"type": "x.y", "timestamp": "2026-11-22T00:00:00Z", "data": {name: subject}}).encode()
    payload = Payload("x.y", body.replace(b": ", b":"), NOW, test=bool(more.get("test")))
    trigger = Trigger.MANUAL if more.get("manual") else Trigger.FIRST
    return Pending(DeliveryKey(NOW.date(), OutboxId(number), webhook), lane, payload, trigger=trigger)


class Desk:
    """An order, and what it let go."""

    def __init__(self, ordering: Ordering = "subject") -> None:
        self.gone: list[int] = []
        self.order = Order(lambda one: self.gone.append(one.key.outbox_id), lambda _: ordering)

    def push(self, *numbers: int) -> list[Pending]:
        """Push deliveries about the same earthquake."""
        made = [pending(number) for number in numbers]
        for one in made:
            self.order.push(one)
        return made

    def went(self) -> list[int]:
        """Give what was let go since the last time."""
        gone, self.gone[:] = self.gone.copy(), []
        return gone


def test_one_after_the_other() -> None:
    """Each leaves when the fact of the one before is durable."""
    desk = Desk()
    one, two, three = desk.push(1, 2, 3)
    assert [1] == desk.went()
    assert desk.order.settled(one, None, NOW)
    assert [2] == desk.went()
    assert desk.order.settled(two, None, NOW)
    assert not desk.order.settled(three, None, NOW)
    assert ([3], 0) == (desk.went(), desk.order.waiting)


def test_who_is_held_back() -> None:
    """A webhook of strict order, as long as something of it waits for something earlier."""
    desk = Desk("strict")
    one, _ = desk.push(1, 2)
    assert not desk.order.holds_back(WebhookId(1)), "the earlier one is here"
    desk.order.settled(one, NOW + 60 * SECOND, NOW)
    assert desk.order.holds_back(WebhookId(1))
    assert not desk.order.holds_back(WebhookId(2))
    (one,) = desk.push(1)
    desk.order.settled(one, None, NOW)
    assert not desk.order.holds_back(WebhookId(1))
    desk = Desk()
    one, _ = desk.push(1, 2)
    desk.order.settled(one, NOW + SECOND, NOW)
    assert not desk.order.holds_back(WebhookId(1)), "it is let go after a while"
    desk = Desk("strict")
    desk.order.expect(WebhookId(1), "event evt_1", OutboxId(1))
    desk.push(2, 3)
    assert desk.order.holds_back(WebhookId(1))
    assert desk.order.forget(WebhookId(1))
    assert not desk.order.holds_back(WebhookId(1))


def test_other_subjects_and_webhooks_are_not_blocked() -> None:
    """Nor tests, nor what is asked for by hand, nor live events by recovered ones."""
    desk = Desk()
    free = [
        pending(2, "evt_2"),
        pending(3, "sen_1"),
        pending(4, webhook=2),
        pending(5, test=True),
        pending(6, manual=True),
        pending(7, lane=Lane.RECOVERY),
    ]
    for one in [pending(1), *free]:
        desk.order.push(one)
    assert [1, 2, 3, 4, 5, 6, 7] == desk.went()


def test_subject_waits_for_a_retry_that_is_due_soon() -> None:
    """The retry leaves first; the later one when that is over."""
    desk = Desk()
    one, _ = desk.push(1, 2)
    assert not desk.order.settled(one, NOW + 5 * SECOND, NOW)
    assert [1] == desk.went()
    (again,) = desk.push(1)
    assert [1] == desk.went()
    assert desk.order.settled(again, None, NOW + 6 * SECOND)
    assert [2] == desk.went()


def test_subject_overtakes_a_retry_that_is_far_off() -> None:
    """And the retry, when it is due, waits for nobody: it was overtaken already."""
    desk = Desk()
    one, _ = desk.push(1, 2)
    assert desk.order.settled(one, NOW + 6 * SECOND, NOW)
    assert [1, 2] == desk.went()
    desk.push(1, 3)
    assert [1] == desk.went()
    assert 1 == desk.order.waiting


def test_a_retry_that_does_not_come_is_overtaken() -> None:
    """Some seconds after it was due."""
    desk = Desk()
    one, _ = desk.push(1, 2)
    desk.order.settled(one, NOW + SECOND, NOW)
    assert NOW + 6 * SECOND == desk.order.next_expiry
    assert not desk.order.expire(NOW + 5 * SECOND)
    assert desk.order.expire(NOW + 6 * SECOND)
    assert [1, 2] == desk.went()
    assert not desk.order.expire(NOW + 60 * SECOND)


def test_strict_waits_to_the_end() -> None:
    """However far off the retry is, also one that an earlier run left; until the webhook is stopped."""
    desk = Desk("strict")
    one, _ = desk.push(1, 2)
    desk.order.settled(one, NOW + 1800 * SECOND, NOW)
    assert not desk.order.expire(NOW + 9000 * SECOND)
    assert [1] == desk.went()
    assert desk.order.forget(WebhookId(1))
    assert [2] == desk.went()

    desk = Desk("strict")
    desk.order.expect(WebhookId(1), "event evt_1", OutboxId(1))
    desk.push(2)
    assert [] == desk.went()
    (again,) = desk.push(1)
    assert desk.order.settled(again, None, NOW)
    assert [1, 2] == desk.went()


def test_none_waits_for_nothing() -> None:
    """All leave at once."""
    desk = Desk("none")
    desk.push(1, 2, 3)
    assert [1, 2, 3] == desk.went()


def test_what_comes_late_does_not_wait_for_what_overtook_it() -> None:
    """An earlier event that becomes known later goes at once; the next one waits for both."""
    desk = Desk()
    (two,) = desk.push(2)
    one, three = desk.push(1, 3)
    assert [2, 1] == desk.went()
    assert not desk.order.settled(two, None, NOW)
    assert desk.order.settled(one, None, NOW)
    assert [3] == desk.went()
    assert three.payload.subject == "event evt_1"


@pytest.mark.parametrize(
    ("data", "subject"),
    [
        ('{"event_id":"evt_1","sensor_id":"sen_1"}', "event evt_1"),
        ('{"sensor_id":"sen_1"}', "sensor sen_1"),
        ('{"event_id":7}', None),
        ('{"event_id":"","sensor_id":"sen_1"}', "sensor sen_1"),
        ('{"event_id":"","sensor_id":""}', None),
        ('{"webhook_id":"whk_1"}', None),
        ('{"event_id":"\\ud800"}', None),
    ],
)
def test_subject_and_time_of_a_body(data: str, subject: str | None) -> None:
    """An earthquake or a sensor, or nothing; the time as the envelope has it."""
    body = f'{{"type":"x.y","timestamp":"2026-11-22T00:00:00.120Z","data":{data}}}'.encode()
    payload = Payload("x.y", body, NOW, test=False)
    assert (subject, "2026-11-22T00:00:00.120Z") == (payload.subject, payload.occurred_at)


def test_which_retry_would_go() -> None:
    """The earliest of its subject that is out; what stands in no line always does."""
    order = Desk("strict").order
    (one,) = Desk("strict").push(1)
    order.push(one)
    order.settled(one, NOW + 60 * SECOND, NOW)
    order.expect(WebhookId(1), "event evt_1", OutboxId(2))
    assert [True, False, False] == [
        order.lets_go(WebhookId(1), "event evt_1", OutboxId(number)) for number in (1, 2, 3)
    ]
    assert order.lets_go(WebhookId(1), "event evt_2", OutboxId(3))
    assert order.lets_go(WebhookId(1), None, OutboxId(3))
