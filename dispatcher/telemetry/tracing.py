"""Turns tracing on where a collector is configured; otherwise nothing of OpenTelemetry is loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dispatcher.config import Tracing
from dispatcher.core.errors import OperatorError
from dispatcher.core.trace import TraceIds
from dispatcher.telemetry.traces import Traces


@asynccontextmanager
async def open_traces(config: Tracing, id_key: bytes) -> AsyncIterator[Traces | None]:
    """Give what makes spans during the block, None where tracing is off; what is left is sent at its end.

    Raises `OperatorError` where the extra is not installed. `id_key` is the installation's.
    """
    if not config.endpoint:
        yield None
        return
    try:
        from dispatcher.telemetry.otlp import OtlpExporter  # noqa: PLC0415 - an extra, loaded when it is used
    except ModuleNotFoundError as error:
        raise OperatorError(
            f"tracing.endpoint: {error.name} is not installed: pip install 'grillo-dispatcher[otel]', or "
            "leave the setting empty"
        ) from error
    exporter = OtlpExporter(config.endpoint)
    try:
        yield Traces(TraceIds(id_key, config.sample_ratio), exporter, propagate=config.propagate)
    finally:
        await exporter.close()
