"""The command line: reads arguments and the configuration, runs one command, turns its end into a status.

0 done          1 done, but something was refused or failed
2 the arguments, the configuration, or something else that the operator can change
3 PostgreSQL is away
130 interrupted     141 the output's reader went away     143 told to end
"""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dispatcher.core.errors import DatabaseUnavailable, OperatorError
from dispatcher.tools.arguments import parse, parser
from dispatcher.tools.commands import COMMANDS, WITHOUT_CONFIGURATION
from dispatcher.tools.completion import completion
from dispatcher.tools.terminal import complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine, Sequence
    from types import FrameType

    from dispatcher.config import Log


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; `arguments` are the process's unless given."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack letters
    parsed = parse(arguments)
    try:
        return _execute(parsed)
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001, the unknown is raised again
        return _end(error)


def _execute(parsed: argparse.Namespace) -> int:
    if parsed.command == "completion":
        return completion(parsed.shell, parser())
    from dispatcher.config import Log, load

    if parsed.command in WITHOUT_CONFIGURATION:
        return _run(WITHOUT_CONFIGURATION[parsed.command](parsed), Log())
    read = partial(load, Path(parsed.config) if parsed.config is not None else None)
    config = read()
    if parsed.command == "serve":
        gc.disable()  # until all is loaded: to look at it again and again would be a tenth of the start
        from dispatcher.app import serve

        return serve(config, read)
    if parsed.command == "check-config":
        from dispatcher.tools.configuration import check_config

        return check_config(config, as_json=parsed.json)
    return _run(COMMANDS[parsed.command](config, parsed), config.log, reads_input=parsed.command == "emit")


def _run(work: Coroutine[None, None, int], log: Log, *, reads_input: bool = False) -> int:
    """Run to the end, or until told to end: then what was started is ended in order.

    A command's own words go to the terminal; of the rooms it uses, what is worth a warning.
    """
    from msgspec.structs import replace

    from dispatcher.telemetry.log import configure

    configure(replace(log, level="warning"))
    if reads_input:  # its loop stands while it waits for a line: a cancelled task would not hear of it
        signal.signal(signal.SIGINT, _interrupt)
        return asyncio.run(work)

    async def until_told() -> int:
        task = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if task is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    return asyncio.run(until_told())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(error: BaseException) -> int:
    """Say what went wrong, to the person who can change it, and give the exit status."""
    from dispatcher.config import ConfigError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ConfigError():
            for problem in error.problems:
                complain(f"dispatcher: {problem}")
            return 2
        case OperatorError():
            complain(f"dispatcher: {error}")
            return 2
        case DatabaseUnavailable():
            complain(f"dispatcher: PostgreSQL is away: {error}")
            return 3
        case KeyboardInterrupt():
            return 130
        case asyncio.CancelledError():
            return 143
        case BrokenPipeError():
            # Whatever is still buffered has no reader; without this the interpreter complains at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case _:
            raise error
