"""One run: everything that works between taking the lead and giving it back.

    doorbell ──▶ tailers ──▶ lanes ──▶ attempts ──▶ recorder
                    │          ▲                        │
                    └▶ waiting ┤ retries ◀──────────────┘
                    rescuer ───┘        checkpoints, cancellations, lease

Nothing outlives the run: its loops are one task group, and what they hold in memory is either settled or in
the database.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Final

import structlog

from dispatcher.config import Config
from dispatcher.core.errors import LeaseLost
from dispatcher.core.ids import DeliveryIds, RunId
from dispatcher.core.lanes import TAILED, Lane, Lanes, Limits, Pending
from dispatcher.daemon.attempts import Attempts
from dispatcher.daemon.checkpoints import Checkpoints
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.outage import Outage
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.rescuer import Rescuer
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.tailer import Tailer
from dispatcher.daemon.waiting import Waiting
from dispatcher.sender import Sender
from dispatcher.store.backlog import Backlog
from dispatcher.store.connection import Database, Link
from dispatcher.store.lease import RENEW_EVERY_S, Lease
from dispatcher.store.ledger import FactRow, Ledger
from dispatcher.store.outbox import OutboxReader
from dispatcher.store.registry import Registry, Webhook
from dispatcher.store.vault import Vault
from dispatcher.store.wakeup import Wakeup
from dispatcher.telemetry.health import Health
from dispatcher.telemetry.metrics import Metrics

_LATE_S: Final = 10.0  # a loop without progress for this long is not well

log = structlog.get_logger("run")


def utc_now() -> dt.datetime:
    """Give the wall clock's time: due times and envelopes are wall-clock times."""
    return dt.datetime.now(dt.UTC)


class Run:
    """The loops of one run, wired together."""

    def __init__(
        self,
        run_id: RunId,
        config: Config,
        database: Database,
        vault: Vault,
        ids: DeliveryIds,
        sender: Sender,
        lease: Lease,
        outage: Outage,
        metrics: Metrics,
        health: Health,
    ) -> None:
        delivery = config.delivery
        self._run_id = run_id
        self._config = config
        self._lease = lease
        self._outage = outage
        self._metrics = metrics
        self._links: list[Link] = []

        def link(name: str) -> Link:
            self._links.append(database.link(name))
            return self._links[-1]

        self.lanes = Lanes(
            Limits(
                max_in_flight=delivery.max_in_flight,
                max_in_flight_per_webhook=delivery.max_in_flight_per_webhook,
                max_held=delivery.max_queued,
                max_held_per_webhook=delivery.max_queued_per_webhook,
                max_bytes=delivery.max_queued_bytes,
            )
        )
        self._registry = Registry(link("registry"), vault)
        self._progress = Progress()
        self._backlog = Backlog(link("backlog"))
        self._ledger = Ledger(link("ledger"), run_id)
        self._waiting = Waiting(self._backlog, self._ledger, self.lanes, outage, metrics)
        self._retries = Retries(
            Backlog(link("retries")),
            self._ledger,
            self.lanes,
            outage,
            metrics,
            health.pulse("retries", _LATE_S),
            utc_now,
        )
        self._recorder = Recorder(
            Ledger(link("recorder"), run_id),
            outage,
            metrics,
            health.pulse("recorder", float("inf")),
            self._durable,
        )
        self._attempts = Attempts(
            self.lanes,
            self._registry,
            sender,
            self._recorder,
            ids,
            delivery,
            metrics,
            lambda: lease.trusted,
            utc_now,
        )
        self._doorbell = Doorbell(config.tail, outage, metrics, health.pulse("doorbell", _LATE_S))
        self._wakeup = Wakeup(link("doorbell"), self._doorbell.heard)
        self._tailers = [
            Tailer(
                lane,
                OutboxReader(lane_link, lane),
                Ledger(lane_link, run_id),
                self._registry,
                self.lanes,
                self._waiting,
                self._progress,
                self._doorbell,
                outage,
                metrics,
                health.pulse(f"tail of lane {lane.name.lower()}", float("inf")),
                config.tail.page_rows,
                self._attempts.pump,
                self._deactivated,
            )
            for lane in TAILED
            for lane_link in (link(f"tail {lane.name.lower()}"),)
        ]
        self._rescuer = Rescuer(self._backlog, self._waiting, self._retries, outage, run_id)
        self._checkpoints = Checkpoints(self._ledger, self._progress, self._waiting, self._retries, outage)
        self._cancellations: asyncio.Queue[Webhook] = asyncio.Queue()
        self._rescued = False
        for lane in Lane:
            series = metrics.lanes[lane.name.lower()]
            series.queued.set_function(lambda lane=lane: self.lanes.queued_in[lane])
            series.in_flight.set_function(lambda lane=lane: self.lanes.in_flight_in[lane])

    async def work(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain; raises `LeaseLost` when another run took the lead."""
        try:
            async with asyncio.TaskGroup() as group:
                self._attempts.begin(group)
                renewing = group.create_task(self._renew())
                await self._outage.patiently("registry", self._registry.refresh)
                last = {lane: await tailer.begin() for lane, tailer in zip(TAILED, self._tailers, strict=True)}
                may_ring = await self._may_ring()
                writing = [group.create_task(self._recorder.run())]
                loops = [
                    group.create_task(self._doorbell.run(self._wakeup, may_ring=may_ring)),
                    *(group.create_task(tailer.run()) for tailer in self._tailers),
                    group.create_task(self._rescue(last)),
                    group.create_task(self._waiting.run()),
                    group.create_task(self._pump_read_back(self._waiting.pushed)),
                    group.create_task(self._pump_read_back(self._retries.pushed)),
                    group.create_task(self._ring_due()),
                    group.create_task(self._cancel()),
                ]
                log.info("leading", run=self._run_id)
                await stop.wait()
                await self._drain(loops)
                for task in [*writing, renewing]:
                    task.cancel()
        except* LeaseLost as lost:
            raise LeaseLost(str(lost.exceptions[0])) from lost
        finally:
            for one in self._links:
                await one.close()

    async def _drain(self, loops: list[asyncio.Task[None]]) -> None:
        """Take nothing new, let requests in flight end, make every fact durable, give the lead back."""
        log.info("draining", in_flight=self.lanes.in_flight)
        self._attempts.close()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        clean = True
        try:
            async with asyncio.timeout(self._config.delivery.drain_s):
                await self._attempts.landed()
                await self._recorder.drained()
        except TimeoutError:
            clean = False
            log.warning("requests were cut off after drain_s", in_flight=self.lanes.in_flight)
            # Their facts are missing: the next run writes them down as interrupted.
            raise SystemExit(1) from None
        if clean and self._rescued:
            await self._checkpoints.write()
            await self._backlog.runs_ended([self._run_id], "clean")
        await self._lease.release()
        log.info("drained")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            await self._outage.patiently("lease", self._lease.renew)
            self._attempts.pump()  # sending stops while the lease cannot be trusted

    async def _may_ring(self) -> bool:
        setting = self._config.database.doorbell
        if setting != "auto":
            return setting == "on"
        two_phase = await self._outage.patiently("doorbell", self._wakeup.two_phase)
        if two_phase:
            log.info("polling instead of being rung: prepared transactions are enabled on the server")
        return not two_phase

    async def _rescue(self, last_batches: dict[Lane, int]) -> None:
        await self._rescuer.run(last_batches)
        self._rescued = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._retries.run())
            group.create_task(self._checkpoints.run())

    async def _pump_read_back(self, pushed: asyncio.Event) -> None:
        while True:
            await pushed.wait()
            pushed.clear()
            self._attempts.pump()

    async def _ring_due(self) -> None:
        while True:
            await self._doorbell.due.wait()
            self._doorbell.due.clear()
            self._retries.ring()

    def _deactivated(self, webhooks: list[Webhook]) -> None:
        for webhook in webhooks:
            self._cancellations.put_nowait(webhook)

    async def _cancel(self) -> None:
        while True:
            webhook = await self._cancellations.get()
            reason = "webhook deleted" if webhook.deleted else webhook.disabled_reason or "webhook deactivated"
            count = await self._outage.patiently(
                "cancellations",
                lambda webhook=webhook, reason=reason: self._ledger.cancel_pending(
                    webhook.id, reason, self.lanes.held_for(webhook.id)
                ),
            )
            log.info("webhook stopped", webhook=webhook.public_id, reason=reason, cancelled=count)

    def _durable(self, pending: Pending, fact: FactRow) -> None:
        """An attempt's fact is durable: its room is free, its batch a step nearer, its retry on the schedule."""
        self.lanes.settled(pending)
        if pending.batch is not None:
            self._progress.closed(pending.lane, pending.batch)
            self._waiting.room_freed()
        elif self._retries.brought(pending):
            self._retries.settled(pending)
            self._waiting.room_freed()
        else:
            self._waiting.settled(pending)
        if fact.next_attempt_at is not None:
            self._retries.expect(fact.next_attempt_at)
