"""The door of this room: what the daemon asks of whatever sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dispatcher.core.message import Message
    from dispatcher.core.outcome import Outcome


class Sender(Protocol):
    """Something that performs one attempt."""

    async def send(self, message: Message) -> Outcome:
        """Perform exactly one HTTP request and say what came of it.

        It never retries, and whatever a receiver or the network does is an `Outcome`. What is raised is
        no attempt of the receiver's: cancellation, and our own want of resources (`OSError`, such as no
        file descriptors left).
        """
        ...
