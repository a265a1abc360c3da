"""What the loops share: of the process, for as long as it lives; of one run, while it holds its shard."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dispatcher.core.ordering import Order

if TYPE_CHECKING:
    from dispatcher.config import Config
    from dispatcher.core.ids import DeliveryIds, RunId
    from dispatcher.core.lanes import Lanes
    from dispatcher.core.pending import Lane
    from dispatcher.core.sharing import Shard
    from dispatcher.daemon.outage import Outage
    from dispatcher.sender import Sender
    from dispatcher.store.connection import Database
    from dispatcher.store.lease import Lease
    from dispatcher.store.registry import Registry
    from dispatcher.store.vault import Vault
    from dispatcher.telemetry.health import Health, Pulse
    from dispatcher.telemetry.metrics import Metrics
    from dispatcher.telemetry.traces import Traces


@dataclass(frozen=True)
class Process:
    """Made once by the composition root."""

    config: Config
    database: Database
    vault: Vault
    ids: DeliveryIds
    sender: Sender
    outage: Outage
    metrics: Metrics
    health: Health
    traces: Traces | None = None  # None: tracing is off
    # Set once a run has brought back what was left open, or others hold all shards: what can wait may begin.
    under_way: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Shared:
    """Made anew for each run."""

    process: Process
    lease: Lease
    run_id: RunId
    lanes: Lanes
    registry: Registry
    order: Order = field(init=False)
    # The earthquake, lane by lane, that very many webhooks are being told of: some are not told yet.
    begun: dict[Lane, str | None] = field(init=False, default_factory=dict)
    _pulses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let what leaves in order leave by these lanes."""
        object.__setattr__(self, "order", Order(self.lanes.push, self.registry.ordering_of))

    @property
    def shard(self) -> Shard:
        """Which webhooks are this run's."""
        return self.lease.shard

    def pulse(self, name: str, limit_s: float) -> Pulse:
        """Watch a loop of this run from now on: it is late when it makes no progress for `limit_s`."""
        whole = name if self.shard.alone else f"{name} of shard {self.shard.number}"
        self._pulses.append(whole)
        return self.process.health.pulse(whole, limit_s)

    def ended(self) -> None:
        """Stop watching all loops of this run: they ended together."""
        for name in self._pulses:
            self.process.health.forget(name)

    @property
    def outage(self) -> Outage:
        """Whether the database answers, as all loops see it."""
        return self.process.outage

    @property
    def metrics(self) -> Metrics:
        """The process's metrics."""
        return self.process.metrics


BEGINNING: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)  # before anything was due


def utc_now() -> dt.datetime:
    """Give the wall clock's time: due times and envelopes are wall-clock times."""
    return dt.datetime.now(dt.UTC)
