"""Who sends to which webhooks: shards, and each daemon's fair share of them.

A webhook is in shard `id % count`, whoever asks. A daemon holds whole shards, each by a lease of its own. The
holder of shard 0 *leads*: it also reads the outbox, for all. No loop, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dispatcher.core.ids import WebhookId

MOST_SHARDS = 64


class Shard(msgspec.Struct, frozen=True):
    """One part of the webhooks."""

    number: int = 0
    count: int = 1  # of all parts

    def owns(self, webhook_id: WebhookId) -> bool:
        """Say whether a webhook is in it."""
        return webhook_id % self.count == self.number

    @property
    def leads(self) -> bool:
        """Say whether its holder reads the outbox for all."""
        return self.number == 0

    @property
    def alone(self) -> bool:
        """Say whether it holds every webhook."""
        return self.count == 1


class Plan(msgspec.Struct, frozen=True):
    """What a daemon should do now."""

    take: Sequence[int] = ()  # shards that are free, as many as are due to it
    release: int | None = None  # the shard that it should hand over


def plan(me: str, members: Sequence[str], holders: Mapping[int, str | None], mine: Sequence[int]) -> Plan:
    """Give a daemon's next step towards fair shares: with m daemons each holds count/m, rounded down or up.

    `holders`: each shard's daemon, None where it is free. `mine`: what this one has and is not handing over.
    What is free goes to whoever has least, as all of them reckon. Nothing is planned once all shares are
    fair, so nothing moves unless somebody comes or goes.
    """
    leader = holders.get(0)
    # Of two that have the same, the one that leads is given less: it has more to do.
    everyone = sorted({*members, me}, key=lambda one: (one == leader, one))
    held = {one: sum(holder == one for holder in holders.values()) for one in everyone}
    free = [shard for shard, holder in sorted(holders.items()) if holder is None]
    if free:
        take = []
        for shard in free:
            taker = min(everyone, key=held.__getitem__)
            held[taker] += 1
            if taker == me:
                take.append(shard)
        return Plan(take=take)
    least, more = divmod(len(holders), len(everyone))
    if len(mine) > least + (more > 0):
        return Plan(release=max(mine))
    if min(held.values()) < least < len(mine) and me == max(reversed(everyone), key=held.__getitem__):
        return Plan(release=max(mine))
    return Plan()
