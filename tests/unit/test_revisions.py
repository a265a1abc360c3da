"""What is known of an earthquake after each thing that was told of it."""

from __future__ import annotations

from typing import Any

from dispatcher.core.ids import OutboxId
from dispatcher.core.parameters import Parameters
from dispatcher.core.revisions import DETECTED, UPDATED, Telling, fold, states_of

QUAKE = {"event_id": "evt_1", "latitude": 19.4, "longitude": -99.1, "depth_km": 10, "magnitude": 4.2}
DECLARED = frozenset({"magnitude", "depth_km", "latitude", "longitude"})


def told(number: int, kind: str, **data: Any) -> Telling:
    """Make one row about the event."""
    return Telling(OutboxId(number), kind, {"event_id": "evt_1", **data})


def revised(number: int, **changes: Any) -> Telling:
    """Make a revision of (old, new) values."""
    pairs = {name: {"old": old, "new": new} for name, (old, new) in changes.items()}
    return told(number, UPDATED, changes=pairs)


def magnitudes(states: tuple[Parameters, ...]) -> list[float | None]:
    """Give the magnitude of each state."""
    return [state.magnitude for state in states]


def test_fold_sets_what_changed() -> None:
    """Of each revision in turn; everything else stays."""
    detected = told(1, DETECTED, **QUAKE)
    tellings = [
        detected,
        revised(2, magnitude=(4.2, 4.4)),
        revised(3, depth_km=(10, 8), place=(None, "Oaxaca")),
    ]
    expected = {**QUAKE, "magnitude": 4.4, "depth_km": 8, "place": "Oaxaca"}
    assert (expected, 2) == fold(tellings)
    assert (QUAKE, 0) == fold([detected, told(2, "event.cancelled", reason="blast")])


def test_every_earlier_state_counts() -> None:
    """Whoever was told at any time is told again, so the strongest of all states decides."""
    earlier = [told(1, DETECTED, **QUAKE), revised(2, magnitude=(4.2, 3.9))]
    assert [4.2, 3.9, 3.8] == magnitudes(states_of(revised(3, magnitude=(3.9, 3.8)), earlier, DECLARED))
    states = states_of(told(3, "event.cancelled", reason="blast"), earlier, DECLARED)
    assert [4.2, 3.9] == magnitudes(states)
    assert all(state.location == (19.4, -99.1) for state in states)


def test_an_event_that_is_detected_again_counts_as_it_was_told() -> None:
    """By itself, that is: whom its unknown depth let through is told of what follows, too."""
    again = {name: value for name, value in QUAKE.items() if name != "depth_km"}
    earlier = [told(1, DETECTED, **QUAKE), told(2, DETECTED, **again)]
    states = states_of(revised(3, depth_km=(10, 12)), earlier, DECLARED)
    assert [10, None, 12] == [state.depth_km for state in states]
    assert ({**QUAKE, "depth_km": 10}, 0) == fold(earlier)


def test_a_revision_of_an_unknown_event_says_what_it_was() -> None:
    """Its old values are the state before; the place is unknown, not absent."""
    states = states_of(revised(7, magnitude=(3.9, 4.2)), [], DECLARED)
    assert [3.9, 4.2] == magnitudes(states)
    assert all("location" in state.has and state.location is None for state in states)


def test_unusual_revisions_are_understood() -> None:
    """A bare value is the new one; a change without a new value is none; fields beside `changes` count."""
    tellings = [
        told(1, DETECTED, **QUAKE),
        told(2, UPDATED, changes={"magnitude": 5, "depth_km": {"note": "fixed"}}, network_id="net_a"),
    ]
    assert ({**QUAKE, "magnitude": 5, "network_id": "net_a"}, 1) == fold(tellings)


def test_what_is_said_of_an_event_does_not_change_it() -> None:
    """An operator's type may have a magnitude of its own: for itself, not for what follows."""
    earlier = [told(1, DETECTED, **QUAKE), told(2, "event.felt", magnitude=9)]
    assert [4.2, 7] == magnitudes(states_of(told(3, "event.felt", magnitude=7), earlier, DECLARED))
