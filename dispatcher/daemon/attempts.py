"""Makes the attempts: takes what has its turn, sends it, judges the outcome, hands the fact over.

One attempt is one request is one fact. A worker goes on taking as long as something may go, so there are as
many tasks as requests under way and none for what waits. One timer stands for all that wait for a token of
their rate limits, or for alerts that have the right of way.

Where there are many workers they go in step, by the loop's turns: all whose answers have come judge them,
then all of these sign, then all write. If each did one after the other it would find the caches emptied by
what came in between (measured: a fifth of a delivery's CPU). A few alerts amid many others do not wait for
that.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from functools import partial
from typing import Final

import structlog

from dispatcher.core.delivery import STEP, Kind, State, Trigger, Verdict, judge
from dispatcher.core.message import Message
from dispatcher.core.outcome import Answered, NoAnswer, Outcome
from dispatcher.core.pending import Lane, Pending
from dispatcher.core.rate import NEVER_NS
from dispatcher.core.retry import after_own_fault
from dispatcher.daemon.ended import Ended
from dispatcher.daemon.heading import heading
from dispatcher.daemon.recorder import Recorder
from dispatcher.daemon.relevance import irrelevant, without_attempt
from dispatcher.daemon.shared import Shared, utc_now
from dispatcher.store.ledger import FactRow, cancelled
from dispatcher.store.registry import Webhook
from dispatcher.telemetry.traces import Receiver

_AFTER_A_BUG: Final = dt.timedelta(minutes=1)
_STARTED_IN_A_TURN: Final = 32
_FEW: Final = 16  # workers, or requests of a lane, that do not go in step
_WITHOUT_MEANS: Final = dt.timedelta(seconds=1)
_LEAST_SLEEP_S: Final = 0.002  # tokens that come closer together than this are waited for together

log = structlog.get_logger("attempt")


class Attempts:
    """The workers of one run."""

    def __init__(self, shared: Shared, recorder: Recorder) -> None:
        process = shared.process
        self._lanes = shared.lanes
        self._order = shared.order
        self._registry = shared.registry
        self._sender = process.sender
        self._recorder = recorder
        self._ids = process.ids
        self._config = process.config.delivery
        self._lane_metrics = [shared.metrics.lanes[lane.name.lower()] for lane in Lane]
        self._lease = shared.lease
        self._traces = process.traces
        self._group: asyncio.TaskGroup | None = None
        self._closing = False
        self._sending: set[asyncio.Task[None]] = set()
        self._cut: set[asyncio.Task[None]] = set()
        self._why_cut = "the lead could not be confirmed in time"
        self._workers = 0
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = NEVER_NS
        self._none = asyncio.Event()
        self._none.set()

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Run the workers in this group."""
        self._group = group

    def close(self) -> None:
        """Start nothing more; what is under way goes on."""
        self._closing = True

    async def landed(self) -> None:
        """Wait until no request is under way."""
        await self._none.wait()

    def pump(self) -> None:
        """Start a worker for every delivery that may go now, a few in each turn of the loop.

        What a turn writes leaves at its end: the first request need not wait until the last one is signed.
        """
        if not self._pumping:
            self._pump_some()

    def _pump_some(self) -> None:
        assert self._group is not None  # noqa: S101 - begin() comes first
        self._pumping = False
        for _ in range(_STARTED_IN_A_TURN):
            pending = self._take()
            if pending is None:
                return
            self._workers += 1
            self._none.clear()
            self._group.create_task(self._work(pending))
        self._pumping = True
        asyncio.get_running_loop().call_soon(self._pump_some)

    def _take(self) -> Pending | None:
        if self._closing or not self._lease.may_send():
            return None
        now_ns = time.monotonic_ns()
        pending = self._lanes.take(now_ns)
        next_ns = self._lanes.rates.next_ns
        if pending is None and self._lanes.right_of_way.until_ns > now_ns:
            next_ns = min(next_ns, self._lanes.right_of_way.until_ns)
        if next_ns < self._timer_ns:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ns = next_ns
            wait_s = max(_LEAST_SLEEP_S, (next_ns - now_ns) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._time_came)
        return pending

    def _time_came(self) -> None:
        self._timer, self._timer_ns = None, NEVER_NS
        self.pump()

    def cut_off(self, reason: str) -> None:
        """End every request under way: another process may send the same delivery, now or soon."""
        self._why_cut = reason
        for task in self._sending - self._cut:  # twice would be taken for the end of the run
            self._cut.add(task)
            task.cancel()

    async def _work(self, first: Pending) -> None:
        pending: Pending | None = first
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        try:
            while pending is not None:
                try:
                    await self._attempt(pending, task)
                except OSError as error:
                    # The sender has no descriptor, memory or thread left: nothing went out.
                    log.error("no resources to send with", error=str(error), in_flight=self._lanes.in_flight)  # noqa: TRY400
                    await self._interrupted(pending, f"no resources to send with: {error}", _WITHOUT_MEANS)
                except Exception:
                    # A bug of ours, met on this delivery alone, must not end the run: it would meet it again.
                    log.exception("attempt broke", outbox_id=pending.key.outbox_id)
                    await self._interrupted(pending, "internal error", _AFTER_A_BUG)
                if self._workers > _FEW:
                    await asyncio.sleep(0)  # in step
                pending = self._take()
        finally:
            self._workers -= 1
            if not self._workers:
                self._none.set()

    async def _attempt(self, pending: Pending, task: asyncio.Task[None]) -> None:
        started_at = utc_now()
        webhook = self._registry.webhooks.get(pending.key.webhook_id)
        if webhook is None or webhook.why_inactive is not None or webhook.judges_relevance:
            webhook = await self._unless_closed(pending, webhook, started_at)
            if webhook is None:
                return
        delivery_id = pending.public_id or self._ids.encode(pending.key)
        headers = heading(pending, delivery_id, webhook, started_at, self._traces)
        message = Message(webhook.url, headers, pending.payload.body, webhook.ca_certificates)
        self._sending.add(task)
        try:
            if self._lanes.in_flight_in[pending.lane] > _FEW:
                await asyncio.sleep(0)  # in step
            clock_ns = time.perf_counter_ns()
            # Asked as it leaves: a process that was frozen wakes up anywhere, and a connect takes seconds.
            outcome = await self._sender.send(message, partial(self._may_leave, webhook))
        except asyncio.CancelledError:
            if not self._is_cut_off(task):
                raise  # the run itself ends
            outcome = None
        finally:
            self._sending.discard(task)
            self._cut.discard(task)
        if outcome is None:
            await self._interrupted(pending, self._why_not_sent(webhook), dt.timedelta())
            return
        duration_us = (time.perf_counter_ns() - clock_ns) // 1000
        if self._traces is not None:
            receiver = Receiver(delivery_id, webhook.public_id, webhook.url)
            self._traces.attempted(pending, receiver, started_at, duration_us / 1e6, outcome)
        if not isinstance(outcome, Answered) and outcome.own_fault:
            await self._faulted(pending, outcome, duration_us / 1e6)
            return
        self._lanes.landed(pending)
        ended_at = started_at + dt.timedelta(microseconds=duration_us)
        trigger = pending.told_trigger
        verdict = self._judge(pending, trigger, ended_at, outcome)
        ended = Ended(
            pending=pending,
            delivery_id=delivery_id,
            webhook=webhook,
            trigger=trigger,
            started_at=started_at,
            ended_at=ended_at,
            duration_us=duration_us,
            headers=headers,
            outcome=outcome,
            verdict=verdict,
        )
        fact = ended.fact()
        ended.report(self._lane_metrics[pending.lane])
        if verdict.state is State.PENDING:
            fact = await self._unless_stopped(fact, pending)
        await self._recorder.put(fact, pending)

    def _may_leave(self, webhook: Webhook) -> bool:
        """Say whether a request may go: we lead, and its webhook is what it was when that was signed."""
        return self._lease.may_send() and self._registry.webhooks.get(webhook.id) is webhook

    def _why_not_sent(self, webhook: Webhook) -> str:
        changed = self._registry.webhooks.get(webhook.id) is not webhook
        return "the webhook was changed" if changed else self._why_cut

    async def _unless_closed(
        self, pending: Pending, webhook: Webhook | None, now: dt.datetime
    ) -> Webhook | None:
        """Give the webhook to send to; None where the delivery is closed or put off instead."""
        reason = _why_not(webhook, test=pending.payload.test)
        if webhook is None or reason is not None:
            await self._cancel(pending, reason or "webhook deleted")
            return None
        left_out = webhook.judges_relevance and await self._left_out(pending, webhook, now)
        return None if left_out else webhook

    async def _cancel(self, pending: Pending, reason: str) -> None:
        """Close a delivery without the attempt."""
        self._lanes.landed(pending, sent=False)
        fact = cancelled(pending.key, pending.attempt_no, pending.failures, reason, pending.state)
        await self._recorder.put(fact, pending)

    async def _left_out(self, pending: Pending, webhook: Webhook, now: dt.datetime) -> bool:
        """Close or postpone a delivery that does not matter to its webhook now."""
        found = irrelevant(pending, webhook, self._order, now)
        if found is None:
            return False
        self._lanes.landed(pending, sent=False)
        for fact, closed in without_attempt(pending, found):
            await self._recorder.put(fact, closed)
        return True

    def _judge(self, pending: Pending, trigger: Trigger, ended_at: dt.datetime, outcome: Outcome) -> Verdict:
        return judge(
            outcome,
            trigger=trigger,
            state=pending.state,
            failures=pending.failures,
            ended_at=ended_at,
            delays_s=self._config.retry_delays_s,
            retry_after_max_s=self._config.retry_after_max_s,
        )

    async def _unless_stopped(self, fact: FactRow, pending: Pending) -> FactRow:
        """Give the fact of an attempt; where its webhook was deactivated meanwhile, the one that follows."""
        webhook = self._registry.webhooks.get(pending.key.webhook_id)
        reason = _why_not(webhook, test=pending.payload.test)
        if reason is None:
            return fact
        await self._recorder.put(fact, None)
        return cancelled(pending.key, pending.attempt_no + 1, fact.failures, reason)

    def _is_cut_off(self, task: asyncio.Task[None]) -> bool:
        """Say whether a worker was cancelled for the sake of its request alone, and is to go on."""
        return task in self._cut and not task.uncancel()

    async def _faulted(self, pending: Pending, outcome: NoAnswer, duration_s: float) -> None:
        """Record that nothing left for the receiver, by a fault on our side such as the egress proxy's."""
        self._lane_metrics[pending.lane].attempted("retry", outcome.error, duration_s)
        log.warning(
            "attempt faulted",
            delivery=self._ids.encode(pending.key),
            attempt=pending.attempt_no,
            error=outcome.error,
            message=outcome.message,
        )
        await self._interrupted(
            pending, f"{outcome.error}: {outcome.message}", after_own_fault(pending.attempt_no)
        )

    async def _interrupted(self, pending: Pending, reason: str, after: dt.timedelta) -> None:
        """Record that an attempt ended on our side, whether it had left or not, and when the next is due."""
        if pending.in_flight:
            self._lanes.landed(pending)
        fact = FactRow(
            day=pending.key.day,
            outbox_id=pending.key.outbox_id,
            webhook_id=pending.key.webhook_id,
            attempt_no=pending.attempt_no,
            step=STEP[Kind.INTERRUPTED],
            kind=Kind.INTERRUPTED,
            state=pending.state,
            trigger=pending.trigger,
            failures=pending.failures,
            reason=reason,
            next_attempt_at=utc_now() + after,
        )
        await self._recorder.put(fact, pending)


def _why_not(webhook: Webhook | None, *, test: bool) -> str | None:
    """Say why nothing may be sent to a webhook; None when it may. A test also goes to an inactive one."""
    if webhook is None:
        return "webhook deleted"
    return None if test and not webhook.deleted else webhook.why_inactive
