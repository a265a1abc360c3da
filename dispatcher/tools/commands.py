"""What each command does, by its name.

A command imports its tool when it is given: so the daemon starts without the other commands' tools, and
`--help` answers without any.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from dispatcher.core.errors import OperatorError
from dispatcher.tools.arguments import DEFAULT_SCOPES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine, Mapping

    from dispatcher.config import Config


async def _migrate(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.store.schema import migrate
    from dispatcher.tools.session import database_url
    from dispatcher.tools.terminal import result

    async with database_url(config, complete=False, make=True) as url:
        done = await migrate(url, config.database)
    words = [f"applied {name}" for name in done.applied]
    words.append("the schema was created" if done.created else "the schema is complete")
    result(done._asdict(), *words, as_json=parsed.json)
    return 0


async def _create_organization(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.administration import create_organization

    return await create_organization(config, parsed.name, parsed.network, as_json=parsed.json)


async def _list_organizations(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.administration import list_organizations

    return await list_organizations(config, as_json=parsed.json)


async def _create_key(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.administration import create_key

    scopes = parsed.scope or DEFAULT_SCOPES
    return await create_key(config, parsed.org, scopes, parsed.name, parsed.expires_in, as_json=parsed.json)


async def _list_keys(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.administration import list_keys

    return await list_keys(config, parsed.org, as_json=parsed.json)


async def _revoke_key(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.administration import revoke_key

    return await revoke_key(config, parsed.key_id, as_json=parsed.json)


async def _emit(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.emit import emit
    from dispatcher.tools.rows import Defaults

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


async def _demo(parsed: argparse.Namespace) -> int:
    from dispatcher.tools.demo import demo

    return await demo(once=parsed.once)


async def _listen(parsed: argparse.Namespace) -> int:
    from dispatcher.tools.listen import Manner, listen

    fail_first: float = parsed.fail if parsed.fail is not None else 0
    if parsed.fail is None and (parsed.hang or parsed.status is not None):
        fail_first = math.inf
    manner = Manner(fail_first, parsed.status or 500, hang=parsed.hang, delay_s=parsed.delay)
    return await listen(
        host=parsed.host, port=parsed.port, secrets=parsed.secret, manner=manner, as_json=parsed.json
    )


async def _add_event_type(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.administration import add_event_type

    return await add_event_type(
        config,
        parsed.name,
        description=parsed.description,
        fields=parsed.field,
        sample=parsed.sample,
        priority=parsed.priority,
        as_json=parsed.json,
    )


async def _list_event_types(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.administration import list_event_types

    return await list_event_types(config, as_json=parsed.json)


async def _history(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.history import history

    return await history(
        config, parsed.webhook, limit=parsed.limit, follow=parsed.follow, as_json=parsed.json
    )


async def _doctor(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.doctor import doctor

    return await doctor(config, parsed.webhook, test=parsed.test, as_json=parsed.json)


async def _status(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.status import status

    return await status(config, as_json=parsed.json)


async def _top(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.top import top

    return await top(
        config, every_s=parsed.every, count=parsed.count, webhooks=parsed.webhooks, as_json=parsed.json
    )


async def _verify(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.verify import verify

    return await verify(config, since=parsed.since, as_json=parsed.json)


async def _rekey(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.rekey import rekey

    return await rekey(config, parsed.new_key_file, as_json=parsed.json)


async def _shards(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.shards import shards

    return await shards(config, parsed.count, as_json=parsed.json)


async def _rebase(config: Config, parsed: argparse.Namespace) -> int:
    from dispatcher.tools.rebase import rebase

    return await rebase(config, yes=parsed.yes, same_xids=parsed.same_xids, as_json=parsed.json)


COMMANDS: Final[Mapping[str, Callable[[Config, argparse.Namespace], Coroutine[None, None, int]]]] = {
    "migrate": _migrate,
    "org create": _create_organization,
    "org list": _list_organizations,
    "key create": _create_key,
    "key list": _list_keys,
    "key revoke": _revoke_key,
    "event-type add": _add_event_type,
    "event-type list": _list_event_types,
    "emit": _emit,
    "history": _history,
    "doctor": _doctor,
    "status": _status,
    "top": _top,
    "verify": _verify,
    "rekey": _rekey,
    "shards": _shards,
    "rebase": _rebase,
}
# These need no configuration, so a wrong one is no obstacle.
WITHOUT_CONFIGURATION: Final[Mapping[str, Callable[[argparse.Namespace], Coroutine[None, None, int]]]] = {
    "listen": _listen,
    "demo": _demo,
}
