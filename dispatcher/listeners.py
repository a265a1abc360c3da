"""What listens: the operators' endpoints, the management API and the dashboard.

The second half of the composition root. It is loaded once what sends is under way: it takes as long to load.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import structlog
from aiohttp import web

from dispatcher.api.app import create_app
from dispatcher.api.context import ApiContext
from dispatcher.api.runner import Runner
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.errors import OperatorError
from dispatcher.daemon.ops import create_ops_app
from dispatcher.dashboard import Dashboard, DashboardContext

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from dispatcher.daemon.shared import Process
    from dispatcher.telemetry.metrics import Metrics

log = structlog.get_logger("daemon")


class Listeners:
    """Serves on sockets that are bound already, until the block ends."""

    def __init__(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        self._sockets = sockets
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def serve_ops(self, metrics: Metrics, problems: Callable[[], list[str]]) -> None:
        """Answer operators; `problems` gives a sentence for each reason not to be ready."""
        await self._listen(create_ops_app(metrics, problems), "ops")

    async def serve_api(self, process: Process) -> None:
        """Answer under `/v1`, and show the dashboard."""
        config, database, vault, ids = process.config, process.database, process.vault, process.ids
        policy = AddressPolicy(config.delivery.allowed_networks)
        app = create_app(ApiContext(database=database, vault=vault, ids=ids, config=config, policy=policy))
        Dashboard(
            DashboardContext(database=database, vault=vault, ids=ids, config=config, policy=policy)
        ).add_to(app)
        await self._listen(app, "api")

    async def _listen(self, app: web.Application, name: str) -> None:
        runner = Runner(app, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        for one in self._sockets[name]:
            site = web.SockSite(runner, one)
            try:
                await site.start()
            except OSError as error:
                raise OperatorError(f"{name}.listen: cannot listen: {error.strerror or error}") from error
            log.info("listening", on=name, address=site.name)
