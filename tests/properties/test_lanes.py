"""The lanes' invariants, whatever is done to them in whatever order."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict, deque
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.lanes import Admission, Lanes
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.core.rate import TokenBucket
from dispatcher.core.room import Limits

DAY = dt.date(2026, 11, 21)
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
SHARES = {Lane.ALERT: 1.0, Lane.EVENT: 0.95, Lane.ROUTINE: 0.85, Lane.RETRY: 0.7, Lane.RECOVERY: 0.5}

RESERVES = {Lane.ALERT: 0.0, Lane.EVENT: 0.0, Lane.ROUTINE: 0.0, Lane.RETRY: 0.02, Lane.RECOVERY: 0.01}
HOST_SHARE = 8


def host_of(webhook_id: WebhookId) -> str:
    """Give the host of a webhook: a few are alone with another one, all others on one host."""
    return "crowded" if webhook_id > 4 else "odd" if webhook_id % 2 else "even"


class LanesMachine(RuleBasedStateMachine):
    """Does at random what the loops do, and keeps a simple account of it."""

    @initialize(
        in_flight=st.one_of(st.integers(1, 40), st.integers(50, 150)),
        per_webhook=st.sampled_from([1, 2, 3, 5, 12]),
        held=st.one_of(st.integers(1, 120), st.integers(50, 300)),
        size=st.one_of(st.integers(1, 200), st.integers(100, 600)),
    )
    def start(self, in_flight: int, per_webhook: int, held: int, size: int) -> None:
        """Begin with empty lanes."""
        self.limits = Limits(in_flight, per_webhook, held, size)
        self.hosts: dict[WebhookId, str] = {}  # of those that have moved
        self.lanes = Lanes(self.limits, self.host_of)
        self.now_ns = 0
        self.buckets: dict[WebhookId, TokenBucket] = {}
        self.admitted: list[Pending] = []
        self.queued: dict[tuple[Lane, WebhookId], deque[Pending]] = defaultdict(deque)
        self.flying: list[Pending] = []
        self.unrecorded: list[Pending] = []
        self.events = 0

    def host_of(self, webhook_id: WebhookId) -> str:
        """Give the host of a webhook as it is now."""
        return self.hosts.get(webhook_id, host_of(webhook_id))

    @rule(webhook=st.integers(1, 8).map(WebhookId), host=st.sampled_from(["crowded", "even", "elsewhere"]))
    def move(self, webhook: WebhookId, host: str) -> None:
        """Let a webhook lead to another host, whatever it has in memory."""
        self.hosts[webhook] = host
        self.lanes.moved(webhook)

    def held(self) -> list[Pending]:
        """Give everything that has room."""
        queued = [one for queue in self.queued.values() for one in queue]
        return [*self.admitted, *queued, *self.flying, *self.unrecorded]

    @rule(
        lane=st.sampled_from(Lane), webhook=st.integers(1, 4), size=st.integers(1, 9), count=st.integers(1, 4)
    )
    def admit(self, lane: Lane, webhook: int, size: int, count: int) -> None:
        """Ask for room for some new deliveries; it is refused where a bound would be passed, only there."""
        for _ in range(count):
            self.events += 1
            key = DeliveryKey(DAY, OutboxId(self.events), WebhookId(webhook))
            held = self.held()
            mine = [one for one in held if one.lane is lane and one.key.webhook_id == webhook]
            own, own_octets = len(mine), sum(len(one.payload.body) for one in mine)
            total, octets = len(held), sum(len(one.payload.body) for one in held)
            fits = (
                total < max(1, int(self.limits.max_held * SHARES[lane]))
                and octets + size <= int(self.limits.max_bytes * SHARES[lane])
            ) or total == 0
            free = int(self.limits.max_held * SHARES[lane]) - total
            free_octets = int(self.limits.max_bytes * SHARES[lane]) - octets
            share = max(1, free // 2)
            if total * 2 > int(self.limits.max_held * SHARES[lane]):
                share = min(share, self.lanes.room.windows.of(WebhookId(webhook)))
            if WebhookId(webhook) in self.buckets:
                share = min(share, self.buckets[WebhookId(webhook)].most_held)
            fair = own < share and own_octets + size <= free_octets // 2
            neighbours = [
                one for one in held if self.host_of(one.key.webhook_id) == self.host_of(key.webhook_id)
            ]
            host_octets = sum(len(one.payload.body) for one in neighbours)
            welcome = not neighbours or (
                len(neighbours) < HOST_SHARE * free and host_octets + size <= HOST_SHARE * free_octets
            )
            if fits or not total:
                expected = welcome and (not own or fair)
            else:
                expected = not own and self.fits_reserve(lane, held, size, neighbours)
            answer = self.lanes.admit(lane, key, size)
            assert (Admission.ADMITTED if expected else Admission.FULL) == answer
            if answer is Admission.ADMITTED:
                self.admitted.append(Pending(key, lane, Payload("x.y", b"x" * size, NOW, test=False)))

    def fits_reserve(self, lane: Lane, held: list[Pending], size: int, neighbours: list[Pending]) -> bool:
        """Say whether there is room in the reserve of a lane."""
        mine = [len(one.payload.body) for one in held if one.lane is lane]
        free = min(int(self.limits.max_held * RESERVES[lane]) - len(mine), self.limits.max_held - len(held))
        fits = not mine or sum(mine) + size <= int(self.limits.max_bytes * RESERVES[lane])
        return free > 0 and fits and len(neighbours) < HOST_SHARE * free

    @rule(
        lane=st.sampled_from(Lane),
        webhooks=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        count=st.integers(1, 9),
    )
    def enqueue(self, lane: Lane, webhooks: list[int], count: int) -> None:
        """Admit and queue deliveries of several webhooks."""
        for webhook in webhooks:
            self.admit(lane, webhook, 1, count)
        self.push(len(self.admitted))

    @rule(lane=st.sampled_from(Lane), webhooks=st.integers(8, 36))
    def crowd(self, lane: Lane, webhooks: int) -> None:
        """Queue a delivery for each of very many webhooks on one host, and send what may go."""
        self.enqueue(lane, list(range(5, 5 + webhooks)), 1)
        self.take(webhooks)

    @rule(rates=st.dictionaries(st.integers(1, 4).map(WebhookId), st.sampled_from([0.5, 1.0, 40.0])))
    def limit_rates(self, rates: dict[WebhookId, float]) -> None:
        """Limit some webhooks and lift the limits of the others."""
        before = {webhook_id: bucket.rate_per_s for webhook_id, bucket in self.buckets.items()}
        assert (rates != before) == self.lanes.limit_rates(rates, self.now_ns)
        for webhook_id, rate_per_s in rates.items():
            if webhook_id not in self.buckets:
                self.buckets[webhook_id] = TokenBucket(webhook_id, rate_per_s)
            elif before[webhook_id] != rate_per_s:
                self.buckets[webhook_id].change(rate_per_s, self.now_ns)
        self.buckets = {webhook_id: self.buckets[webhook_id] for webhook_id in rates}

    @rule(ms=st.integers(1, 3000))
    def go_on(self, ms: int) -> None:
        """Let time pass."""
        self.now_ns += ms * 1_000_000

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def admit_again(self, data: st.DataObject) -> None:
        """Ask for what is held: it is not held twice."""
        one = data.draw(st.sampled_from(self.held()))
        lane = data.draw(st.sampled_from(Lane))
        assert Admission.HELD == self.lanes.admit(lane, one.key, 1, one.attempt_no)
        assert Admission.BUSY == self.lanes.admit(lane, one.key, 1, one.attempt_no + 1)

    @precondition(lambda self: self.admitted)
    @rule(count=st.integers(1, 5))
    def push(self, count: int) -> None:
        """Queue what was admitted."""
        for one in self.admitted[:count]:
            self.lanes.push(one)
            self.queued[one.lane, one.key.webhook_id].append(one)
        del self.admitted[:count]

    @precondition(lambda self: self.admitted)
    @rule()
    def give_up(self) -> None:
        """Let something admitted go again."""
        one = self.admitted.pop()
        self.lanes.give_up(one.lane, one.key, len(one.payload.body))

    def under_way(self, webhook_id: WebhookId) -> int:
        """Count a webhook's requests."""
        return sum(1 for one in self.flying if one.key.webhook_id == webhook_id)

    def may_fly(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Say whether a webhook's next delivery of a lane may go: within its share of slots and its rate."""
        bucket = self.buckets.get(webhook_id)
        if bucket is not None and bucket.ready_at_ns > self.now_ns:
            return False
        own = self.under_way(webhook_id)
        free = max(1, int(self.limits.max_in_flight * SHARES[lane])) - len(self.flying)
        reserve = int(self.limits.max_in_flight * RESERVES[lane])
        if free <= 0 and reserve:
            flying = sum(1 for one in self.flying if one.lane is lane)
            free = min(reserve - flying, self.limits.max_in_flight - len(self.flying))
        most = max(1, round(self.limits.max_in_flight_per_webhook * SHARES[lane]))
        of_host = sum(
            1 for one in self.flying if self.host_of(one.key.webhook_id) == self.host_of(webhook_id)
        )
        return own < min(most, (free + 1) // 2) and of_host < HOST_SHARE * free

    @rule(count=st.integers(1, 6))
    def take(self, count: int) -> None:
        """Take what has its turn: the first of a webhook's queue, of the highest lane where one may go."""
        for _ in range(count):
            ready = [at for at, queue in self.queued.items() if queue and self.may_fly(*at)]
            taken = self.lanes.take(self.now_ns)
            if taken is None:
                # Only who was put off may be kept waiting, until somebody lands.
                assert all(self.under_way(webhook_id) for _, webhook_id in ready)
                return
            assert (taken.lane, taken.key.webhook_id) in ready
            idle = [lane for lane, webhook_id in ready if not self.under_way(webhook_id)]
            assert min([taken.lane, *idle]) == taken.lane
            higher = [lane for lane, webhook_id in ready if webhook_id == taken.key.webhook_id]
            assert min(higher) == taken.lane
            assert self.queued[taken.lane, taken.key.webhook_id].popleft() is taken
            self.spend(taken)
            self.flying.append(taken)

    def spend(self, taken: Pending) -> None:
        """Take a token for what was taken: there must be one."""
        bucket = self.buckets.get(taken.key.webhook_id)
        assert bucket is None or bucket.take(self.now_ns)

    @rule()
    def take_and_leave(self) -> None:
        """Take something and make no request: its token is there as before."""
        taken = self.lanes.take(self.now_ns)
        if taken is not None:
            self.queued[taken.lane, taken.key.webhook_id].popleft()
            self.lanes.landed(taken, sent=False)
            self.unrecorded.append(taken)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        """End a request."""
        one = data.draw(st.sampled_from(self.flying))
        self.flying.remove(one)
        self.lanes.landed(one)
        self.unrecorded.append(one)

    @precondition(lambda self: self.unrecorded)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Make a fact durable."""
        one = data.draw(st.sampled_from(self.unrecorded))
        self.unrecorded.remove(one)
        self.lanes.settled(one)

    @precondition(lambda self: self.queued)
    @rule()
    def take_turns(self) -> None:
        """With slots enough, every webhook that waits in a lane goes before any of them goes twice."""
        turns: Counter[tuple[Lane, WebhookId]] = Counter()
        waiting = {at for at, queue in self.queued.items() if queue and self.may_fly(*at)}
        while (taken := self.lanes.take(self.now_ns)) is not None:
            at = (taken.lane, taken.key.webhook_id)
            turns[at] += 1
            self.queued[at].popleft()
            self.flying.append(taken)
            self.spend(taken)
            if turns[at] > 1:
                others = {one for one in waiting if one[0] is taken.lane and self.may_fly(*one)}
                assert not [one for one in others if not turns[one]]

    @invariant()
    def accounts_agree(self) -> None:
        """Compare: the counts are those of what is there, and no bound is passed."""
        held = self.held()
        assert len(held) == self.lanes.room.held
        assert sum(len(one.payload.body) for one in held) == self.lanes.room.held_bytes
        assert len(self.flying) == self.lanes.in_flight <= self.limits.max_in_flight
        flying, queued = Counter(one.lane for one in self.flying), Counter[Lane]()
        for (lane, _), queue in self.queued.items():
            queued[lane] += len(queue)
        assert [flying[lane] for lane in Lane] == self.lanes.in_flight_in
        assert [queued[lane] for lane in Lane] == self.lanes.queued_in
        each = Counter(one.key.webhook_id for one in self.flying)
        assert all(count <= self.limits.max_in_flight_per_webhook for count in each.values())
        assert len(held) <= self.limits.max_held
        for webhook_id in map(WebhookId, range(1, 5)):
            mine = sorted(one.key.outbox_id for one in held if one.key.webhook_id == webhook_id)
            assert mine == sorted(self.lanes.held_for(webhook_id))

    def teardown(self) -> None:
        """When everything is settled, nothing is left, and nobody sleeps without limits."""
        self.lanes.limit_rates({}, self.now_ns)
        for one in self.admitted:
            self.lanes.push(one)
        while True:
            for one in self.flying:
                self.lanes.landed(one)
            for one in [*self.flying, *self.unrecorded]:
                self.lanes.settled(one)
            self.unrecorded = []
            self.flying = list(iter(partial(self.lanes.take, self.now_ns), None))
            if not self.flying:
                break
        assert (0, 0, 0) == (self.lanes.room.held, self.lanes.room.held_bytes, self.lanes.in_flight)
        assert [0] * len(Lane) == self.lanes.queued_in


LanesMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLanes = LanesMachine.TestCase
