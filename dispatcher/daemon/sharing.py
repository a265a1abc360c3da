"""Holds as many shards as are due to this process, and works for each until it is lost or handed over.

How this works. With one shard, the default, whoever takes it works and the others stand by. With more, each
process says twice a second that it is there, sees who else is and who holds what, and goes a step towards
fair shares (core/sharing.py): it takes shards that are free, or hands one over: that shard's requests under
way are answered, its facts become durable, and its lease is given back at once. Nothing else is ever moved,
and two processes work for one webhook at no time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from dispatcher.core.errors import DrainExpired, LeaseLost
from dispatcher.core.sharing import Shard, plan
from dispatcher.daemon.gauges import show_runs
from dispatcher.daemon.run import Run, limits_of
from dispatcher.store.lease import Lease, ShardsChanged
from dispatcher.store.membership import Membership, View

if TYPE_CHECKING:
    from dispatcher.daemon.shared import Process
    from dispatcher.store.connection import Link

_ASK_EVERY_S: Final = 0.5
_BLIND_S: Final = 3.0  # others may have been cut off as long as we were: let them come back first
# What a request under way may take while another process waits for its shard: the guide asks receivers to
# answer within this time. It is what handing over a shard may cost its other webhooks.
_PATIENCE_S: Final = 5.0
_LEAVE_S: Final = 2.0

log = structlog.get_logger("leadership")


@dataclass
class _Held:
    """A shard of ours."""

    run: Run
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class Sharing:
    """The process's part of the webhooks."""

    def __init__(self, process: Process, link: Link) -> None:
        self._process = process
        self._outage = process.outage
        self._link = link
        self._renewals = process.database.link("lease")
        self._membership = Membership(self._link)
        self._count: int | None = None  # of all shards
        self._held: dict[int, _Held] = {}
        self._others = False  # there is another process to take what we give
        self._standing_by = False
        self._ending = False
        self._looked_at = time.monotonic()
        self._expired: DrainExpired | None = None
        self._wake = asyncio.Event()

    @property
    def leading(self) -> bool:
        """Whether this process reads the outbox for all."""
        return 0 in self._held

    async def work(self, stop: asyncio.Event) -> None:
        """Hold shards whenever possible until `stop` is set, and drain then.

        Raises `DrainExpired` when requests had to be cut off.
        """
        async with asyncio.TaskGroup() as group:
            waking = group.create_task(self._wake_at(stop))
            while not stop.is_set():
                self._wake.clear()
                if self._count is None:
                    ask = self._membership.shard_count
                    self._count = await self._outage.patiently_until(stop, "sharing", ask)
                    continue
                if self._count > 1 or not self._held:
                    await self._outage.patiently_until(stop, "sharing", partial(self._step, group))
                await self._rest()
            self._ending = True
            for held in self._held.values():
                if self._others:
                    held.run.hurry(_PATIENCE_S)
                held.stop.set()
            await self._leave()
            waking.cancel()
        if self._expired is not None:
            raise self._expired

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _rest(self) -> None:
        """Wait until it is time to look again: with all there is in our hands, until it is not."""
        sole = self._count == 1 and bool(self._held)
        try:
            async with asyncio.timeout(None if sole else _ASK_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _leave(self) -> None:
        if self._count == 1:
            return
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._outage.patiently("sharing", self._membership.leave)
        except TimeoutError:
            log.warning("the other processes could not be told that this one leaves")

    async def _step(self, group: asyncio.TaskGroup) -> None:
        assert self._count is not None  # noqa: S101 - it was asked for first
        try:
            if self._count == 1:
                await self._take(group, 0)
            else:
                await self._share(group)
        except ShardsChanged:
            self._count = None
            return
        if self._held:
            self._standing_by = False
        elif not self._standing_by:
            self._standing_by = True
            self._process.under_way.set()
            sole = self._count == 1
            log.info("standing by: another process leads" if sole else "standing by: others hold every shard")

    async def _share(self, group: asyncio.TaskGroup) -> None:
        view = await self._membership.look()
        now, before = time.monotonic(), self._looked_at
        self._looked_at = now
        self._others = any(one != self._membership.me for one in view.members)
        if now - before > _BLIND_S:
            return
        mine = [number for number, held in self._held.items() if not held.stop.is_set()]
        todo = plan(self._membership.me, view.members, self._holders(view), mine)
        for number in todo.take:
            await self._take(group, number)
        if todo.release is not None and len(mine) == len(self._held):  # one at a time
            log.info("handing a shard over", shard=todo.release)
            held = self._held[todo.release]
            held.run.hurry(_PATIENCE_S)
            held.stop.set()

    def _holders(self, view: View) -> dict[int, str | None]:
        """Give who holds what; what stands in our name without a run of ours has ended, and is free."""
        me = self._membership.me
        return {
            number: None if holder == me and number not in self._held else holder
            for number, holder in view.holders.items()
        }

    async def _take(self, group: asyncio.TaskGroup, number: int) -> None:
        assert self._count is not None  # noqa: S101 - it was asked for first
        if number in self._held:
            return
        lease = Lease(self._renewals, Shard(number, self._count), taking=self._link)
        run_id = await lease.take()
        if run_id is not None:
            held = _Held(Run(self._process, lease, run_id))
            self._held[number] = held
            self._divide()
            group.create_task(self._work(number, held))

    async def _work(self, number: int, held: _Held) -> None:
        try:
            await held.run.work(held.stop)
        except LeaseLost as lost:
            log.warning("lead lost", reason=str(lost))
        except DrainExpired as expired:
            log.warning("drain expired", reason=str(expired))
            if self._ending:
                self._expired = expired
        finally:
            del self._held[number]
            self._divide()
            self._wake.set()

    def _divide(self) -> None:
        """Let the runs share what the settings allow the process, and show what they hold."""
        runs = [held.run for held in self._held.values()]
        for run in runs:
            run.lanes.bound(limits_of(self._process.config.delivery, len(runs)))
        metrics = self._process.metrics
        metrics.lease_held.set(self.leading)
        metrics.shards_held.set(len(runs))
        show_runs(metrics, runs)
        if not runs:
            metrics.rest()
        elif not self.leading:
            metrics.rest_tails()
