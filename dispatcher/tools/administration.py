"""The administrator's commands: organizations, API keys and event types."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.store import accounts, event_types
from dispatcher.tools.arguments import PRIORITIES
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import moment, result, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.config import Config

_PRIORITY_OF: Final = {lane: priority for priority, lane in PRIORITIES.items()}
_PAGE: Final = 100


async def create_organization(
    config: Config, name: str, network_ids: Sequence[str], *, as_json: bool = False
) -> int:
    """Make an organization and print its id; raises `OperatorError` where the name is taken."""
    if not name.strip():
        raise OperatorError("NAME: expected a name that is not empty")
    async with open_database(config, make=True) as database:
        organization = await accounts.create_organization(database, name, network_ids=network_ids)
    if organization is None:
        raise OperatorError(f"there is an organization {name!r} already")
    result(organization, organization.public_id, as_json=as_json)
    return 0


async def list_organizations(config: Config, *, as_json: bool) -> int:
    """Print all organizations."""
    async with open_database(config) as database:
        organizations = await accounts.list_organizations(database)
    rows = [
        (one.public_id, one.name, ", ".join(one.network_ids), moment(one.created_at)) for one in organizations
    ]
    _print_list(organizations, ("ID", "NAME", "NETWORKS", "CREATED"), rows, as_json=as_json)
    return 0


async def create_key(
    config: Config,
    organization: str,
    scopes: Sequence[str],
    name: str,
    expires_in_days: float | None,
    *,
    as_json: bool = False,
) -> int:
    """Make a key and print it, alone; raises `OperatorError` for an unknown organization."""
    expires_at = None
    if expires_in_days is not None:
        expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(days=expires_in_days)
    async with open_database(config, make=True) as database:
        new = await accounts.create_key(
            database, organization, scopes=scopes, name=name, expires_at=expires_at
        )
    if new is None:
        raise OperatorError(
            f"there is no organization {organization}: `dispatcher org create {organization}`"
        )
    result(new, new.key, as_json=as_json)
    return 0


async def list_keys(config: Config, organization: str | None, *, as_json: bool) -> int:
    """Print keys, of one organization or all; raises `OperatorError` for an unknown organization."""
    async with open_database(config) as database:
        keys = await accounts.list_keys(database, organization)
    if keys is None:
        raise OperatorError(f"there is no organization {organization}")
    now = dt.datetime.now(dt.UTC)
    rows = [
        (
            key.public_id,
            f"…{key.hint}",
            key.organization,
            key.name or "-",
            " ".join(key.scopes),
            _key_state(key, now),
            moment(key.created_at),
            moment(key.last_used_at),
        )
        for key in keys
    ]
    head = ("ID", "ENDS IN", "ORGANIZATION", "NAME", "SCOPES", "STATE", "CREATED", "LAST USED")
    _print_list(keys, head, rows, as_json=as_json)
    return 0


def _key_state(key: accounts.ListedKey, now: dt.datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {moment(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    return f"{'expired' if key.expires_at <= now else 'valid until'} {moment(key.expires_at)}"


async def revoke_key(config: Config, key_id: str, *, as_json: bool = False) -> int:
    """Revoke a key; raises `OperatorError` where there is none that is valid."""
    async with open_database(config) as database:
        revoked = await accounts.revoke_key(database, key_id)
    if not revoked:
        raise OperatorError(
            f"there is no key {key_id} that is not revoked; `dispatcher key list` shows the ids"
        )
    result({"revoked": key_id}, f"{key_id} is revoked", as_json=as_json)
    return 0


async def add_event_type(
    config: Config,
    name: str,
    *,
    description: str,
    fields: Sequence[str],
    sample: str | None,
    priority: str,
    as_json: bool = False,
) -> int:
    """Register an event type; `fields` as `name:kind`, `sample` as JSON or the path of a file of it."""
    wanted = _fields(fields)
    example = None if sample is None else _sample(sample)
    async with open_database(config, make=True) as database:
        added = await event_types.add(
            database,
            name,
            description=description,
            fields=wanted,
            sample=example,
            lane=PRIORITIES[priority],
        )
    if not added:
        raise OperatorError(f"there is an event type {name} already")
    result({"registered": name}, f"{name} is registered", as_json=as_json)
    return 0


def _fields(texts: Sequence[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for text in texts:
        name, _, kind = text.rpartition(":")
        if not name or not kind:
            raise OperatorError(f"--field {text}: expected NAME:KIND, such as magnitude:number")
        if name in fields:
            raise OperatorError(f"--field {text}: {name} is given twice")
        fields[name] = kind
    return fields


def _sample(text: str) -> Mapping[str, Any]:
    """Read a sample: JSON where it begins with a brace, else a file."""
    source = "--sample"
    if not text.lstrip().startswith("{"):
        source = text
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f"--sample {source}: cannot be read: {error}") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OperatorError(f"{source}: expected JSON: {error}") from error
    if not isinstance(value, dict):
        raise OperatorError(f"{source}: expected a JSON object, an example of `data`")
    return value


async def list_event_types(config: Config, *, as_json: bool) -> int:
    """Print all event types and the fields that they need."""
    found: list[event_types.EventType] = []
    async with open_database(config) as database:
        total = 1
        while len(found) < total:
            page, total = await event_types.page(database, offset=len(found), limit=_PAGE)
            if not page:
                break
            found += page
    rows = [
        (
            one.name,
            _PRIORITY_OF[one.lane],
            "built in" if one.built_in else "added",
            one.description,
            " ".join(f"{name}:{kind}" for name, kind in one.fields.items()),
        )
        for one in found
    ]
    _print_list(found, ("NAME", "PRIORITY", "ORIGIN", "DESCRIPTION", "FIELDS"), rows, as_json=as_json)
    return 0


def _print_list(
    records: Sequence[msgspec.Struct], head: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool
) -> None:
    """Print records as a table or, for programs, as one JSON object a line."""
    if as_json:
        say(*(msgspec.json.encode(record).decode() for record in records))
    else:
        say(*table(head, rows))
