"""The demo's story and bookkeeping: what has to arrive, and what is wrong with what did."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from dispatcher.store.producer import NewEvent
from dispatcher.store.recent import LatestDelivery
from dispatcher.tools.demo.story import SUBSCRIBERS, Scene, Subscriber, read_story
from dispatcher.tools.demo.tally import Tally
from dispatcher.tools.receiver import Reply
from tests.signed import NOTHING, NOW, request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.tools.receipt import Receipt


class TestTally:
    """The demo's bookkeeping finds whatever is not as promised."""

    scene = Scene(1, NewEvent("event.detected", '{"a":1}'), {"a": 1})
    hearer = Subscriber("alerts", ("event.*",))

    def tally(self, *attempts: Receipt, statuses: Sequence[int] = (200,)) -> Tally:
        """Replay one event, and these requests."""
        tally = Tally([self.hearer])
        tally.committing(self.scene, NOW - dt.timedelta(milliseconds=3))
        for receipt, status in zip(attempts, statuses, strict=True):
            tally.arrived(receipt, Reply(status))
        return tally

    def attempt(self, number: int = 1, changes: Mapping[str, str | None] = NOTHING) -> Receipt:
        """Give a request about the event."""
        body = json.dumps({"type": "event.detected", "data": {"a": 1}}).encode()
        return request(body, {"X-Grillo-Attempt": str(number), **changes})

    def history(self, **changes: object) -> list[LatestDelivery]:
        """Give what the database says of the delivery."""
        said = LatestDelivery(
            "dlv_1", "whk_1", "event.detected", NOW, "delivered", 1, NOW, 1.0, 200, None, None, None
        )
        return [msgspec.structs.replace(said, **changes)]

    def test_all_as_promised(self) -> None:
        """Nothing to complain about, and a latency."""
        tally = self.tally(self.attempt())
        assert [] == [*tally.problems(), *tally.problems_of_history(self.history())]
        assert (1, 1, 1) == (tally.expected, tally.accepted, tally.verified)
        assert [0.003] == tally.latencies_s()
        assert tally.reached(self.scene)

    def test_nothing_arrived(self) -> None:
        """A delivery that did not come is missed."""
        tally = self.tally(statuses=())
        assert ["event 1 for alerts: did not arrive"] == list(tally.problems())
        assert not tally.reached(self.scene)

    def test_a_retry_as_promised(self) -> None:
        """The same delivery comes again, is accepted, and the history says so."""
        tally = self.tally(self.attempt(1), self.attempt(2), statuses=(500, 200))
        assert [] == [*tally.problems(), *tally.problems_of_history(self.history(attempts=2))]
        assert 1 == len(tally.retried)

    @pytest.mark.parametrize(
        ("second", "words"),
        [
            ({"X-Grillo-Delivery": "dlv_2"}, "delivery id changed"),
            ({"X-Grillo-Signature": "sha256=0"}, "X-Grillo-Signature invalid"),
            ({"webhook-signature": None}, "webhook-signature missing"),
        ],
    )
    def test_a_retry_that_is_not_the_same(self, second: dict[str, str | None], words: str) -> None:
        """Every difference between attempts is found."""
        tally = self.tally(self.attempt(1), self.attempt(2, second), statuses=(500, 200))
        (problem,) = tally.problems()
        assert words in problem

    def test_other_bytes_are_found(self) -> None:
        """The same event in another spelling is not the same delivery."""
        other = request(b'{"type":"event.detected","data":{"a":1.0}}')
        tally = self.tally(self.attempt(1), other, statuses=(500, 200))
        assert ["event 1 for alerts: its bytes changed from attempt to attempt"] == list(tally.problems())

    def test_a_missing_number_is_found(self) -> None:
        """Attempts are numbered from 1 without a gap."""
        tally = self.tally(self.attempt(1), self.attempt(3), statuses=(500, 200))
        assert ["event 1 for alerts: attempts came as 1, 3"] == list(tally.problems())

    def test_a_refusal_at_the_end_is_found(self) -> None:
        """What was never accepted is not delivered."""
        tally = self.tally(self.attempt(), statuses=(500,))
        assert ["event 1 for alerts: its last attempt was not accepted"] == list(tally.problems())

    def test_a_stranger_is_found(self) -> None:
        """A request about nothing that was inserted."""
        tally = self.tally(self.attempt(), request(b'{"type":"x"}'), statuses=(200, 200))
        assert ["1 requests that nobody expected"] == list(tally.problems())

    def test_a_retry_that_did_not_come_is_found(self) -> None:
        """Where one has to be refused once, it has to come again."""
        tally = Tally([Subscriber("flaky", ("event.*",), fails_once=True)])
        assert ["flaky: what was answered with 500 did not come again"] == list(tally.problems())

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"state": "pending"}, "pending after 1"),
            ({"attempts": 2}, "delivered after 2"),
            ({"delivery": "dlv_2"}, "nothing about event 1"),
        ],
    )
    def test_a_history_that_differs_is_found(self, changes: dict[str, object], words: str) -> None:
        """The database has to say what the receiver saw."""
        (problem,) = self.tally(self.attempt()).problems_of_history(self.history(**changes))
        assert words in problem

    def test_an_empty_history_is_found(self) -> None:
        """And one with more deliveries than there are."""
        tally = self.tally(self.attempt())
        assert "history: expected 1 deliveries, got 0" in list(tally.problems_of_history([]))
        two = self.history() + self.history(delivery="dlv_2")
        assert ["history: expected 1 deliveries, got 2"] == list(tally.problems_of_history(two))


def test_the_story_is_whole() -> None:
    """Every line of the demo's data is an event, each one different, and everybody hears of something."""
    story = read_story()
    assert 27 == len(story)
    assert 27 == len({scene.event.data for scene in story})
    for subscriber in SUBSCRIBERS:
        assert any(subscriber.wants(scene.event.type) for scene in story)
    assert story[0].event.type == "event.detected", (
        "the first request to the flaky receiver is the first event"
    )
