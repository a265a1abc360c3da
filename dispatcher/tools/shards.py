"""`dispatcher shards`: how many shards the webhooks are divided into, and who holds which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.store.connection import INDEXED
from dispatcher.store.membership import Membership, reshard
from dispatcher.store.status import read_holders
from dispatcher.tools.session import open_database
from dispatcher.tools.terminal import duration, moment, printable, say, table

if TYPE_CHECKING:
    from dispatcher.config import Config
    from dispatcher.store.status import Leader


_HEAD: Final = ("SHARD", "HELD BY", "SINCE", "LEASE")


async def shards(config: Config, count: int | None, *, as_json: bool) -> int:
    """Print who holds which shard; with `count`, divide the webhooks into so many before.

    Raises `OperatorError` while a dispatcher holds one.
    """
    async with open_database(config) as database:
        link = database.link("shards")
        before = await Membership(link).shard_count()
        if count is not None:
            await reshard(database.link("reshard", INDEXED), count)
        held = await read_holders(link)
    if as_json:
        say(msgspec.json.encode({"count": len(held), "before": before, "shards": held}).decode())
        return 0
    if count is not None and count != before:
        say(f"the webhooks are divided into {count} shards; it was {before}")
    say(*table(_HEAD, [_row(number, one) for number, one in enumerate(held)]))
    return 0


def _row(number: int, holder: Leader | None) -> tuple[str, str, str, str]:
    if holder is None or not holder.holds:
        return str(number), "nobody", "-", "-"
    return str(number), printable(holder.who), moment(holder.since), duration(holder.lease_left_s)
