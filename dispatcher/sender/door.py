"""The door of this room: what the daemon asks of whatever sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispatcher.core.message import Message
    from dispatcher.core.outcome import Outcome


class Sender(Protocol):
    """Something that performs one attempt."""

    async def send(self, message: Message, may_send: Callable[[], bool] | None) -> Outcome | None:
        """Perform exactly one HTTP request and say what came of it.

        `may_send` is asked once more when all is ready, a connection made or not. If it says no, nothing of
        the request leaves: None.

        It never retries, and whatever a receiver or the network does is an `Outcome`. What is raised is
        no attempt of the receiver's: cancellation, and our own want of resources (`OSError`, such as no
        file descriptors left).
        """
        ...

    def ready(self, url: str, ca_certificates: str, *, for_s: float) -> bool:
        """Say whether an idle connection is open that a request to this URL may use, for so long at least."""
        ...

    def keeps(self, url: str, ca_certificates: str) -> bool:
        """Say whether this URL's receiver left its connection open behind its last answer."""
        ...

    async def warm(self, url: str, ca_certificates: str) -> bool:
        """Open a connection ahead of a request to this URL, with all checks of a request's; send nothing.

        False where none could be made, or where as many are open that it might cost another its own.
        """
        ...
