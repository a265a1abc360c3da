"""Who stands in the turns of a lane, and who is put off until more slots are free.

How this works. A *queue* is what is held of one webhook in one lane. Listed, it has its turn; then it goes
behind the others, or leaves the turns when it has nothing to send or may have no slot. Who might have one if
more were free is *put off*: because the webhook had its share of them, until a request ends; or because all
webhooks of its *host* together had, until that share has grown. One is let go at a time, hosts in turns, so
thousands that are put off cost nothing: with each request that ends, for the turns may never be over while
others have more to send than there are slots; and when they are over. No loop, no clock: pure bookkeeping.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

from dispatcher.core.ids import WebhookId
from dispatcher.core.pending import Lane, Pending

_HOST_SHARE: Final = 8  # of a host: so many times what is free


class Host:
    """What is held for all webhooks of one host, over all lanes."""

    __slots__ = ("held", "held_bytes", "in_flight", "name")

    def __init__(self, name: Hashable) -> None:
        self.name = name
        self.held = self.held_bytes = self.in_flight = 0

    def may_hold(self, free: int, free_bytes: int, body_bytes: int) -> bool:
        """Say whether another delivery finds room; one always does."""
        return not self.held or (
            self.held < _HOST_SHARE * free and self.held_bytes + body_bytes <= _HOST_SHARE * free_bytes
        )

    def room(self, free: int) -> int:
        """Give how many more may be held: each of them also takes from what is free."""
        return -((self.held - _HOST_SHARE * free) // (_HOST_SHARE + 1))

    def may_send(self, free: int) -> bool:
        """Say whether another request may be under way."""
        return self.in_flight < _HOST_SHARE * free


class Hosts:
    """The hosts of which something is held."""

    def __init__(self, name_of: Callable[[WebhookId], Hashable]) -> None:
        self.name_of: Final = name_of
        self._hosts: dict[Hashable, Host] = {}

    def of(self, webhook_id: WebhookId) -> Host:
        """Give a webhook's host, as it is named now."""
        name = self.name_of(webhook_id)
        return self._hosts.get(name) or Host(name)

    def hold(self, host: Host, body_bytes: int, count: int = 1) -> None:
        """Count a delivery in, or several."""
        if not host.held:
            self._hosts[host.name] = host
        host.held += count
        host.held_bytes += body_bytes

    def release(self, host: Host, body_bytes: int, count: int = 1) -> None:
        """Count a delivery out, or several."""
        host.held -= count
        host.held_bytes -= body_bytes
        if not host.held:
            del self._hosts[host.name]


class Queue:
    """What is held of one webhook in one lane."""

    __slots__ = ("held", "held_bytes", "host", "items", "listed", "put_off", "turns", "webhook_id")

    def __init__(self, webhook_id: WebhookId, host: Host, turns: deque[Queue]) -> None:
        self.webhook_id = webhook_id
        self.host = host
        self.turns = turns  # of its lane
        self.items: deque[Pending] = deque()
        self.held = self.held_bytes = 0
        self.listed = False  # stands in the turns
        self.put_off = False

    def list(self) -> bool:
        """Stand in the turns; false where there is nothing to send, or it stands there already."""
        if self.listed or not self.items:
            return False
        self.listed = True
        self.turns.append(self)
        return True


class PutOff:
    """Those that would have a slot if more were free."""

    def __init__(self) -> None:
        self._by_webhook: deque[Queue] = deque()
        self.of_hosts: tuple[dict[Host, deque[Queue]], ...] = tuple({} for _ in Lane)  # in each lane

    def by_webhook(self, queue: Queue) -> None:
        """Put one off whose webhook had its share of the slots."""
        if not queue.put_off:
            queue.put_off = True
            self._by_webhook.append(queue)

    def by_host(self, lane: Lane, queue: Queue) -> None:
        """Put one off whose host had its share of the slots."""
        if not queue.put_off:
            queue.put_off = True
            self.of_hosts[lane].setdefault(queue.host, deque()).append(queue)

    def forget_host(self, lane: Lane, queue: Queue) -> None:
        """Let one wait for its host no longer."""
        queues = self.of_hosts[lane].get(queue.host, deque())
        if queue in queues:
            queues.remove(queue)
            queue.put_off = False
            if not queues:
                del self.of_hosts[lane][queue.host]

    def landed(self) -> None:
        """List one whose webhook had its share: a request has ended."""
        while self._by_webhook:
            queue = self._by_webhook.popleft()
            queue.put_off = False
            if queue.list():
                return

    def list_of_a_host(self, lane: Lane, free: int) -> bool:
        """List one whose host may have another of so many free slots; false where there is none."""
        hosts = self.of_hosts[lane]
        return any(_list_one(hosts, host) for host in [one for one in hosts if one.may_send(free)])

    def list_of_the_next_host(self, lane: Lane, free: int) -> None:
        """List one of the host whose turn it is, if that may have another of so many free slots."""
        hosts = self.of_hosts[lane]
        host = next(iter(hosts), None)
        if host is None:
            return
        if host.may_send(free):
            _list_one(hosts, host)
        else:
            hosts[host] = hosts.pop(host)


def _list_one(hosts: dict[Host, deque[Queue]], host: Host) -> bool:
    """List one of a host, which goes behind the others; false where none of it has anything to send."""
    queues = hosts.pop(host)
    while queues:
        queue = queues.popleft()
        queue.put_off = False
        if queue.list():
            if queues:
                hosts[host] = queues
            return True
    return False
