"""A position says of every row whether it has been read: what `dispatcher verify` relies on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.snapshot import Position, Snapshot

XIDS = st.integers(10, 30)


@st.composite
def snapshots(draw: st.DrawFn, after: Snapshot | None = None) -> Snapshot:
    """Draw a snapshot; `after` another one, it sees at least what that one sees."""
    xmax = draw(st.integers(after.xmax if after else 10, 30))
    could_be_open = [xid for xid in range(10, xmax) if after is None or not after.sees(xid)]
    still = draw(st.frozensets(st.sampled_from(could_be_open))) if could_be_open else frozenset()
    return Snapshot(min(still, default=xmax), xmax, still)


@given(data=st.data(), rows=st.sets(st.tuples(XIDS, st.integers(1, 9)), max_size=30))
def test_a_row_is_covered_exactly_when_it_was_read(data: st.DataObject, rows: set[tuple[int, int]]) -> None:
    """Whatever the snapshots, and wherever between them the reading stands."""
    done = data.draw(snapshots())
    target = data.draw(snapshots(done))
    between = [row for row in rows if target.sees(row[0]) and not done.sees(row[0])]
    stragglers = sorted(row for row in between if row[0] < done.xmax)
    in_order = stragglers + sorted(row for row in between if row[0] >= done.xmax)
    read = {row for row in rows if done.sees(row[0])}
    start = Position.after(done)
    assert read == {row for row in rows if start.covers(*row)}
    for row in in_order:
        read.add(row)
        position = start.advanced(target, *row)
        assert read == {one for one in rows if position.covers(*one)}
    assert {row for row in rows if target.sees(row[0])} == {
        row for row in rows if Position.after(target).covers(*row)
    }
