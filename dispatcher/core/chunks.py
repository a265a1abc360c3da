"""How an event that goes to very many webhooks is divided: who comes first, and how many at a time.

The first chunk is small, so that the first request leaves soon; the following ones grow, so that the last is
not late. Hosts take turns in them: one that has very many webhooks does not come before all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from dispatcher.core.ids import WebhookId


def in_turns(webhook_ids: Sequence[WebhookId], host_of: Callable[[WebhookId], str]) -> list[WebhookId]:
    """Give the first webhook of each host, then the second of each, and so on; else in the order given."""
    counts: dict[str, int] = {}
    turns: list[tuple[int, WebhookId]] = []
    for webhook_id in webhook_ids:
        host = host_of(webhook_id)
        turn = counts[host] = counts.get(host, 0) + 1
        turns.append((turn, webhook_id))
    turns.sort(key=itemgetter(0))
    return [webhook_id for _, webhook_id in turns]


def sizes(first: int, most: int) -> Iterator[int]:
    """Give the sizes of the chunks, without end: each is twice the one before, up to `most`."""
    size = min(first, most)
    while True:
        yield size
        size = min(2 * size, most)
