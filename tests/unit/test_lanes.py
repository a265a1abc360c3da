"""The lanes: what is in memory, whose turn it is, how much room is left."""

from __future__ import annotations

import datetime as dt
from functools import partial

import pytest

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.lanes import Admission, Lanes
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.core.room import Limits

DAY = dt.date(2026, 11, 21)
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def limits(in_flight: int = 100, per_webhook: int = 100, held: int = 1000, size: int = 10_000) -> Limits:
    """Make bounds."""
    return Limits(
        max_in_flight=in_flight, max_in_flight_per_webhook=per_webhook, max_held=held, max_bytes=size
    )


def lanes(**bounds: int) -> Lanes:
    """Make empty lanes with these bounds."""
    return Lanes(limits(**bounds))


def key(event: int, webhook: int = 1) -> DeliveryKey:
    """Name a delivery."""
    return DeliveryKey(DAY, OutboxId(event), WebhookId(webhook))


def put(into: Lanes, event: int, webhook: int = 1, lane: Lane = Lane.EVENT, size: int = 1) -> Admission:
    """Ask for room, and queue what was admitted."""
    answer = into.admit(lane, key(event, webhook), size)
    if answer is Admission.ADMITTED:
        into.push(Pending(key(event, webhook), lane, Payload("x.y", b"x" * size, NOW, test=False)))
    return answer


def take_all(out_of: Lanes) -> list[Pending]:
    """Take whatever may go now."""
    return list(iter(partial(out_of.take, 0), None))


def events(taken: list[Pending]) -> list[int]:
    """Give the events of deliveries."""
    return [one.key.outbox_id for one in taken]


def limited(rate_per_s: float, *webhooks: int, **bounds: int) -> Lanes:
    """Make empty lanes in which these webhooks have a rate limit."""
    made = lanes(**bounds)
    assert made.limit_rates({WebhookId(one): rate_per_s for one in webhooks}, 0)
    return made


def test_a_limited_webhook_waits_alone_and_its_alert_goes_first() -> None:
    """Without a token it takes no slot and holds up nobody; when one comes its highest lane has it."""
    full = limited(2.0, 1)
    for event in (1, 2):
        put(full, event, lane=Lane.ROUTINE)
    put(full, 3, webhook=2, lane=Lane.RECOVERY)
    assert [1, 3] == events(take_all(full))
    put(full, 4, lane=Lane.ALERT)
    assert (None, 2, 1) == (full.take(499_999_999), full.in_flight, full.rates.asleep)
    alert = full.take(500_000_000)
    assert alert is not None
    assert (4, None) == (alert.key.outbox_id, full.take(999_999_999))
    assert full.take(1_000_000_000) is not None


def test_nothing_but_alerts_starts_while_one_is_on_its_way() -> None:
    """Until it stands in its lane: then it goes first, and everybody after it."""
    full = lanes()
    for event, lane in enumerate((Lane.EVENT, Lane.ROUTINE, Lane.RETRY, Lane.RECOVERY), start=1):
        put(full, event, webhook=event, lane=lane)
    full.right_of_way.take(0)
    assert [] == take_all(full)
    put(full, 9, webhook=9, lane=Lane.ALERT)
    assert [9] == events(take_all(full))
    put(full, 10, webhook=9, lane=Lane.ALERT)
    assert full.right_of_way.give_back()
    assert [10, 1, 2, 3, 4] == events(take_all(full))


def test_an_alert_that_does_not_come_stops_nobody_for_long() -> None:
    """The way is clear for 50 ms at most, however often it is rung for before it comes."""
    full = lanes()
    for event in (1, 2):
        put(full, event)
    full.right_of_way.take(0)
    assert full.take(49_999_999) is None
    assert [1] == events([one for one in [full.take(50_000_000)] if one])
    full.right_of_way.take(60_000_000)
    assert [2] == events([one for one in [full.take(60_000_000)] if one])
    assert full.right_of_way.give_back()
    assert not full.right_of_way.give_back()
    put(full, 3)
    full.right_of_way.take(70_000_000)
    assert full.take(70_000_000) is None


def test_what_is_awaited_finds_room_beyond_the_bounds() -> None:
    """One of a webhook at a time, few of all, and for nobody else."""
    full = lanes(held=10)
    for event in range(1, 11):
        put(full, event, webhook=event, lane=Lane.ALERT)
    ask = partial(full.admit, Lane.RETRY, body_bytes=1, awaited=True)
    assert Admission.FULL is full.admit(Lane.RETRY, key(20), 1)
    assert Admission.ADMITTED is ask(key(20))
    assert Admission.FULL is ask(key(21))
    assert Admission.ADMITTED is ask(key(21, webhook=2))
    assert (12, 12) == (full.room.held, full.room.held_bytes)
    full.give_up(Lane.RETRY, key(20), 1)
    assert Admission.ADMITTED is ask(key(22))
    answers = [ask(key(30, webhook=webhook)) for webhook in range(3, 20)]
    assert [Admission.ADMITTED] * 14 + [Admission.FULL] * 3 == answers
    assert not full.room.may_exceed(WebhookId(50))


def test_what_was_not_sent_costs_no_token() -> None:
    """A delivery that ends without a request gives its token to the next one."""
    full = limited(0.1, 1)
    for event in (1, 2, 3):
        put(full, event)
    for event in (1, 2):
        taken = full.take(0)
        assert taken is not None
        assert event == taken.key.outbox_id
        full.landed(taken, sent=False)
    assert [3] == events(take_all(full))


def test_a_changed_limit_holds_at_once() -> None:
    """Who sleeps wakes at the new rate, or at once when the limit is lifted."""
    full = limited(0.1, 1, 2)
    for event in range(6):
        put(full, event, webhook=1 + event % 2)
    assert [0, 1] == events(take_all(full))
    assert full.limit_rates({WebhookId(1): 100.0}, 0)
    assert [3, 5] == events(take_all(full))
    assert full.take(9_999_999) is None
    assert full.take(10_000_000) is not None
    assert not full.limit_rates({WebhookId(1): 100.0}, 0)


def test_a_limited_webhook_holds_little_and_crowds_nobody() -> None:
    """It holds what it can send in ten seconds; the lanes' other users do not wait for it."""
    full = limited(2.0, 1, 3, held=50)
    for event in range(30):
        for webhook in (1, 3):
            put(full, event, webhook)
    assert 24 == full.room.held  # of the 47 that the lane may fill
    assert (False, 0) == (full.room.is_crowded(Lane.EVENT), full.settled_count)
    taken = full.take(0)
    assert taken is not None
    full.landed(taken)
    full.settled(taken)
    assert 0 == full.settled_count
    assert full.limit_rates({}, 0)
    assert [Admission.ADMITTED] * 2 == [put(full, 31, 2), put(full, 32, 4)]
    assert full.room.is_crowded(Lane.EVENT)
    wide = limited(2.0, 1)
    assert 20 == [put(wide, event) for event in range(30)].count(Admission.ADMITTED)
    assert 0 == wide.room_for(Lane.EVENT, WebhookId(1))


def test_what_waits_is_read_back_by_pages() -> None:
    """Not one by one as each is settled, but once half of what the webhook may hold is free."""
    full = limited(2.0, 1)
    pages = [full.page_for(Lane.RETRY, WebhookId(1), 500)]
    for event in range(20):
        put(full, event, lane=Lane.RETRY)
        pages.append(full.page_for(Lane.RETRY, WebhookId(1), 500))
    assert [20, *range(19, 9, -1), *[0] * 10] == pages
    assert 7 == full.page_for(Lane.EVENT, WebhookId(1), 7)


def test_who_does_not_answer_leaves_half_of_the_room() -> None:
    """Once half is taken a webhook holds what it can use: little until it answers, more with every answer."""
    full = lanes(per_webhook=16, held=10_000, size=10**6)
    room = [
        sum(put(full, event, webhook) is Admission.ADMITTED for event in range(3000)) for webhook in (1, 2, 3)
    ]
    assert [3000, 1751, 64] == room  # half of what is free; up to half of the room; the least window
    for _ in range(50):
        taken = full.take(0)
        assert taken is not None
        full.landed(taken)
        full.settled(taken, answered=taken.key.webhook_id == 3)
    answers = full.room.windows.of(WebhookId(3)) - 64
    assert 0 < answers < 50
    assert 2 * answers == full.room_for(Lane.EVENT, WebhookId(3))  # they left, and so many more may come
    assert 0 == full.room_for(Lane.EVENT, WebhookId(1))


def crowd(**bounds: int) -> Lanes:
    """Make lanes for webhooks that share one host, those above 1,000 excepted."""
    return Lanes(limits(**bounds), lambda one: "one host" if one < 1_000 else one)


def test_a_host_leaves_a_ninth_of_the_slots() -> None:
    """However many webhooks of it hang; each slot that comes free is for whoever may have it."""
    full = crowd(in_flight=90, held=10_000)
    for webhook in range(200):
        put(full, webhook, webhook, Lane.ALERT)
    hung = take_all(full)
    assert list(range(80)) == events(hung)
    for webhook in (1_001, 1_002):
        put(full, webhook, webhook, Lane.ALERT)
    elsewhere = take_all(full)
    assert [1_001, 1_002] == events(elsewhere)
    full.landed(hung[0])
    assert [] == take_all(full)  # 79 of it are under way, and nine slots are free: so many times eight are 72
    for one in elsewhere:
        full.landed(one)
    assert [80] == events(take_all(full))
    put(full, 1_003, 1_003, Lane.EVENT)
    assert [1_003] == events(take_all(full))


def test_a_host_that_was_put_off_has_its_turn_while_others_are_never_done() -> None:
    """Slots are never free: what was put off then goes on with the others, not behind all of them."""
    made = Lanes(limits(in_flight=40), lambda one: max(one, 30))
    for number in range(180):
        assert put(made, number, number % 90) is Admission.ADMITTED
    flying = take_all(made)
    taken = 0
    for number in range(180, 1_000):
        landed = flying.pop(0)
        made.landed(landed)
        made.settled(landed)
        if landed.key.webhook_id > 30:
            put(made, number, landed.key.webhook_id)
        else:
            taken += 1
        flying += take_all(made)
    assert 2 * 31 == taken


def test_a_webhook_that_leads_elsewhere_leaves_the_share_of_its_host() -> None:
    """With what it has in memory: one that was put off, and one that has a request under way."""
    elsewhere: set[int] = set()
    made = Lanes(limits(in_flight=90, held=10_000), lambda one: one in elsewhere)
    for number in range(400):
        assert put(made, number, number % 200, Lane.ALERT) is Admission.ADMITTED
    assert 80 == len(take_all(made)), "of a host that hangs"
    for webhook in (79, 199):
        elsewhere.add(webhook)
        made.moved(WebhookId(webhook))
    assert {199, 279, 399} == set(events(take_all(made)))


def test_a_host_leaves_a_ninth_of_the_room() -> None:
    """Neither all deliveries nor all bytes are its; what one webhook may have is bounded by both."""
    full = crowd(held=900)
    admitted = [put(full, event, event, Lane.ALERT) for event in range(900)].count(Admission.ADMITTED)
    assert 800 == admitted
    assert full.is_host_full(Lane.ALERT, WebhookId(7))
    assert (0, 50) == (full.room_for(Lane.ALERT, WebhookId(7)), full.room_for(Lane.ALERT, WebhookId(1_001)))
    assert Admission.ADMITTED == put(full, 1, 1_001, Lane.ALERT)
    heavy = crowd(size=9_000)
    sizes = [put(heavy, event, event, Lane.ALERT, size=1_000) for event in range(9)]
    assert 8 == sizes.count(Admission.ADMITTED)


def test_nothing_to_do() -> None:
    """Empty lanes give nothing."""
    assert lanes().take(0) is None


def test_alerts_overtake_everything() -> None:
    """Lanes go in their order, whatever came first."""
    full = lanes()
    for number, lane in enumerate(reversed(Lane)):
        put(full, number, lane=lane)
    assert list(Lane) == [one.lane for one in take_all(full)]


def test_webhooks_take_turns() -> None:
    """One with a long queue delays nobody, and each one's deliveries go in their order."""
    full = lanes()
    for event in range(1, 5):
        put(full, event, webhook=1)
    put(full, 11, webhook=2)
    put(full, 12, webhook=2)
    assert [1, 11, 2, 12, 3, 4] == events(take_all(full))


def test_webhook_has_so_many_requests_under_way() -> None:
    """Over all lanes; what waits for one of its slots goes as soon as one is free, alerts first."""
    full = lanes(per_webhook=2)
    for event in (1, 2, 3):
        put(full, event)
    put(full, 9, lane=Lane.ALERT)
    first = take_all(full)
    assert [9, 1] == events(first)
    put(full, 10, lane=Lane.ALERT)
    assert full.take(0) is None
    full.landed(first[0])
    assert [10] == events(take_all(full))
    full.landed(first[1])
    assert [2] == events(take_all(full))


@pytest.mark.parametrize(("lane", "slots"), [(Lane.EVENT, 15), (Lane.ROUTINE, 14), (Lane.RECOVERY, 8)])
def test_lower_lanes_leave_some_of_a_webhooks_slots(lane: Lane, slots: int) -> None:
    """The alert behind a slow receiver's sensors finds one."""
    full = lanes(in_flight=2000, per_webhook=16)
    for event in range(40):
        put(full, event, lane=lane)
    assert slots == len(take_all(full))
    put(full, 100, lane=Lane.ALERT)
    assert [100] == events(take_all(full))


def test_slots_are_bounded() -> None:
    """So many requests at a time, and no more until one lands."""
    full = lanes(in_flight=3)
    for event in range(1, 6):
        put(full, event, webhook=event, lane=Lane.ALERT)
    taken = take_all(full)
    assert [1, 2, 3] == events(taken)
    full.landed(taken[1])
    assert [4] == events(take_all(full))


@pytest.mark.parametrize(
    ("lane", "slots"),
    [(Lane.ALERT, 20), (Lane.EVENT, 19), (Lane.ROUTINE, 17), (Lane.RETRY, 14), (Lane.RECOVERY, 10)],
)
def test_lower_lanes_leave_slots_free(lane: Lane, slots: int) -> None:
    """However much of it there is, a lane fills its share; the others' slots stay free for them."""
    full = lanes(in_flight=20)
    for event in range(40):
        put(full, event, webhook=event, lane=lane)
    assert slots == len(take_all(full))
    put(full, 100, webhook=100, lane=Lane.ALERT)
    assert (lane is not Lane.ALERT) == (full.take(0) is not None)


@pytest.mark.parametrize("lane", Lane)
def test_lower_lanes_leave_room_free(lane: Lane) -> None:
    """A lane that finds no room leaves some for the lanes above it."""
    full = lanes(held=20)
    event = 0
    while put(full, event, webhook=event, lane=lane) is Admission.ADMITTED:
        event += 1
    above = Lane(lane - 1) if lane else None
    if above is None:
        assert 20 == full.room.held
    else:
        assert Admission.ADMITTED == put(full, 1000, lane=above)


def test_room_is_taken_until_the_fact_is_durable() -> None:
    """A slot is free when the request is over, the room only when it is recorded."""
    full = lanes(held=1)
    put(full, 1, lane=Lane.ALERT)
    (pending,) = take_all(full)
    assert Admission.FULL == put(full, 2, lane=Lane.ALERT)
    full.landed(pending)
    assert Admission.FULL == put(full, 2, lane=Lane.ALERT)
    full.settled(pending)
    assert Admission.ADMITTED == put(full, 2, lane=Lane.ALERT)
    assert (1, 1) == (full.room.held, full.settled_count)


def test_bodies_are_bounded_too() -> None:
    """Room is counted in bytes as well; one delivery always fits, however large its body."""
    full = lanes(size=100)
    assert Admission.ADMITTED == put(full, 1, lane=Lane.ALERT, size=500)
    assert Admission.FULL == put(full, 2, lane=Lane.ALERT, size=1)
    assert 500 == full.room.held_bytes


def test_webhook_holds_half_of_what_is_free() -> None:
    """So that a burst to few webhooks need not be written and read back; each lane counts for itself."""
    full = lanes(held=100)
    admitted = [put(full, event) for event in range(1, 101)].count(Admission.ADMITTED)
    assert 32 == admitted  # a third of the 95 that the lane may fill
    assert (0, 34) == (full.room_for(Lane.EVENT, WebhookId(1)), full.room_for(Lane.ALERT, WebhookId(1)))
    assert Admission.ADMITTED == put(full, 101, lane=Lane.ALERT)
    assert Admission.ADMITTED == put(full, 101, webhook=2)


def test_webhook_holds_half_of_the_bytes_that_are_free() -> None:
    """Large bodies are room as well."""
    full = lanes(size=1000)
    admitted = [put(full, event, size=100, lane=Lane.ALERT) for event in range(1, 11)]
    assert 3 == admitted.count(Admission.ADMITTED)
    assert Admission.ADMITTED == put(full, 11, webhook=2, size=300, lane=Lane.ALERT)


def test_however_many_hang_the_next_one_finds_room_and_slots() -> None:
    """A hundred and fifty webhooks that never answer, each with a flood, leave both to the next one."""
    full = lanes(in_flight=2000, per_webhook=16, held=20_000, size=10**6)
    for event in range(300):
        for webhook in range(1, 151):
            put(full, event, webhook=webhook, lane=Lane.ALERT)
    assert len(take_all(full)) < 2000
    assert Admission.ADMITTED == put(full, 1, webhook=151, lane=Lane.ALERT)
    assert [151] == [one.key.webhook_id for one in take_all(full)]


@pytest.mark.parametrize("lane", [Lane.RETRY, Lane.RECOVERY])
def test_lower_lanes_go_on_beside_webhooks_that_hang(lane: Lane) -> None:
    """A hundred and fifty, with a backlog of events and sensors, leave everybody one in a lower lane."""
    full = lanes(in_flight=2000, per_webhook=16, held=20_000, size=10**6)
    for event in range(300):
        for webhook in range(1, 151):
            put(full, event, webhook=webhook, lane=Lane.EVENT)
            put(full, 1000 + event, webhook=webhook, lane=Lane.ROUTINE)
    take_all(full)
    for webhook in range(1, 151):
        assert Admission.ADMITTED == put(full, 2000, webhook=webhook, lane=lane)
        assert Admission.FULL == put(full, 2001, webhook=webhook, lane=lane)
    assert not take_all(full), "each of them has its share of the slots"
    for event in range(3000, 3005):
        assert 1 == full.page_for(lane, WebhookId(151), 10)
        assert Admission.ADMITTED == put(full, event, webhook=151, lane=lane)
        assert 0 == full.page_for(lane, WebhookId(151), 10)
        (taken,) = take_all(full)
        full.landed(taken)
        full.settled(taken)


def test_the_reserve_is_bounded() -> None:
    """In deliveries and in bytes; alerts may fill the rest."""
    full = lanes(in_flight=100, held=100, size=10_000)
    for webhook in range(1, 101):
        put(full, 1, webhook=webhook, lane=Lane.EVENT)
    assert 95 == len(take_all(full))
    retries = [put(full, 2, webhook=webhook, lane=Lane.RETRY) for webhook in range(101, 105)]
    assert [Admission.ADMITTED] * 2 + [Admission.FULL] * 2 == retries
    assert 2 == len(take_all(full))
    alerts = [put(full, 3, webhook=webhook, lane=Lane.ALERT) for webhook in range(201, 206)]
    assert [Admission.ADMITTED] * 3 + [Admission.FULL] * 2 == alerts
    assert 3 == len(take_all(full))
    assert Admission.FULL == put(full, 4, webhook=105, lane=Lane.RECOVERY)
    assert 0 == full.room_for(Lane.RECOVERY, WebhookId(105))
    large = lanes(size=10_000)
    put(large, 1, webhook=1, lane=Lane.ALERT, size=9_000)
    answers = [put(large, 2, webhook=webhook, lane=Lane.RETRY, size=101) for webhook in (2, 3)]
    assert [Admission.ADMITTED, Admission.FULL] == answers, "of 200 bytes"


def test_slots_of_ones_own_are_bounded() -> None:
    """A lower lane has so many of them; alerts may fill the rest, and then nothing starts."""
    full = lanes(in_flight=100)
    for webhook in range(1, 101):
        put(full, 1, webhook=webhook, lane=Lane.EVENT)
    assert 95 == len(take_all(full))
    for webhook in range(1, 6):
        put(full, 2, webhook=100 + webhook, lane=Lane.RETRY)
    assert 2 == len(take_all(full))
    for webhook in range(1, 6):
        put(full, 3, webhook=200 + webhook, lane=Lane.ALERT)
    put(full, 4, webhook=300, lane=Lane.RECOVERY)
    assert [Lane.ALERT] * 3 == [one.lane for one in take_all(full)]


def test_who_was_put_off_goes_on_when_anybody_lands() -> None:
    """Half of the free slots are another number then."""
    full = lanes(in_flight=10)
    for webhook in (1, 2):
        for event in range(10):
            put(full, event, webhook=webhook, lane=Lane.ALERT)
    taken = take_all(full)
    while taken:
        full.landed(taken.pop())
        taken += take_all(full)
    assert (0, 0) == (sum(full.queued_in), full.in_flight)


def test_a_delivery_is_held_once() -> None:
    """The same attempt is held already; another one has to wait for it."""
    full = lanes()
    assert Admission.ADMITTED == full.admit(Lane.EVENT, key(1), 1)
    assert Admission.HELD == full.admit(Lane.RETRY, key(1), 1, attempt_no=1)
    assert Admission.BUSY == full.admit(Lane.RETRY, key(1), 1, attempt_no=2)
    assert [1] == full.held_for(WebhookId(1))
    full.give_up(Lane.EVENT, key(1), 1)
    assert Admission.ADMITTED == full.admit(Lane.RETRY, key(1), 1, attempt_no=2)
    assert ([1], []) == (full.held_for(WebhookId(1)), full.held_for(WebhookId(2)))


def test_crowded_is_more_than_half_full() -> None:
    """Of the room that the lane may fill, in deliveries or in bytes."""
    full = lanes(held=100, size=1000)
    for event in range(42):
        put(full, event, webhook=event)
    assert (False, False, True) == (
        full.room.is_crowded(Lane.ALERT),
        full.room.is_crowded(Lane.ROUTINE),
        full.room.is_crowded(Lane.RECOVERY),
    )
    put(full, 99, webhook=99, size=500)
    assert full.room.is_crowded(Lane.ALERT)


def test_only_what_its_webhook_could_take_counts_as_due() -> None:
    """A receiver whose slots are taken holds up itself; a retry counts from its own due time."""
    full = lanes(in_flight=10, per_webhook=2)
    assert full.due_since(Lane.ALERT) is None
    for event in (1, 2, 3):
        put(full, event, webhook=1, lane=Lane.ALERT)
    assert full.due_since(Lane.ALERT) == NOW
    assert [1, 2] == events(take_all(full))
    assert full.due_since(Lane.ALERT) is None  # webhook 1 has no slot left: its third waits for itself
    later = Pending(key(4, 2), Lane.RETRY, Payload("x.y", b"x", NOW, test=False))
    later.due_at = NOW + dt.timedelta(minutes=5)
    assert Admission.ADMITTED == full.admit(Lane.RETRY, later.key, 1)
    full.push(later)
    assert later.due_at == full.due_since(Lane.RETRY)
