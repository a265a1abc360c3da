"""Runs the demo from the first process to the last check."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
from typing import TYPE_CHECKING, Final

import aiohttp

from dispatcher.core.access import READ, WRITE
from dispatcher.core.errors import DispatcherError, OperatorError
from dispatcher.store.accounts import create_key
from dispatcher.store.producer import Producer, Written, open_producer
from dispatcher.store.recent import Recent
from dispatcher.tools.demo.api import ManagementApi
from dispatcher.tools.demo.daemon import Daemon, running_daemon
from dispatcher.tools.demo.screen import Screen
from dispatcher.tools.demo.story import RETRY_DELAYS_S, SUBSCRIBERS, Scene, Subscriber, read_story
from dispatcher.tools.demo.tally import Tally
from dispatcher.tools.receiver import Endpoint, Reply, receiving
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import complain

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispatcher.tools.receipt import Receipt

_PACE_S: Final = 1.2  # between events, for people
_PACE_ONCE_S: Final = 0.05
_REACH_WITHIN_S: Final = 5.0  # a scene waits this long for its deliveries, then the story goes on
_SETTLE_WITHIN_S: Final = 10.0 + sum(RETRY_DELAYS_S)
_POLL_S: Final = 0.05


async def demo(*, once: bool) -> int:
    """Run the demo; with `once` it ends by itself, 0 only if all that it expected came true, else 1."""
    status = 1
    try:
        status = await _Demo().run(once=once)
    except* DispatcherError as group:
        for error in group.exceptions:
            complain(f"✗ {error}")
    return status


class _Demo:
    """One run: what its tasks share."""

    def __init__(self) -> None:
        self._screen = Screen()
        self._story = read_story()
        self._tally = Tally(SUBSCRIBERS)
        self._endpoints: dict[str, Endpoint] = {}
        self._arrived: asyncio.Queue[tuple[Receipt, Reply]] = asyncio.Queue()
        self._changed = asyncio.Event()  # something arrived
        self._shown = 0  # the number of the scene on the screen

    async def run(self, *, once: bool) -> int:
        async with contextlib.AsyncExitStack() as stack:
            receiver = receiving(
                host="127.0.0.1",
                port=0,
                find=self._endpoints.get,
                on_request=lambda receipt, reply: self._arrived.put_nowait((receipt, reply)),
            )
            receiver_url = await stack.enter_async_context(receiver)
            self._screen.step(f"a receiver listens on {receiver_url}")
            self._screen.step("starting PostgreSQL and `dispatcher serve` (the first start makes a database)")
            daemon = await stack.enter_async_context(running_daemon())
            self._screen.step(f"ready; its management API is {daemon.api_url}/v1")
            return await self._watched(daemon, receiver_url, once=once)

    async def _watched(self, daemon: Daemon, receiver_url: str, *, once: bool) -> int:
        """Tell the story while the daemon lives; its death ends everything with its last words."""
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(daemon.ended()), tasks.create_task(self._show_arrivals())]
            status = await self._tell(daemon, receiver_url, once=once)
            for task in others:
                task.cancel()
        return status

    async def _tell(self, daemon: Daemon, receiver_url: str, *, once: bool) -> int:
        async with open_database(daemon.config) as database:
            new = await create_key(database, scopes=(READ, WRITE), name="demo")
            if new is None:
                raise OperatorError("the organization `default` is missing")
            await self._register(daemon, receiver_url, new.key)
            async with open_producer(database.url, daemon.config.database) as producer:
                for scene in self._story:
                    await self._play(producer, scene)
                    await asyncio.sleep(_PACE_ONCE_S if once else _PACE_S)
            await self._until(lambda: not any(self._tally.problems()), _SETTLE_WITHIN_S)
            problems = list(self._tally.problems())
            problems += await self._history_problems(Recent(database))
        self._screen.summary(self._tally, problems)
        if not once:
            self._screen.invitation(daemon, new.key)
            await asyncio.Event().wait()
        return 1 if problems else 0

    async def _register(self, daemon: Daemon, receiver_url: str, key: str) -> None:
        async with aiohttp.ClientSession() as session:
            api = ManagementApi(session, daemon.api_url, key)
            for subscriber in SUBSCRIBERS:
                url = receiver_url + subscriber.path
                webhook, secret = await api.create_webhook(url, list(subscriber.events), subscriber.secret)
                self._endpoints[subscriber.path] = Endpoint((secret,), _reply(subscriber))
                self._screen.webhook(subscriber, webhook)
        self._screen.delays()

    async def _play(self, producer: Producer, scene: Scene) -> None:
        """Insert an event as upstream would, and wait for it to arrive everywhere."""
        async with producer.transaction():
            written = await producer.insert(scene.event)
            if written is not Written.INSERTED:
                raise RuntimeError(f"story.jsonl, line {scene.number}: {written}")
            self._screen.scene(scene, len(self._story))
            self._shown = scene.number
            self._tally.committing(scene, dt.datetime.now(dt.UTC))
        await self._until(lambda: self._tally.reached(scene), _REACH_WITHIN_S)

    async def _until(self, fact: Callable[[], bool], within_s: float) -> None:
        """Wait for a fact, but not for ever: what is not true by then is found by the checks."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not fact():
                    self._changed.clear()
                    await self._changed.wait()

    async def _show_arrivals(self) -> None:
        while True:
            receipt, reply = await self._arrived.get()
            arrival = self._tally.arrived(receipt, reply)
            self._changed.set()
            if arrival is None:
                self._screen.stranger(receipt, reply)
            else:
                self._screen.arrival(arrival, late=arrival.scene.number != self._shown)

    async def _history_problems(self, recent: Recent) -> list[str]:
        """Compare with the database, which hears of an answer a moment after the receiver gave it."""
        limit = self._tally.expected + 1  # one more would be one too many
        deadline = asyncio.get_running_loop().time() + _REACH_WITHIN_S
        while True:
            problems = list(self._tally.problems_of_history(await recent.deliveries(None, limit)))
            if not problems or asyncio.get_running_loop().time() >= deadline:
                return problems
            await asyncio.sleep(_POLL_S)


def _reply(subscriber: Subscriber) -> Callable[[Receipt], Reply]:
    """Give what a subscriber answers: 200, but for the first request of one that fails once."""
    first = itertools.count()
    return lambda _receipt: Reply(500 if subscriber.fails_once and next(first) == 0 else 200)
