"""What must hold at the end of any run, whatever happened in it: nothing lost, nothing unexplained.

`violations` compares three ledgers, each kept by another party: what the producers know to be committed,
what each receiver saw, and what the database says. Each violation is a sentence; none is the proof.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from dispatcher.core.delivery import STEP, Fact, IllegalFact, Kind, State, fold
from dispatcher.core.ids import DeliveryIds, DeliveryKey
from tests.acceptance.subscriber import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import asyncpg

    from tests.acceptance.producer import Event
    from tests.acceptance.subscriber import Seen, Subscriber

_DELIVERIES: Final = (
    "select d.day, d.outbox_id, d.webhook_id, m.body from delivery d"
    " join message m on m.day = d.day and m.outbox_id = d.outbox_id"
)
_FACTS: Final = (
    "select day, outbox_id, webhook_id, attempt_no, step, kind, state, next_attempt_at, status_code, failures"
    " from delivery_event order by day, outbox_id, webhook_id, attempt_no, step"
)
UNFINISHED: Final = (
    "select count(*) from delivery d where coalesce((select e.state from delivery_event e where e.day = d.day"
    " and e.outbox_id = d.outbox_id and e.webhook_id = d.webhook_id"
    " order by e.attempt_no desc, e.step desc limit 1), 'pending') = 'pending'"
)


class History(NamedTuple):
    """What the database says: each delivery's body, and its facts in order."""

    ids: DeliveryIds
    bodies: Mapping[DeliveryKey, bytes]
    facts: Mapping[DeliveryKey, Sequence[asyncpg.Record]]

    @classmethod
    async def read(cls, connection: asyncpg.Connection) -> History:
        """Read everything."""
        facts = defaultdict(list)
        for row in await connection.fetch(_FACTS):
            facts[_key(row)].append(row)
        bodies = {_key(row): row["body"] for row in await connection.fetch(_DELIVERIES)}
        return cls(DeliveryIds(await connection.fetchval("select id_key from installation")), bodies, facts)

    def interrupted(self) -> int:
        """Count the attempts whose outcome nobody knows."""
        return sum(fact["kind"] == Kind.INTERRUPTED for facts in self.facts.values() for fact in facts)


def violations(
    history: History, committed: Mapping[int, Event], subscribers: Sequence[Subscriber], most_attempts: int
) -> list[str]:
    """Give what must not be; `most_attempts`: the first one and the configured retries."""
    found: list[str] = []
    for key, facts in history.facts.items():
        if key not in history.bodies:
            found.append(f"{key}: facts of a delivery that does not exist")
        found += (f"{key}: {problem}" for problem in _facts_problems(facts, most_attempts))
    for one in subscribers:
        name = f"webhook {one.webhook_id}"
        found += (f"{name}: {problem}" for problem in _delivery_problems(history, committed, one))
        by_delivery: dict[str, list[Seen]] = defaultdict(list)
        for seen in one.seen:
            by_delivery[seen.delivery].append(seen)
        for delivery, requests in by_delivery.items():
            problems = _request_problems(history, one, delivery, requests)
            found += (f"{name}, {delivery}: {problem}" for problem in problems)
        found += (f"{name}: {problem}" for problem in _unseen(history, one, by_delivery))
    return found


def _facts_problems(facts: Sequence[asyncpg.Record], most_attempts: int) -> Iterator[str]:
    """Say where the state is not the fold's, or a fault of our own used up an attempt."""
    steps = [
        Fact(
            row["attempt_no"],
            Kind(row["kind"]),
            State(row["state"]),
            retry_due=row["next_attempt_at"] is not None,
            delivered=row["kind"] == Kind.ATTEMPTED and row["status_code"] in range(200, 300),
        )
        for row in facts
    ]
    for count, row in enumerate(facts, 1):
        try:
            state = fold(steps[:count])
        except IllegalFact as error:
            yield f"illegal fact: {error}"
            return
        if state != row["state"]:
            yield f"state {row['state']} where the fold says {state} after {count} facts"
    for before, after in itertools.pairwise(facts):
        # A request by hand would stand between them; a cancelled delivery's may have been under way.
        if before["state"] in {State.DELIVERED, State.FAILED} and after["step"] == STEP[Kind.ATTEMPTED]:
            yield f"attempt {after['attempt_no']} was made of a delivery that was {before['state']}"
    attempted = sum(row["kind"] == Kind.ATTEMPTED for row in facts)
    numbers = {row["attempt_no"] for row in facts}
    if numbers != set(range(1, max(numbers) + 1)):
        yield f"attempts are numbered {sorted(numbers)}"
    if attempted > most_attempts:
        yield f"{attempted} attempts were made of {most_attempts}"
    if facts[-1]["state"] == State.FAILED and attempted < most_attempts:
        yield f"failed after {attempted} attempts of {most_attempts}"


def _delivery_problems(
    history: History, committed: Mapping[int, Event], subscriber: Subscriber
) -> Iterator[str]:
    """Say which committed event that it wants is not one delivery, delivered or recorded as failed."""
    keys: dict[int, DeliveryKey] = {}
    for key, body in history.bodies.items():
        if key.webhook_id != subscriber.webhook_id:
            continue
        serial = json.loads(body)["data"]["serial"]
        if serial in keys:
            yield f"event {serial} is two deliveries"
        keys[serial] = key
    wanted = {event.serial for event in committed.values() if subscriber.wants(event.type)}
    if lost := wanted - set(keys):
        yield f"{len(lost)} committed events were never scheduled: {sorted(lost)[:9]}…"
    if invented := set(keys) - wanted:
        yield f"{len(invented)} events were scheduled that nobody committed: {sorted(invented)[:9]}…"
    for serial, key in keys.items():
        facts = history.facts.get(key)
        state = facts[-1]["state"] if facts else State.PENDING
        if state not in {State.DELIVERED, State.FAILED}:
            told = [(fact["attempt_no"], fact["kind"], str(fact["next_attempt_at"])) for fact in facts or ()]
            yield f"event {serial} is {state} at the end: outbox {key.outbox_id} {told}"
        if (state == State.DELIVERED) > (serial in subscriber.delivered):
            yield f"event {serial} is delivered, but the receiver never said so"


def _request_problems(
    history: History, subscriber: Subscriber, delivery: str, requests: Sequence[Seen]
) -> Iterator[str]:
    """Say which of its requests carried other bytes, has no fact or no number of its own, or overlaps."""
    key = history.ids.decode(delivery)
    if key is None or key not in history.bodies or key.webhook_id != subscriber.webhook_id:
        yield "requests of a delivery that does not exist"
        return
    body = history.bodies[key]
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    facts = history.facts.get(key, ())
    by_number = {fact["attempt_no"]: fact for fact in facts if fact["step"] == STEP[Kind.ATTEMPTED]}
    for seen in requests:
        if seen.request.body != body or seen.request.header("x-grillo-signature") != signature:
            yield f"attempt {seen.attempt} carried other bytes or another signature"
        fact = by_number.get(seen.attempt)
        if fact is None:
            yield f"attempt {seen.attempt} has no fact"
        elif _answer_is_known(fact) and fact["status_code"] != seen.status:
            yield f"attempt {seen.attempt} was answered {seen.status}, recorded as {fact['status_code']}"
    numbers = [seen.attempt for seen in requests]
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        yield f"attempts arrived in the order {numbers}"
    for before, after in itertools.pairwise(requests):
        if before.ended_at is None or after.started_at < before.ended_at:
            yield f"attempts {before.attempt} and {after.attempt} were under way at the same time"


def _answer_is_known(fact: asyncpg.Record) -> bool:
    """Say whether the daemon claims to know the answer, or that none came: not so of what was cut off."""
    return fact["kind"] == Kind.ATTEMPTED or fact["status_code"] is not None


def _unseen(
    history: History, subscriber: Subscriber, requests: Mapping[str, Sequence[Seen]]
) -> Iterator[str]:
    """Say which attempts are recorded as answered, but were never seen.

    Only what was answered must have been seen: a connection may fail before its request is read whole.
    """
    for key, facts in history.facts.items():
        if key.webhook_id != subscriber.webhook_id:
            continue
        seen = {one.attempt for one in requests.get(history.ids.encode(key), ())}
        for fact in facts:
            number, status = fact["attempt_no"], fact["status_code"]
            if status is not None and number not in seen:
                yield f"{key}: attempt {number} is recorded as answered {status}, but never arrived"


def _key(row: asyncpg.Record) -> DeliveryKey:
    return DeliveryKey(row["day"], row["outbox_id"], row["webhook_id"])
