"""One run: everything that works for a shard between taking it and giving it back.

    leading ────┬─▶ lanes ──▶ attempts ──▶ recorder
    or follower │     ▲                        │
                └▶ waiting ┤ retries ◀─────────┘
                rescuer ───┘        recoveries, checkpoints, cancellations, tenure

Nothing outlives the run: its loops are one task group, and what they hold in memory is either settled or in
the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from dispatcher.config import Delivery
from dispatcher.core.delivery import Kind, State
from dispatcher.core.errors import DrainExpired, LeaseLost
from dispatcher.core.ids import RunId, WebhookId
from dispatcher.core.lanes import Lanes
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.core.room import Limits
from dispatcher.daemon.attempts import Attempts
from dispatcher.daemon.checkpoints import Checkpoints
from dispatcher.daemon.disabler import Disabler
from dispatcher.daemon.follower import Follower
from dispatcher.daemon.intake import Downstream
from dispatcher.daemon.leading import Leading
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.recoveries import Recoveries
from dispatcher.daemon.rescuer import Rescuer
from dispatcher.daemon.retries import Retries
from dispatcher.daemon.shared import Process, Shared, utc_now
from dispatcher.daemon.tenure import Tenure
from dispatcher.daemon.waiting import Waiting
from dispatcher.daemon.warmth import Warmth
from dispatcher.store.backlog import Backlog
from dispatcher.store.connection import INDEXED, Link
from dispatcher.store.lease import Lease
from dispatcher.store.ledger import FactRow, Ledger
from dispatcher.store.recovering import RecoveryLedger
from dispatcher.store.registry import Registry, Webhook
from dispatcher.store.streaks import Streaks

_FAREWELL_S: Final = 2.0  # of a run that is told to end before it began
_LEAST_PATIENCE_S: Final = 0.05
_LONGEST_PATIENCE_S: Final = 1.0  # an earlier one may join; or the clock is put back, and the first far off

log = structlog.get_logger("run")


class Run:
    """The loops of one run, wired together."""

    def __init__(self, process: Process, lease: Lease, run_id: RunId) -> None:
        self._process = process
        self._run_id = run_id
        self._outage = process.outage
        self._links: list[Link] = []
        self.shard = shard = lease.shard
        self.registry = Registry(self._link("registry"), process.vault, shard, self._limit_rates, self._moved)
        self.lanes = Lanes(limits_of(process.config.delivery), self.registry.host_of)
        self._shared = shared = Shared(process, lease, run_id, self.lanes, self.registry)
        self._order = shared.order
        self._patient = asyncio.Event()  # something waits for a retry that is due soon
        self._progress = Progress()
        self._backlog = Backlog(self._link("backlog", INDEXED), shard)
        self._ledger = Ledger(self._link("ledger"), run_id)
        self.waiting = Waiting(shared, self._backlog, self._ledger, self._progress)
        self.retries = Retries(
            shared, Backlog(self._link("retries", INDEXED), shard), self._ledger, stopped=self._deactivated
        )
        self._recoveries = Recoveries(
            shared,
            RecoveryLedger(self._link("recoveries"), run_id, shard),
            self.retries.ring,
            self.retries.waits,
        )
        self.recorder = Recorder(shared, self._link("recorder"), self._durable)
        self._attempts = Attempts(shared, self.recorder)
        self._tenure = Tenure(shared, self._attempts)
        self._rescuer = Rescuer(shared, self._backlog, self.waiting, self.retries, self.recorder)
        downstream = Downstream(self.waiting, self._progress, self._attempts.pump, self._deactivated)
        self._source = (
            Leading(shared, self._link, downstream)
            if shard.leads
            else Follower(
                shared,
                self._link("follower", INDEXED),
                self._link("claims"),
                downstream,
                self._rescuer.interrupted,
            )
        )
        self._checkpoints = Checkpoints(
            shared,
            self._ledger,
            progress=self._progress,
            waiting=self.waiting,
            retries=self.retries,
            recorder=self.recorder,
        )
        self.warmth = Warmth(shared)
        self._disabler = Disabler(shared, Streaks(self._link("disabler"), run_id, shard))
        self._cancellations: asyncio.Queue[Webhook] = asyncio.Queue()
        self._rescued = False
        self._patience_s: float | None = None

    def _link(self, name: str, settings: Mapping[str, str] | None = None) -> Link:
        if not self.shard.alone:
            name = f"{name} {self.shard.number}"
        self._links.append(self._process.database.link(name, settings or {}))
        return self._links[-1]

    def hurry(self, patience_s: float) -> None:
        """Let requests under way take no longer than this once the run is told to stop: others wait for it.

        What is cut off then is recorded as interrupted, which uses up no attempt, and made again elsewhere.
        """
        self._patience_s = patience_s

    async def work(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain.

        Raises `LeaseLost` when another run took the shard, `DrainExpired` when requests had to be cut off.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._attempts.begin(group)
                holding = group.create_task(self._tenure.run())
                last_batches = await self._outage.patiently_until(stop, "begin", self._begin)
                if last_batches is None:
                    await self._leave(holding)
                    return
                recording = group.create_task(self.recorder.run())
                loops = [group.create_task(loop) for loop in self._loops(last_batches)]
                log.info("leading", run=self._run_id, **self._named())
                await stop.wait()
                log.info("draining", in_flight=self.lanes.in_flight, **self._named())
                self._attempts.close()
                await _end(loops)
                await self._drain()
                await _end([recording, holding])  # no renewal after the release
                await self._tenure.give_back()
        except* LeaseLost as lost:
            raise LeaseLost(str(_first(lost))) from lost
        except* DrainExpired as expired:
            raise DrainExpired(str(_first(expired))) from expired
        finally:
            self._attempts.close()  # its timer may still be set
            self._shared.ended()
            async with asyncio.TaskGroup() as group:  # together: each may wait for PostgreSQL
                for one in self._links:
                    group.create_task(one.close())

    async def _begin(self) -> Mapping[Lane, int]:
        """Read where the last run left everything; give each lane's last batch."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outage.patiently("registry", self.registry.refresh))
            await self.recorder.begin(await self._rescuer.low())
            clean = await self._rescuer.begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outage.patiently("order", self._expect_retries))
            return await self._source.begin(clean)

    def _loops(self, last_batches: Mapping[Lane, int]) -> list[Coroutine[None, None, None]]:
        return [
            self._source.run(),
            self._rescue(last_batches),
            self._pump_read_back(self.waiting.pushed),
            self._pump_read_back(self.retries.pushed),
            self._ring_due(),
            self._cancel(),
            self.warmth.run(),
            self._overtake(),
        ]

    def _named(self) -> dict[str, int]:
        return {} if self.shard.alone else {"shard": self.shard.number}

    async def _drain(self) -> None:
        """Let requests in flight end, and make every fact durable."""
        try:
            async with asyncio.timeout(self._process.config.delivery.drain_s):
                await self._land()
                await self.recorder.drained()
                if self._rescued:
                    await self._outage.patiently("drain", partial(self._checkpoints.write, last=True))
                await self._outage.patiently("drain", self._say_clean)
        except TimeoutError:
            # The facts of what is cut off are missing: the next run writes them down as interrupted.
            raise DrainExpired(f"{self.lanes.in_flight} requests were cut off after drain_s") from None
        log.info("drained", **self._named())

    async def _leave(self, holding: asyncio.Task[None]) -> None:
        """End before anything began, which waits for PostgreSQL no longer than it must."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self._outage.patiently("drain", self._say_clean)
        await _end([holding])  # no renewal after the release
        await self._tenure.give_back()

    async def _say_clean(self) -> None:
        """Write down that of this run nothing is open, whatever earlier ones left."""
        await self._backlog.runs_ended(self._run_id, [self._run_id], "clean")

    async def _land(self) -> None:
        if self._patience_s is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._attempts.landed()
            self._attempts.cut_off("the webhook's shard was handed over")
        await self._attempts.landed()

    async def _rescue(self, last_batches: Mapping[Lane, int]) -> None:
        async with asyncio.TaskGroup() as group:
            await self._rescuer.interrupt(last_batches)
            group.create_task(self.waiting.run())
            group.create_task(self.retries.run())
            await self._rescuer.run(last_batches)
            self._rescued = True
            group.create_task(self._checkpoints.run())
            await self._process.under_way.wait()
            await self._close_those_stopped_before()
            group.create_task(self._disabler.run())
            group.create_task(self._recoveries.run())

    async def _pump_read_back(self, pushed: asyncio.Event) -> None:
        while True:
            await pushed.wait()
            pushed.clear()
            self._attempts.pump()

    async def _ring_due(self) -> None:
        while True:
            await self._source.due.wait()
            self._source.due.clear()
            self.retries.ring()
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

    def _moved(self, webhook_id: WebhookId) -> None:
        self.lanes.moved(webhook_id)
        self._attempts.pump()

    def _deactivated(self, webhooks: list[Webhook]) -> None:
        for webhook in webhooks:
            if self.shard.owns(webhook.id):
                self._cancellations.put_nowait(webhook)

    async def _close_those_stopped_before(self) -> None:
        """Close what waits of webhooks that were deactivated or deleted while nobody held the shard."""
        found = await self._outage.patiently("cancellations", self._backlog.stopped_waiting)
        known = (self.registry.webhooks.get(webhook_id) for webhook_id in found)
        self._deactivated([webhook for webhook in known if webhook and webhook.why_inactive])

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
        self.lanes.settled(pending, answered=fact.status_code is not None)
        due_at = fact.next_attempt_at
        if due_at is None:
            others_go = self._order.over(pending)
        else:
            self.retries.expect(due_at)
            others_go = self._order.settled(pending, due_at, utc_now(), postponed=fact.kind is Kind.POSTPONED)
            if self._order.next_expiry is not None:
                self._patient.set()
        if others_go:
            self._attempts.pump()
        if pending.batch is not None:
            self._progress.closed(pending.lane, pending.batch)
            self.waiting.room_freed(pending.lane, pending.key.webhook_id)
        elif self.retries.brought(pending):
            self.retries.settled(pending)
            self.waiting.room_freed(pending.lane, pending.key.webhook_id)
        else:
            self.waiting.settled(pending)
        if fact.state is State.FAILED:
            self._disabler.recorded(fact)


def limits_of(delivery: Delivery, among: int = 1) -> Limits:
    """Give the bounds of one of so many runs that share a process."""
    return Limits(
        max_in_flight=max(1, delivery.max_in_flight // among),
        max_in_flight_per_webhook=delivery.max_in_flight_per_webhook,
        max_held=max(1, delivery.max_queued // among),
        max_bytes=max(1, delivery.max_queued_bytes // among),
    )


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
