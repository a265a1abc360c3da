"""The composition root, and the life of the daemon's process.

How this works. What sends comes first: it takes the lead and sends what a crash left open. Then what listens
(`listeners.py`) is loaded, in a thread beside it. Where sending has to wait, for PostgreSQL or for another
process to end, nothing else does.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from dispatcher import __version__
from dispatcher.config import FILES_BESIDE_REQUESTS, Config, ConfigError, changed
from dispatcher.core.errors import DrainExpired, OperatorError
from dispatcher.core.ids import DeliveryIds
from dispatcher.daemon.gauges import show_process
from dispatcher.daemon.housekeeping import Housekeeping
from dispatcher.daemon.outage import Outage
from dispatcher.daemon.shared import Process
from dispatcher.daemon.sharing import Sharing
from dispatcher.daemon.sockets import bound
from dispatcher.daemon.systemd import Service, listen_fds, notify, watchdog_interval_s
from dispatcher.sender import HttpSender
from dispatcher.store.connection import Database, Link
from dispatcher.store.installation import Installation
from dispatcher.store.refusals import operator_mistakes
from dispatcher.store.schema import check_schema, migrate
from dispatcher.store.vault import Vault, configured_vault
from dispatcher.telemetry.health import Health
from dispatcher.telemetry.log import configure
from dispatcher.telemetry.metrics import Metrics
from dispatcher.telemetry.tracing import open_traces

if TYPE_CHECKING:
    from dispatcher.listeners import Listeners
    from dispatcher.store.embedded import EmbeddedServer

_WATCH_EVERY_S: Final = 1.0
_SENDING_FIRST_S: Final = (
    0.5  # what listens is loaded after so long at the latest, whatever sending waits for
)

log = structlog.get_logger("daemon")


def serve(config: Config, read_again: Callable[[], Config]) -> int:
    """Run the daemon until SIGTERM or SIGINT; give the exit status. SIGHUP reads the configuration again."""
    # What is loaded stays: the collector need not look at it again, nor look so often.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    configure(config.log)
    _check_file_limit(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, read_again))


def _check_file_limit(config: Config) -> None:
    """Raise the limit of open files as far as needed and allowed; every request in flight needs one.

    A connection that gives way to another ends politely, which takes a moment: so twice as many, if allowed.
    """
    needed = config.delivery.max_in_flight + FILES_BESIDE_REQUESTS
    wanted = needed + config.delivery.max_in_flight
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most < needed:
        raise OperatorError(
            f"delivery.max_in_flight = {config.delivery.max_in_flight} needs {needed} open files, but this "
            f"process may open {hard}: raise the limit (LimitNOFILE=, ulimit -n) or lower the setting"
        )
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Start:
    """What there is before PostgreSQL answers, and what comes of it."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.stop = stop
        self.service = Service(f"grillo-dispatcher {__version__}")
        self.metrics, self.health = Metrics(), Health()
        self.outage = Outage(self.metrics, self.service.database_is)
        self.under_way = asyncio.Event()
        self.opened: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._listening = False

    def problems(self) -> list[str]:
        """Give a sentence for each reason not to be ready."""
        away = self.outage.reason
        if away is not None:
            return [f"database: {away}"]
        return self.health.late() if self._listening else ["starting"]

    def lives(self) -> bool:
        """Say whether the loops make progress; an outage is no reason to die."""
        return self.outage.reason is not None or not self.health.late()

    def end(self) -> None:
        """Begin to end, as a signal asks."""
        if not self.stop.is_set():
            self.service.stopping()
            self.stop.set()

    async def listen(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Let people and programs ask, once what sends is under way or has to wait; until cancelled."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SENDING_FIRST_S):
                await self.under_way.wait()
        listeners = await asyncio.to_thread(_listeners)
        async with listeners(sockets) as serving:
            await serving.serve_ops(self.metrics, self.problems)
            await serving.serve_api(await self.opened)
            gc.freeze()  # that too
            self._listening = True
            log.info("ready", version=__version__)
            self.service.ready()
            await asyncio.get_running_loop().create_future()


def _listeners() -> type[Listeners]:
    """Load what listens."""
    from dispatcher.listeners import Listeners  # noqa: PLC0415 - once what sends is under way

    return Listeners


async def _serve(config: Config, read_again: Callable[[], Config]) -> int:
    start = _Start(asyncio.Event())
    stop, outage = start.stop, start.outage
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, start.end)
    loop.add_signal_handler(signal.SIGHUP, start.service.reload, partial(_reload, config, read_again))
    vault = configured_vault(config)
    given = listen_fds()
    async with AsyncExitStack() as stack, _beside() as run:
        run(_watchdog(start.lives))
        run(start.listen({name: bound(name, getattr(config, name).listen, given) for name in ("ops", "api")}))
        url, server = await _database_url(config, stack)
        database = Database(url, config.database)
        stack.push_async_callback(database.close)
        link = database.link("sharing")
        async with asyncio.TaskGroup() as group:
            making = group.create_task(asyncio.to_thread(HttpSender, config.delivery))  # reads authorities
            opening = group.create_task(
                outage.patiently_until(stop, "start", partial(_open, link, vault, config))
            )
        installation = opening.result()
        if installation is None:
            log.info("stopped")
            return 0
        process = Process(
            config=config,
            database=database,
            vault=vault,
            ids=DeliveryIds(installation.id_key),
            sender=await stack.enter_async_context(making.result()),
            outage=outage,
            metrics=start.metrics,
            health=start.health,
            traces=await stack.enter_async_context(open_traces(config.tracing, installation.id_key)),
            under_way=start.under_way,
        )
        show_process(process)
        sharing = Sharing(process, link)
        start.opened.set_result(process)
        run(Housekeeping(process, leading=lambda: sharing.leading).run())
        if server is not None:
            run(server.supervise())
        status = 0
        try:
            await sharing.work(stop)
        except DrainExpired:
            status = 1
    log.info("stopped")
    return status


async def _open(link: Link, vault: Vault, config: Config) -> Installation:
    """Find out, once PostgreSQL answers, that the database is ours; `OperatorError` says what is wrong."""
    with operator_mistakes():
        async with link.use() as connection:
            await check_schema(connection)
        await link.execute("make_this_month", config.retention.months_ahead)  # nobody may have run for a year
        return await Installation.load(link, vault)


def _reload(config: Config, read_again: Callable[[], Config]) -> None:
    """Take over what can change while we run, `[log]`, and name what has to wait for a restart."""
    try:
        wanted = read_again()
    except ConfigError as error:
        log.error("the configuration was not reloaded", problems=error.problems)  # noqa: TRY400 - it says all
        return
    configure(wanted.log)
    later = [key for key in changed(config, wanted) if not key.startswith("log.")]
    log.info("the configuration was reloaded", log_level=wanted.log.level)
    if later:
        log.warning("settings that take effect at the next start", keys=later)


@asynccontextmanager
async def _beside() -> AsyncIterator[Callable[[Coroutine[None, None, None]], None]]:
    """Run loops beside the block; they end with it, and it ends when one of them fails."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        try:
            yield lambda loop: tasks.append(group.create_task(loop))
        finally:
            for task in tasks:
                task.cancel()


async def _database_url(config: Config, stack: AsyncExitStack) -> tuple[str, EmbeddedServer | None]:
    """Give the URL of the configured server, or of the embedded one, which then runs as long as we do."""
    if config.database.url:
        return config.database.url, None
    from dispatcher.store.embedded import EmbeddedServer  # noqa: PLC0415 - most have a server of their own

    server = EmbeddedServer(
        Path(config.data_dir), bin_dir=config.database.bin_dir, port=config.database.port, log=log
    )
    url = await server.start()
    stack.push_async_callback(server.stop)
    await migrate(url, config.database)
    log.info("embedded PostgreSQL", psql=server.psql_line())
    return url, server


async def _watchdog(well: Callable[[], bool]) -> None:
    """Feed systemd's watchdog, but only while the loops make progress; an outage is no reason to die."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        if well():
            notify("WATCHDOG=1")
        await asyncio.sleep(min(interval_s, _WATCH_EVERY_S))
