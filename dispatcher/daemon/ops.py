"""What operators ask over HTTP, on a listener of their own: `/metrics`, `/livez`, `/readyz`.

`/livez` says that the process answers. `/readyz` says whether it does its work, and if not, why: the database
answers, this process or another one leads, and every loop makes progress.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from dispatcher.telemetry.metrics import Metrics


def create_ops_app(metrics: Metrics, problems: Callable[[], list[str]]) -> web.Application:
    """Make the application; `problems` gives a sentence for each reason not to be ready."""

    async def show_metrics(request: web.Request) -> web.Response:
        page, content_type = metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def show_live(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def show_ready(_request: web.Request) -> web.Response:
        found = problems()
        status = "not ready" if found else "ready"
        return web.json_response({"status": status, "problems": found}, status=503 if found else 200)

    app = web.Application()
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/livez", show_live)
    app.router.add_get("/readyz", show_ready)
    return app
