"""One run: everything that works between taking the lead and giving it back.

    doorbell ──▶ tailers ──▶ lanes ──▶ attempts ──▶ recorder
                    │          ▲                        │
                    └▶ waiting ┤ retries ◀──────────────┘
                    rescuer ───┘        recoveries, checkpoints, cancellations, lease

Nothing outlives the run: its loops are one task group, and what they hold in memory is either settled or in
the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

import structlog

from dispatcher.core.delivery import Kind
from dispatcher.core.errors import DrainExpired, LeaseLost
from dispatcher.core.ids import RunId, WebhookId
from dispatcher.core.lanes import TAILED, Lane, Lanes, Limits, Payload, Pending
from dispatcher.daemon.attempts import Attempts
from dispatcher.daemon.checkpoints import Checkpoints
from dispatcher.daemon.disabler import Disabler
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.gauges import show_run
from dispatcher.daemon.intake import Downstream
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.recoveries import Recoveries
from dispatcher.daemon.rescuer import Rescuer
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.shared import Process, Shared, utc_now
from dispatcher.daemon.tailer import Tailer
from dispatcher.daemon.waiting import Waiting
from dispatcher.daemon.warmth import Warmth
from dispatcher.store.backlog import Backlog
from dispatcher.store.connection import INDEXED, Link
from dispatcher.store.lease import RENEW_EVERY_S
from dispatcher.store.ledger import FactRow, Ledger
from dispatcher.store.recovering import RecoveryLedger
from dispatcher.store.registry import Registry, Webhook
from dispatcher.store.streaks import Streaks
from dispatcher.store.wakeup import Wakeup

_WATCH_TRUST_S: Final = 0.25  # well below the second by which we trust ourselves for less
_LEAST_PATIENCE_S: Final = 0.05
_LONGEST_PATIENCE_S: Final = (
    1.0  # an earlier one may join; or the clock is put back, and the first is far off
)
_GIVE_BACK_S: Final = 2.0  # at shutdown, while PostgreSQL is away

log = structlog.get_logger("run")


class Run:
    """The loops of one run, wired together."""

    def __init__(self, process: Process, run_id: RunId) -> None:
        self._process = process
        self._run_id = run_id
        self._lease = process.lease
        self._outage = process.outage
        self._links: list[Link] = []
        delivery = process.config.delivery
        self.lanes = Lanes(
            Limits(
                max_in_flight=delivery.max_in_flight,
                max_in_flight_per_webhook=delivery.max_in_flight_per_webhook,
                max_held=delivery.max_queued,
                max_bytes=delivery.max_queued_bytes,
            )
        )
        self._registry = Registry(self._link("registry"), process.vault, self._limit_rates)
        shared = Shared(process, run_id, self.lanes, self._registry)
        self._order = shared.order
        self._patient = asyncio.Event()  # something waits for a retry that is due soon
        self._progress = Progress()
        self._backlog = Backlog(self._link("backlog", INDEXED))
        self._ledger = Ledger(self._link("ledger"), run_id)
        self._waiting = Waiting(shared, self._backlog, self._ledger)
        self._retries = Retries(
            shared, Backlog(self._link("retries", INDEXED)), self._ledger, stopped=self._deactivated
        )
        self._recoveries = Recoveries(
            shared, RecoveryLedger(self._link("recoveries"), run_id), self._retries.ring
        )
        self._recorder = Recorder(shared, self._link("recorder"), self._durable)
        self._attempts = Attempts(shared, self._recorder)
        self._doorbell = Doorbell(shared)
        self._wakeup = Wakeup(self._link("doorbell"), self._doorbell.heard)
        downstream = Downstream(self._waiting, self._progress, self._attempts.pump, self._deactivated)
        self._tailers = {
            lane: Tailer(
                shared, lane, self._link(f"tail {lane.name.lower()}", INDEXED), self._doorbell, downstream
            )
            for lane in TAILED
        }
        self._rescuer = Rescuer(shared, self._backlog, self._waiting, self._retries)
        self._checkpoints = Checkpoints(
            shared,
            self._ledger,
            progress=self._progress,
            waiting=self._waiting,
            retries=self._retries,
            recorder=self._recorder,
        )
        self._warmth = Warmth(shared)
        self._disabler = Disabler(shared, Streaks(self._link("disabler"), run_id))
        self._cancellations: asyncio.Queue[Webhook] = asyncio.Queue()
        self._rescued = False
        show_run(process.metrics, self.lanes, self._registry, self._warmth)

    def _link(self, name: str, settings: Mapping[str, str] | None = None) -> Link:
        self._links.append(self._process.database.link(name, settings or {}))
        return self._links[-1]

    def _tail(self, lane: Lane) -> Link:
        return self._link(f"tail {lane.name.lower()}", INDEXED)

    async def work(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain.

        Raises `LeaseLost` when another run took the lead, `DrainExpired` when requests had to be cut off.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._attempts.begin(group)
                leading = [group.create_task(self._renew()), group.create_task(self._watch_trust())]
                await self._outage.patiently("registry", self._registry.refresh)
                last_batches = {lane: await tailer.begin() for lane, tailer in self._tailers.items()}
                await self._outage.patiently("order", self._expect_retries)
                may_ring = await self._may_ring()
                recording = group.create_task(self._recorder.run())
                loops = [
                    group.create_task(loop)
                    for loop in (
                        self._doorbell.run(self._wakeup, may_ring=may_ring),
                        *(tailer.run() for tailer in self._tailers.values()),
                        self._rescue(last_batches),
                        self._waiting.run(),
                        self._pump_read_back(self._waiting.pushed),
                        self._pump_read_back(self._retries.pushed),
                        self._ring_due(),
                        self._cancel(),
                        self._disabler.run(),
                        self._warmth.run(),
                        self._overtake(),
                    )
                ]
                log.info("leading", run=self._run_id)
                await stop.wait()
                log.info("draining", in_flight=self.lanes.in_flight)
                self._attempts.close()
                await _end(loops)
                await self._drain()
                await _end([recording, *leading])  # no renewal after the release
                await self._give_back()
        except* LeaseLost as lost:
            raise LeaseLost(str(lost.exceptions[0])) from lost
        except* DrainExpired as expired:
            raise DrainExpired(str(expired.exceptions[0])) from expired
        finally:
            self._process.metrics.rest()
            for one in self._links:
                await one.close()

    async def _drain(self) -> None:
        """Let requests in flight end, and make every fact durable."""
        try:
            async with asyncio.timeout(self._process.config.delivery.drain_s):
                await self._attempts.landed()
                await self._recorder.drained()
                if self._rescued:
                    await self._outage.patiently("drain", self._checkpoints.write)
                # Whatever earlier runs left open: of ours, nothing is.
                await self._outage.patiently(
                    "drain", lambda: self._backlog.runs_ended(self._run_id, [self._run_id], "clean")
                )
        except TimeoutError:
            # The facts of what is cut off are missing: the next run writes them down as interrupted.
            raise DrainExpired(f"{self.lanes.in_flight} requests were cut off after drain_s") from None
        log.info("drained")

    async def _give_back(self) -> None:
        """Let a standby lead at once; without an answer it leads when the lease has run out."""
        try:
            async with asyncio.timeout(_GIVE_BACK_S):
                await self._outage.patiently("lease", self._lease.release)
        except TimeoutError:
            log.warning("the lead could not be given back")

    async def _watch_trust(self) -> None:
        """Cut requests off when the lease could not be renewed in time, and go on when it could."""
        trusted = True
        while True:
            await asyncio.sleep(max(_WATCH_TRUST_S, self._lease.trust_left_s))
            if trusted and not self._lease.trusted:
                log.warning("the lead could not be confirmed in time", in_flight=self.lanes.in_flight)
                self._attempts.cut_off()
            trusted = self._lease.trusted

    async def _renew(self) -> None:
        while True:
            # After an answer that took longer than the lease is trusted, the next one is wanted at once.
            await asyncio.sleep(RENEW_EVERY_S if self._lease.trusted else 0)
            await self._outage.patiently("lease", self._lease.renew)
            self._attempts.pump()  # sending stops while the lease cannot be trusted

    async def _may_ring(self) -> bool:
        setting = self._process.config.database.doorbell
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
            group.create_task(self._recoveries.run())

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
            self._recoveries.ring()

    async def _expect_retries(self) -> None:
        """Let what is strictly ordered wait for the retries that earlier runs left on the schedule."""
        for row in await self._backlog.awaited():
            payload = Payload(row.type, row.body, row.recorded_at, test=row.test)
            if payload.subject is not None and not payload.test:
                self._order.expect(row.key.webhook_id, payload.subject, row.key.outbox_id)

    async def _overtake(self) -> None:
        """Let those go that waited for a retry which did not come in time."""
        while True:
            await self._patient.wait()
            self._patient.clear()
            while (expires_at := self._order.next_expiry) is not None:
                left_s = (expires_at - utc_now()).total_seconds()
                await asyncio.sleep(min(max(_LEAST_PATIENCE_S, left_s), _LONGEST_PATIENCE_S))
                if self._order.expire(utc_now()):
                    self._attempts.pump()

    def _limit_rates(self, rates: Mapping[WebhookId, float]) -> None:
        if self.lanes.limit_rates(rates, time.monotonic_ns()):
            self._attempts.pump()

    def _deactivated(self, webhooks: list[Webhook]) -> None:
        for webhook in webhooks:
            self._cancellations.put_nowait(webhook)

    async def _cancel(self) -> None:
        while True:
            webhook = await self._cancellations.get()
            reason = webhook.why_inactive or "webhook deactivated"
            count = await self._outage.patiently("cancellations", partial(self._close, webhook, reason))
            log.info("webhook stopped", webhook=webhook.public_id, reason=reason, cancelled=count)

    async def _close(self, webhook: Webhook, reason: str) -> int:
        count = await self._ledger.cancel_pending(webhook.id, reason, self.lanes.held_for(webhook.id))
        if self._order.forget(webhook.id):
            self._attempts.pump()
        return count

    def _durable(self, pending: Pending, fact: FactRow) -> None:
        """Free the room of an attempt whose fact is durable, and put its retry on the schedule."""
        self.lanes.settled(pending)
        if self._order.settled(
            pending, fact.next_attempt_at, utc_now(), postponed=fact.kind is Kind.POSTPONED
        ):
            self._attempts.pump()
        if self._order.next_expiry is not None:
            self._patient.set()
        if pending.batch is not None:
            self._progress.closed(pending.lane, pending.batch)
            self._waiting.room_freed(pending)
        elif self._retries.brought(pending):
            self._retries.settled(pending)
            self._waiting.room_freed(pending)
        else:
            self._waiting.settled(pending)
        self._disabler.recorded(fact)
        if fact.next_attempt_at is not None:
            self._retries.expect(fact.next_attempt_at)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
