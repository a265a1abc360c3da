"""The judge of every fault test is judged: a clean world is clean, each corruption has its sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

import pytest

from dispatcher.core.delivery import Kind, State
from dispatcher.core.ids import WebhookId
from tests.conserved import (
    AT_ONCE,
    FAILED,
    INTERRUPTED,
    NOW,
    OK,
    RETRIED,
    UNREACHABLE,
    WEBHOOK,
    World,
)

Corruption: TypeAlias = Callable[[World], None]
CORRUPTIONS: Final[list[tuple[Corruption, tuple[str, ...]]]] = []

_CLEAN: Final = World()
_HOOK: Final = f"webhook {WEBHOOK}"
_ONE, _TWO = _CLEAN.key(AT_ONCE), _CLEAN.key(RETRIED)
_OTHER: Final = _ONE._replace(webhook_id=WebhookId(8))
_TO_ONE, _TO_TWO = f"{_HOOK}, {_CLEAN.delivery(AT_ONCE)}", f"{_HOOK}, {_CLEAN.delivery(RETRIED)}"


def _told(*sentences: str) -> Callable[[Corruption], Corruption]:
    """Say what the judge has to say about a corruption, and nothing else."""

    def note(corruption: Corruption) -> Corruption:
        CORRUPTIONS.append((corruption, sentences))
        return corruption

    return note


@_told(f"{_HOOK}: 1 committed events were never scheduled: [9]…")
def _lose(world: World) -> None:
    world.commit(9, "event.updated")


@_told(f"{_HOOK}: event {AT_ONCE} is two deliveries")
def _double(world: World) -> None:
    world.schedule(AT_ONCE, outbox_id=900)
    world.facts[world.key(AT_ONCE, 900)] = world.facts[_ONE]
    twin = replace(world.seen(AT_ONCE, 1), delivery=world.ids.encode(world.key(AT_ONCE, 900)))
    world.subscriber.seen.append(twin)


@_told(f"{_HOOK}: 1 events were scheduled that nobody committed: [{AT_ONCE}]…")
def _invent(world: World) -> None:
    del world.committed[AT_ONCE]


@_told(f"{_HOOK}: 1 events were scheduled that nobody committed: [{AT_ONCE}]…")
def _uninvited(world: World) -> None:
    world.commit(AT_ONCE, "sensor.offline")


@_told(f"{_HOOK}: event {RETRIED} is pending at the end: outbox 101 {[(1, Kind.ATTEMPTED, str(NOW))]}")
def _leave_pending(world: World) -> None:
    world.facts[_TWO].pop()
    world.subscriber.seen.remove(world.seen(RETRIED, 2))


@_told(f"{_HOOK}: event {AT_ONCE} is pending at the end: outbox 100 []")
def _never_attempt(world: World) -> None:
    del world.facts[_ONE]
    world.subscriber.seen.remove(world.seen(AT_ONCE, 1))


@_told(f"{_TO_ONE}: attempt 1 carried other bytes or another signature")
def _other_bytes(world: World) -> None:
    seen = world.seen(AT_ONCE, 1)
    seen.request = replace(seen.request, body=seen.request.body + b" ")


@_told(f"{_TO_ONE}: attempt 1 carried other bytes or another signature")
def _other_signature(world: World) -> None:
    seen = world.seen(AT_ONCE, 1)
    seen.request = replace(seen.request, headers=[("X-Grillo-Signature", "sha256=" + 64 * "0")])


@_told(f"{_TO_ONE}: attempt 1 carried other bytes or another signature")
def _no_signature(world: World) -> None:
    seen = world.seen(AT_ONCE, 1)
    seen.request = replace(seen.request, headers=[])


@_told(f"{_TO_TWO}: attempt 3 has no fact")
def _request_without_fact(world: World) -> None:
    world.arrive(RETRIED, 3, 200)


@_told(
    f"{_HOOK}, {_CLEAN.delivery(77)}: requests of a delivery that does not exist",
    f"{_HOOK}: {_ONE}: attempt 1 is recorded as answered 200, but never arrived",
)
def _phantom_delivery(world: World) -> None:
    world.seen(AT_ONCE, 1).delivery = world.ids.encode(world.key(77))


@_told(
    f"{_HOOK}, : requests of a delivery that does not exist",
    f"{_HOOK}: {_ONE}: attempt 1 is recorded as answered 200, but never arrived",
)
def _no_delivery_id(world: World) -> None:
    world.seen(AT_ONCE, 1).delivery = ""


@_told(
    f"{_HOOK}, {_CLEAN.ids.encode(_OTHER)}: requests of a delivery that does not exist",
    f"{_HOOK}: {_ONE}: attempt 1 is recorded as answered 200, but never arrived",
)
def _delivery_of_another(world: World) -> None:
    world.bodies[_OTHER] = world.bodies[_ONE]
    world.seen(AT_ONCE, 1).delivery = world.ids.encode(_OTHER)


@_told(f"{_CLEAN.key(77)}: facts of a delivery that does not exist")
def _facts_without_delivery(world: World) -> None:
    world.facts[world.key(77)] = [world.fact(UNREACHABLE, 1)]


@_told(f"{_HOOK}: {_TWO}: attempt 2 is recorded as answered 200, but never arrived")
def _answered_unseen(world: World) -> None:
    world.subscriber.seen.remove(world.seen(RETRIED, 2))


@_told(f"{_HOOK}: {_CLEAN.key(INTERRUPTED)}: attempt 2 is recorded as answered 503, but never arrived")
def _interrupted_answered_unseen(world: World) -> None:
    world.fact(INTERRUPTED, 2)["status_code"] = 503


@_told(f"{_TO_TWO}: attempt 1 was answered 503, recorded as 500")
def _other_status(world: World) -> None:
    world.seen(RETRIED, 1).status = 503


@_told(f"{_TO_TWO}: attempt 1 was answered 500, recorded as None")
def _answer_denied(world: World) -> None:
    world.fact(RETRIED, 1)["status_code"] = None


@_told(f"{_HOOK}, {_CLEAN.delivery(INTERRUPTED)}: attempt 1 was answered 200, recorded as 503")
def _interrupted_other_status(world: World) -> None:
    world.fact(INTERRUPTED, 1)["status_code"] = 503


@_told(
    f"{_HOOK}: event {AT_ONCE} is delivered, but the receiver never said so",
    f"{_TO_ONE}: attempt 1 was answered None, recorded as 200",
)
def _never_told(world: World) -> None:
    world.seen(AT_ONCE, 1).status = None
    world.subscriber.delivered.remove(AT_ONCE)


@_told(f"{_TO_TWO}: attempts arrived in the order [1, 2, 2]")
def _same_number(world: World) -> None:
    world.subscriber.seen.append(replace(world.seen(RETRIED, 2), started_at=99, ended_at=100))


@_told(f"{_TO_TWO}: attempts arrived in the order [2, 1]")
def _numbers_backwards(world: World) -> None:
    world.subscriber.seen.remove(first := world.seen(RETRIED, 1))
    world.subscriber.seen.append(replace(first, started_at=99, ended_at=100))


@_told(f"{_TO_TWO}: attempts 1 and 2 were under way at the same time")
def _overlap(world: World) -> None:
    world.seen(RETRIED, 2).started_at = world.seen(RETRIED, 1).started_at + 0.5


@_told(f"{_TO_TWO}: attempts 1 and 2 were under way at the same time")
def _never_ended(world: World) -> None:
    world.seen(RETRIED, 1).ended_at = None


@_told(f"{_CLEAN.key(INTERRUPTED)}: state cancelled where the fold says pending after 2 facts")
def _other_state(world: World) -> None:
    world.fact(INTERRUPTED, 2)["state"] = State.CANCELLED


@_told(f"{_CLEAN.key(INTERRUPTED)}: illegal fact: interrupted at (1, 2) cannot follow (1, 2)")
def _two_facts(world: World) -> None:
    world.fact(INTERRUPTED, 2)["attempt_no"] = 1


@_told(f"{_CLEAN.key(UNREACHABLE)}: attempts are numbered [1, 3]")
def _number_left_out(world: World) -> None:
    world.fact(UNREACHABLE, 2)["attempt_no"] = 3
    world.seen(UNREACHABLE, 2).attempt = 3


@_told(f"{_CLEAN.key(FAILED)}: 5 attempts were made of 4")
def _fifth_attempt(world: World) -> None:
    world.fact(FAILED, 2)["kind"] = Kind.ATTEMPTED  # the crash counted against the receiver
    world.fact(FAILED, 2)["next_attempt_at"] = NOW
    world.seen(FAILED, 2).status = None


@_told(f"{_TWO}: failed after 2 attempts of 4")
def _failed_early(world: World) -> None:
    world.fact(RETRIED, 2).update(state=State.FAILED, status_code=500)
    world.seen(RETRIED, 2).status = 500


@_told(f"{_ONE}: attempt 2 was made of a delivery that was delivered")
def _again_after_success(world: World) -> None:
    world.attempt(AT_ONCE, OK)


@_told(f"{_TWO}: attempt 2 was made of a delivery that was failed")
def _again_after_failure(world: World) -> None:
    world.fact(RETRIED, 1).update(state=State.FAILED, next_attempt_at=None)


def test_a_clean_world_has_no_violation() -> None:
    """Retries, interrupted attempts, timeouts and unreached receivers are explained by their facts."""
    assert [] == World().found()


@pytest.mark.parametrize(
    ("corruption", "sentences"),
    [pytest.param(*one, id=one[0].__name__.strip("_").replace("_", "-")) for one in CORRUPTIONS],
)
def test_each_corruption_is_told(corruption: Corruption, sentences: tuple[str, ...]) -> None:
    """What must not be is told by its own sentence, and nothing else is."""
    world = World()
    corruption(world)
    assert list(sentences) == world.found()
