"""The composition root: the only module that knows every room, and the life of the daemon's process."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvloop
from aiohttp import web

from dispatcher import __version__
from dispatcher.api.app import create_app
from dispatcher.api.context import ApiContext
from dispatcher.api.runner import Runner
from dispatcher.config import Config, ConfigError, changed, listen_address
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.errors import DrainExpired, OperatorError
from dispatcher.core.ids import DeliveryIds
from dispatcher.daemon.gauges import show_process
from dispatcher.daemon.housekeeping import Housekeeping
from dispatcher.daemon.ops import create_ops_app
from dispatcher.daemon.outage import Outage
from dispatcher.daemon.shared import Process
from dispatcher.daemon.sharing import Sharing
from dispatcher.daemon.systemd import Service, listen_fds, notify, watchdog_interval_s
from dispatcher.dashboard import Dashboard, DashboardContext
from dispatcher.diagnosis.machine import FILES_BESIDE_REQUESTS
from dispatcher.sender import HttpSender
from dispatcher.store.connection import Database
from dispatcher.store.embedded import EmbeddedServer
from dispatcher.store.installation import Installation
from dispatcher.store.refusals import operator_mistakes
from dispatcher.store.schema import migrate, require_schema
from dispatcher.store.vault import Vault, configured_vault
from dispatcher.telemetry.health import Health
from dispatcher.telemetry.log import configure
from dispatcher.telemetry.metrics import Metrics
from dispatcher.telemetry.tracing import open_traces

_WATCH_EVERY_S: Final = 1.0

log = structlog.get_logger("daemon")


def serve(config: Config, read_again: Callable[[], Config]) -> int:
    """Run the daemon until SIGTERM or SIGINT; give the exit status. SIGHUP reads the configuration again."""
    configure(config.log)
    _check_file_limit(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, read_again))


def _check_file_limit(config: Config) -> None:
    """Raise the limit of open files as far as needed and allowed; every request in flight needs one."""
    needed = config.delivery.max_in_flight + FILES_BESIDE_REQUESTS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OperatorError(
            f"delivery.max_in_flight = {config.delivery.max_in_flight} needs {needed} open files, but this "
            f"process may open {hard}: raise the limit (LimitNOFILE=, ulimit -n) or lower the setting"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _serve(config: Config, read_again: Callable[[], Config]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    service = Service(f"grillo-dispatcher {__version__}")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, service.reload, partial(_reload, config, read_again))
    metrics, health = Metrics(), Health()
    outage = Outage(metrics, service.database_is)
    vault = configured_vault(config)
    sockets = listen_fds()
    starting = True

    def problems() -> list[str]:
        away = outage.reason
        if away is not None:
            return [f"database: {away}"]
        return ["starting"] if starting else health.late()

    async with AsyncExitStack() as stack, _beside() as run:
        run(_watchdog(lambda: outage.reason is not None or not health.late()))
        await _listen(stack, create_ops_app(metrics, problems), config.ops.listen, "ops", sockets)
        url, server = await _database_url(config, stack)
        database = Database(url, config.database)
        stack.push_async_callback(database.close)
        installation = await outage.patiently_until(stop, "start", partial(_open, database, config, vault))
        if installation is None:
            log.info("stopped")
            return 0
        ids = DeliveryIds(installation.id_key)
        sender = await stack.enter_async_context(HttpSender(config.delivery))
        process = Process(
            config=config,
            database=database,
            vault=vault,
            ids=ids,
            sender=sender,
            outage=outage,
            metrics=metrics,
            health=health,
            traces=await stack.enter_async_context(open_traces(config.tracing, installation.id_key)),
        )
        show_process(process)
        sharing = Sharing(process)
        policy = AddressPolicy(config.delivery.allowed_networks)
        api = create_app(ApiContext(database=database, vault=vault, ids=ids, config=config, policy=policy))
        Dashboard(
            DashboardContext(database=database, vault=vault, ids=ids, config=config, policy=policy)
        ).add_to(api)
        await _listen(stack, api, config.api.listen, "api", sockets)
        housekeeping = Housekeeping(process, leading=lambda: sharing.leading)
        # What is here now stays: the collector need not look at it again, nor look so often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        starting = False
        log.info("ready", version=__version__)
        service.ready()
        run(housekeeping.run())
        if server is not None:
            run(server.supervise())
        status = 0
        try:
            await sharing.work(stop)
        except DrainExpired:
            status = 1
        notify("STOPPING=1")
    log.info("stopped")
    return status


async def _open(database: Database, config: Config, vault: Vault) -> Installation:
    """Find out, once PostgreSQL answers, that the database is ours; `OperatorError` says what is wrong."""
    with operator_mistakes():
        await require_schema(database.url, config.database)
        return await Installation.load(database, vault)


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
    server = EmbeddedServer(
        Path(config.data_dir), bin_dir=config.database.bin_dir, port=config.database.port, log=log
    )
    url = await server.start()
    stack.push_async_callback(server.stop)
    await migrate(url, config.database)
    log.info("embedded PostgreSQL", psql=server.psql_line())
    return url, server


async def _listen(
    stack: AsyncExitStack, app: web.Application, listen: str, name: str, sockets: Mapping[str, socket.socket]
) -> None:
    runner = Runner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    given = sockets.get(name)
    host, port = listen_address(listen)
    site = web.SockSite(runner, given) if given is not None else web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        raise OperatorError(f"{name}.listen: cannot listen on {listen}: {error.strerror or error}") from error
    log.info("listening", on=name, address=site.name)


async def _watchdog(well: Callable[[], bool]) -> None:
    """Feed systemd's watchdog, but only while the loops make progress; an outage is no reason to die."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        if well():
            notify("WATCHDOG=1")
        await asyncio.sleep(min(interval_s, _WATCH_EVERY_S))
