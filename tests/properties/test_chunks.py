"""An event for very many webhooks in chunks: everybody once, hosts in turns, the first chunk small."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.chunks import in_turns, sizes
from dispatcher.core.ids import WebhookId


@given(st.lists(st.sampled_from("abcd"), max_size=60))
def test_hosts_take_turns(hosts: list[str]) -> None:
    """Everybody once; none has had two turns more than one that still waits; the order of each is kept."""
    host_of = {WebhookId(number): host for number, host in enumerate(hosts)}
    order = in_turns(list(host_of), host_of.__getitem__)
    assert list(host_of) == sorted(order)
    for host in set(hosts):
        own = [number for number in order if host_of[number] == host]
        assert sorted(own) == own
    for end in range(1, len(order)):
        had = [host_of[number] for number in order[:end]]
        waiting = {host_of[number] for number in order[end:]}
        most = max(map(had.count, had))
        assert all(had.count(host) >= most - 1 for host in waiting)


@given(st.integers(1, 9), st.integers(1, 99))
def test_chunks_grow(first: int, most: int) -> None:
    """From the first size, never beyond the largest."""
    some = list(islice(sizes(first, most), 12))
    assert min(first, most) == some[0]
    assert sorted(some) == some
    assert most == some[-1]
