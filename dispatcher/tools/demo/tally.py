"""Counts the demo's deliveries: what has to arrive, what did, and whether each was as promised.

How this works. From the story and the subscriptions follows, without asking the dispatcher, which event has
to reach which receiver. A request is matched to its event by the body it carries. What is held against each
delivery: both signatures, one id and the same bytes in every attempt, attempts numbered from 1, answered
with 2xx in the end; and that the one which was refused came again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Sequence

    from dispatcher.store.recent import LatestDelivery
    from dispatcher.tools.demo.story import Scene, Subscriber
    from dispatcher.tools.receipt import Receipt
    from dispatcher.tools.receiver import Reply


class Arrival(msgspec.Struct, frozen=True):
    """One request, and what it is about."""

    scene: Scene
    subscriber: Subscriber
    receipt: Receipt
    status: int | None
    latency_s: float  # from just before COMMIT was sent to the arrival


class Tally:
    """The state of one replay."""

    def __init__(self, subscribers: Sequence[Subscriber]) -> None:
        self._subscribers = {subscriber.path: subscriber for subscriber in subscribers}
        self._scenes: list[Scene] = []
        self._committed_at: dict[int, dt.datetime] = {}
        self._arrivals: dict[tuple[int, str], list[Arrival]] = {}
        self._strangers = 0

    def committing(self, scene: Scene, at: dt.datetime) -> None:
        """Expect an event's deliveries; call this just before COMMIT is sent."""
        self._scenes.append(scene)
        self._committed_at[scene.number] = at
        for subscriber in self._subscribers.values():
            if subscriber.wants(scene.event.type):
                self._arrivals[scene.number, subscriber.name] = []

    def arrived(self, receipt: Receipt, reply: Reply) -> Arrival | None:
        """Count a request; None for one that nobody expected, which is counted as well."""
        subscriber = self._subscribers.get(receipt.path)
        scene = self._scene_of(receipt)
        if subscriber is None or scene is None or (scene.number, subscriber.name) not in self._arrivals:
            self._strangers += 1
            return None
        latency_s = (receipt.arrived_at - self._committed_at[scene.number]).total_seconds()
        arrival = Arrival(scene, subscriber, receipt, reply.status, latency_s)
        self._arrivals[scene.number, subscriber.name].append(arrival)
        return arrival

    def _scene_of(self, receipt: Receipt) -> Scene | None:
        envelope = receipt.envelope() or {}
        for scene in self._scenes:
            if envelope.get("type") == scene.event.type and envelope.get("data") == scene.data:
                return scene
        return None

    @property
    def expected(self) -> int:
        """How many deliveries have to arrive."""
        return len(self._arrivals)

    @property
    def events(self) -> int:
        """How many events were committed."""
        return len(self._scenes)

    @property
    def accepted(self) -> int:
        """How many deliveries arrived and were answered with 2xx."""
        return sum(any(map(_accepted, arrivals)) for arrivals in self._arrivals.values())

    @property
    def verified(self) -> int:
        """How many deliveries arrived, every attempt with two good signatures."""
        return sum(
            bool(arrivals) and all(arrival.receipt.verified for arrival in arrivals)
            for arrivals in self._arrivals.values()
        )

    @property
    def retried(self) -> list[list[Arrival]]:
        """The deliveries that came more than once."""
        return [arrivals for arrivals in self._arrivals.values() if len(arrivals) > 1]

    def reached(self, scene: Scene) -> bool:
        """Whether an event has come to everyone who has to hear of it, accepted or not."""
        return all(arrivals for (number, _), arrivals in self._arrivals.items() if number == scene.number)

    def latencies_s(self) -> list[float]:
        """Give the latency of each delivery's first attempt, the shortest first."""
        return sorted(arrivals[0].latency_s for arrivals in self._arrivals.values() if arrivals)

    def problems(self) -> Iterator[str]:
        """Say what is missing or wrong, a line for each."""
        for (number, name), arrivals in self._arrivals.items():
            for problem in _problems(arrivals):
                yield f"event {number} for {name}: {problem}"
        for subscriber in self._subscribers.values():
            if subscriber.fails_once and not self._came_again(subscriber):
                yield f"{subscriber.name}: what was answered with 500 did not come again"
        if self._strangers:
            yield f"{self._strangers} requests that nobody expected"

    def _came_again(self, subscriber: Subscriber) -> bool:
        return any(
            arrivals[0].subscriber is subscriber and not _accepted(arrivals[0]) and _accepted(arrivals[-1])
            for arrivals in self.retried
        )

    def problems_of_history(self, history: Iterable[LatestDelivery]) -> Iterator[str]:
        """Compare what arrived with what the database says of it."""
        known = {delivery.delivery: delivery for delivery in history}
        if len(known) != self.expected:
            yield f"history: expected {self.expected} deliveries, got {len(known)}"
        for (number, name), arrivals in self._arrivals.items():
            if not arrivals:
                continue
            delivery = known.get(arrivals[0].receipt.delivery_id)
            if delivery is None:
                yield f"history: nothing about event {number} for {name}"
            elif (delivery.state, delivery.attempts) != ("delivered", len(arrivals)):
                yield (
                    f"history: event {number} for {name} arrived {len(arrivals)} times, the database says "
                    f"{delivery.state} after {delivery.attempts}"
                )


def _accepted(arrival: Arrival) -> bool:
    return arrival.status is not None and arrival.status // 100 == 2


def _problems(arrivals: Sequence[Arrival]) -> Iterator[str]:
    if not arrivals:
        yield "did not arrive"
        return
    receipts = [arrival.receipt for arrival in arrivals]
    for receipt in receipts:
        if not receipt.verified:
            yield (
                f"attempt {receipt.attempt}: X-Grillo-Signature {receipt.grillo}, "
                f"webhook-signature {receipt.standard}"
            )
    if len({receipt.delivery_id for receipt in receipts}) > 1:
        yield "its delivery id changed from attempt to attempt"
    if len({receipt.body for receipt in receipts}) > 1:
        yield "its bytes changed from attempt to attempt"
    if [receipt.attempt for receipt in receipts] != list(range(1, len(receipts) + 1)):
        yield f"attempts came as {', '.join(str(receipt.attempt) for receipt in receipts)}"
    if not _accepted(arrivals[-1]):
        yield "its last attempt was not accepted"
