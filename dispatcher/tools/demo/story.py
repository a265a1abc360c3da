"""What the demo tells: real earthquakes with their revisions, some sensors, and who wants to hear of what."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.tools.rows import Defaults, Row, read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.store.producer import NewEvent

RETRY_DELAYS_S: Final = (2.0, 4.0, 8.0)  # the guide's are 1, 5 and 30 minutes: too long to watch


class Scene(msgspec.Struct, frozen=True):
    """One event of the story."""

    number: int  # from 1
    event: NewEvent
    data: Mapping[str, Any]


class Subscriber(msgspec.Struct, frozen=True):
    """A webhook of the demo: its path on the local receiver tells it from the others."""

    name: str
    events: tuple[str, ...]
    secret: str | None = None  # None: the API makes one
    fails_once: bool = False  # answers 500 to the very first request

    @property
    def path(self) -> str:
        """The path of its URL."""
        return f"/{self.name}"

    def wants(self, event_type: str) -> bool:
        """Whether it subscribes to the type, by name or by `prefix.*`."""
        return event_type in self.events or f"{event_type.partition('.')[0]}.*" in self.events


SUBSCRIBERS: Final = (
    Subscriber("alerts", ("event.*",)),
    Subscriber("sensors", ("sensor.*",), secret="the shared secret of the sensor room"),  # noqa: S106, of the demo
    Subscriber("flaky", ("event.detected",), fails_once=True),
)


def read_story() -> list[Scene]:
    """Read the story that comes with the package."""
    source = files("dispatcher.tools") / "demo_data" / "story.jsonl"
    rows = read_rows(source.read_bytes().splitlines(keepends=True), Defaults())
    events = [row.event for row in rows if isinstance(row, Row)]  # a test reads every line of it
    return [Scene(number, event, json.loads(event.data)) for number, event in enumerate(events, start=1)]
