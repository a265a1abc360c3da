"""What is known of an earthquake after each thing that was told of it.

    event.detected   its data are the event's parameters
    event.updated    each of `changes`, {"magnitude": {"old": 4.2, "new": 4.4}}, sets a parameter
    any other type   says something about the event (`event.cancelled`) and changes nothing

The parameters are the fold of these, in the order of the outbox. Whoever was told of an event is told of
everything that follows, and so is one whom it begins to concern. So what follows is matched against the event
as it was at every earlier point and as it is now.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from dispatcher.core.ids import OutboxId
from dispatcher.core.parameters import Parameters, parse_data, read_parameters

DETECTED: Final = "event.detected"
UPDATED: Final = "event.updated"


class Telling(msgspec.Struct, frozen=True):
    """One row of the outbox that speaks of an event."""

    outbox_id: OutboxId
    type: str
    data: Mapping[str, Any]
    revisions: int = 1  # that it stands for, where it is one


def follows(event_type: str, event_id: str | None) -> bool:
    """Say whether a row is about an event that may have been told of before."""
    return event_id is not None and event_type != DETECTED


def states_of(told: Telling, earlier: Iterable[Telling], declared: Collection[str]) -> tuple[Parameters, ...]:
    """Give an event's distinct states: at each earlier point, and as `told` leaves it.

    `earlier`: what was told of it before, in order. `declared`: the fields that the types of all of them
    register. A state without any parameter is none, except where there is no other.
    """
    folded: dict[str, Any] = {}
    states: dict[Parameters, None] = {}
    for one in [*earlier, told]:
        if one.type == UPDATED:
            _recall(folded, one.data)
            if folded:
                states[read_parameters(folded, declared)] = None
        elif one.type == DETECTED:  # matched by itself, whatever was known before
            states[read_parameters(one.data, declared)] = None
        after = _after(folded, one)
        if one is told or one.type in {DETECTED, UPDATED}:
            folded = after
            states[read_parameters(folded, declared)] = None
    return tuple(states)


def fold(tellings: Sequence[Telling]) -> tuple[dict[str, Any], int]:
    """Give an event's parameters after everything that was told of it, and how often it was revised."""
    folded: dict[str, Any] = {}
    for one in tellings:
        if one.type in {DETECTED, UPDATED}:
            folded = _after(folded, one)
    return folded, sum(one.revisions for one in tellings if one.type == UPDATED)


def shortened(tellings: Sequence[Telling], latest: int) -> Sequence[Telling]:
    """Give the first telling and the latest ones, with what lies between them as one revision."""
    middle = tellings[1:-latest]
    if len(middle) < 2:
        return tellings
    parameters, revisions = fold(middle)
    return [
        tellings[0],
        Telling(middle[-1].outbox_id, UPDATED, parameters, revisions),
        *tellings[-latest:],
    ]


def with_parameters(data_text: str, tellings: Sequence[Telling]) -> str:
    """Add to the text of a row's data what is known of its event after `tellings`, that row included.

    `event`: the parameters, as an `event.detected` of now would have them; `revision`: how often they were
    revised. What the producer wrote stays: a field of that name is not replaced.
    """
    parameters, revision = fold(tellings)
    added = {"event": parameters, "revision": revision}
    present = parse_data(data_text)
    more = "".join(
        f",{json.dumps(name)}:{json.dumps(value)}" for name, value in added.items() if name not in present
    )
    return data_text.rstrip().removesuffix("}") + (more if present else more.removeprefix(",")) + "}"


def _after(before: Mapping[str, Any], told: Telling) -> dict[str, Any]:
    if told.type != UPDATED:
        return {**before, **told.data}
    stated = {name: value for name, value in told.data.items() if name != "changes"}
    changed = {
        name: change["new"] if isinstance(change, dict) else change
        for name, change in _changes(told.data).items()
        if not isinstance(change, dict) or "new" in change
    }
    return {**before, **stated, **changed}


def _changes(data: Mapping[str, Any]) -> Mapping[str, Any]:
    changes = data.get("changes")
    return changes if isinstance(changes, dict) else {}


def _recall(folded: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Learn what a parameter was from the revision that changes it, where nothing told it before."""
    for name, change in _changes(data).items():
        if isinstance(change, dict) and "old" in change and name not in folded:
            folded[name] = change["old"]
