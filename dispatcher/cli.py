"""The command line: reads arguments and the configuration, runs one command, turns its end into a status.

0 done          1 done, but something was refused or failed
2 the arguments, the configuration, or something else that the operator can change
3 PostgreSQL is away
130 interrupted     141 the output's reader went away     143 told to end
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.config import Config, ConfigError, Log, load
from dispatcher.core.errors import DatabaseUnavailable, OperatorError
from dispatcher.store.embedded import EmbeddedError
from dispatcher.store.schema import migrate
from dispatcher.telemetry.log import configure
from dispatcher.tools import administration
from dispatcher.tools.arguments import DEFAULT_SCOPES, parse, parser
from dispatcher.tools.completion import completion
from dispatcher.tools.configuration import check_config
from dispatcher.tools.demo import demo
from dispatcher.tools.doctor import doctor
from dispatcher.tools.emit import emit
from dispatcher.tools.history import history
from dispatcher.tools.listen import Manner, listen
from dispatcher.tools.rebase import rebase
from dispatcher.tools.rekey import rekey
from dispatcher.tools.rows import Defaults
from dispatcher.tools.session import database_url
from dispatcher.tools.shards import shards
from dispatcher.tools.status import status
from dispatcher.tools.terminal import complain, result
from dispatcher.tools.top import top
from dispatcher.tools.verify import verify

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from types import FrameType


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status; `arguments` are the process's unless given."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack letters
    parsed = parse(arguments)
    try:
        return _execute(parsed)
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001, the unknown is raised again
        return _status(error)


def _execute(parsed: argparse.Namespace) -> int:
    if parsed.command in {"listen", "demo"}:  # need no configuration, so a wrong one is no obstacle
        configure(Log(level="warning"))
        return _run(_listen(parsed) if parsed.command == "listen" else demo(once=parsed.once))
    if parsed.command == "completion":
        return completion(parsed.shell, parser())
    read = partial(load, Path(parsed.config) if parsed.config is not None else None)
    config = read()
    if parsed.command == "serve":
        from dispatcher.app import serve  # noqa: PLC0415, every room: only the daemon needs them

        return serve(config, read)
    if parsed.command == "check-config":
        return check_config(config, as_json=parsed.json)
    # A command's own words go to the terminal; of the rooms it uses, what is worth a warning.
    configure(msgspec.structs.replace(config.log, level="warning"))
    return _run(_COMMANDS[parsed.command](config, parsed), reads_input=parsed.command == "emit")


async def _migrate(config: Config, parsed: argparse.Namespace) -> int:
    async with database_url(config, complete=False) as url:
        done = await migrate(url, config.database)
    words = [f"applied {name}" for name in done.applied]
    words.append("the schema was created" if done.created else "the schema is complete")
    result(done._asdict(), *words, as_json=parsed.json)
    return 0


async def _emit(config: Config, parsed: argparse.Namespace) -> int:
    file: str = parsed.file
    if parsed.format == "rows" and parsed.known is not None:
        raise OperatorError("--known: needs --format geojson or quakeml")
    if parsed.format != "rows":
        # The only word is the file then: what is in it says what it is.
        file, parsed.event_type = (file, "-") if parsed.event_type == "-" else (parsed.event_type, file)
        if parsed.event_type != "-" or parsed.dedup_key_field is not None:
            raise OperatorError(f"--format {parsed.format}: needs neither TYPE nor --dedup-key-field")
    defaults = Defaults(
        event_type=None if parsed.event_type == "-" else parsed.event_type,
        occurred_at=parsed.occurred_at,
        network_id=parsed.network_id,
        dedup_key_field=parsed.dedup_key_field,
    )
    return await emit(
        config,
        file,
        defaults,
        form=parsed.format,
        known_path=parsed.known,
        atomic=parsed.atomic,
        as_json=parsed.json,
    )


async def _listen(parsed: argparse.Namespace) -> int:
    fail_first: float = parsed.fail if parsed.fail is not None else 0
    if parsed.fail is None and (parsed.hang or parsed.status is not None):
        fail_first = math.inf
    manner = Manner(fail_first, parsed.status or 500, hang=parsed.hang, delay_s=parsed.delay)
    return await listen(
        host=parsed.host, port=parsed.port, secrets=parsed.secret, manner=manner, as_json=parsed.json
    )


async def _add_event_type(config: Config, parsed: argparse.Namespace) -> int:
    return await administration.add_event_type(
        config,
        parsed.name,
        description=parsed.description,
        fields=parsed.field,
        sample=parsed.sample,
        priority=parsed.priority,
        as_json=parsed.json,
    )


async def _history(config: Config, parsed: argparse.Namespace) -> int:
    return await history(
        config, parsed.webhook, limit=parsed.limit, follow=parsed.follow, as_json=parsed.json
    )


_COMMANDS: Final[Mapping[str, Callable[[Config, argparse.Namespace], Coroutine[None, None, int]]]] = {
    "migrate": _migrate,
    "org create": lambda config, parsed: administration.create_organization(
        config, parsed.name, parsed.network, as_json=parsed.json
    ),
    "org list": lambda config, parsed: administration.list_organizations(config, as_json=parsed.json),
    "key create": lambda config, parsed: administration.create_key(
        config,
        parsed.org,
        parsed.scope or DEFAULT_SCOPES,
        parsed.name,
        parsed.expires_in,
        as_json=parsed.json,
    ),
    "key list": lambda config, parsed: administration.list_keys(config, parsed.org, as_json=parsed.json),
    "key revoke": lambda config, parsed: administration.revoke_key(
        config, parsed.key_id, as_json=parsed.json
    ),
    "event-type add": _add_event_type,
    "event-type list": lambda config, parsed: administration.list_event_types(config, as_json=parsed.json),
    "emit": _emit,
    "history": _history,
    "doctor": lambda config, parsed: doctor(config, parsed.webhook, test=parsed.test, as_json=parsed.json),
    "status": lambda config, parsed: status(config, as_json=parsed.json),
    "top": lambda config, parsed: top(
        config, every_s=parsed.every, count=parsed.count, webhooks=parsed.webhooks, as_json=parsed.json
    ),
    "verify": lambda config, parsed: verify(config, since=parsed.since, as_json=parsed.json),
    "rekey": lambda config, parsed: rekey(config, parsed.new_key_file, as_json=parsed.json),
    "shards": lambda config, parsed: shards(config, parsed.count, as_json=parsed.json),
    "rebase": lambda config, parsed: rebase(
        config, yes=parsed.yes, same_xids=parsed.same_xids, as_json=parsed.json
    ),
}


def _run(work: Coroutine[None, None, int], *, reads_input: bool = False) -> int:
    """Run to the end, or until told to end: then what was started is ended in order."""
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


def _status(error: BaseException) -> int:
    """Say what went wrong, to the person who can change it, and give the exit status."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ConfigError():
            for problem in error.problems:
                complain(f"dispatcher: {problem}")
            return 2
        case OperatorError() | EmbeddedError():
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
