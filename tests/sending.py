"""What the tests of sending share: a configuration that may reach this host, and one send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dispatcher.config import Delivery
from dispatcher.core.message import Message
from dispatcher.sender import HttpSender
from tests.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispatcher.core.outcome import Outcome
    from tests.receiver import Behaviour

BODY = b'{"type":"event.detected"}'
LOCAL = Delivery(allowed_networks=("127.0.0.0/8",), connect_timeout_s=5.0, timeout_s=10.0)
HASTY = msgspec.structs.replace(LOCAL, timeout_s=0.3)  # for exchanges that are meant to take too long


def message(url: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = BODY) -> Message:
    """Make a message to this URL."""
    return Message(url, headers, body)


async def outcome_of(behaviour: Behaviour) -> Outcome:
    """Send one request to a receiver that behaves like this."""
    async with Receiver(behaviour) as receiver, HttpSender(LOCAL) as sender:
        return await sender.send(message(receiver.url()))


def names(**addresses: list[str]) -> Callable[[str], list[str]]:
    """Make a name resolution that knows these hosts of `.test`, and no others."""

    def look_up(host: str) -> list[str]:
        try:
            return addresses[host.removesuffix(".test")]
        except KeyError:
            raise OSError(-2, "Name or service not known") from None

    return look_up
