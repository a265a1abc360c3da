"""`dispatcher emit`: inserts events from a file or standard input, as a producer would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypeAlias

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.store.producer import Producer, Refused, Written, open_producer
from dispatcher.tools.formats.geojson import read_geojson
from dispatcher.tools.formats.known import Known
from dispatcher.tools.formats.quake import NoQuakeError, Quake, rows_of
from dispatcher.tools.formats.quakeml import read_quakeml
from dispatcher.tools.rows import Defaults, Read, Row, Unreadable, read_rows
from dispatcher.tools.session import database_url
from dispatcher.tools.terminal import complain, printable, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dispatcher.config import Config


class Tally(msgspec.Struct):
    """How many rows went in, were there already by their dedup_key, or were refused."""

    inserted: int = 0
    already_there: int = 0
    refused: int = 0

    def __str__(self) -> str:
        """Say it in a line."""
        parts = [f"{self.inserted} inserted"]
        parts += [f"{self.already_there} already there"] if self.already_there else []
        parts += [f"{self.refused} refused"] if self.refused else []
        return ", ".join(parts)


class _SpoiltError(Exception):
    """Leaves the transaction of `--atomic`."""


Format: TypeAlias = Literal["rows", "geojson", "quakeml"]
_READERS: Final[Mapping[str, Callable[[bytes], Iterator[Quake | str]]]] = {
    "geojson": read_geojson,
    "quakeml": read_quakeml,
}


async def emit(
    config: Config,
    file: str,
    defaults: Defaults,
    *,
    form: Format = "rows",
    known_path: str | None = None,
    atomic: bool = False,
    as_json: bool = False,
) -> int:
    """Insert each row in a transaction of its own, or all in one; 1 if any was refused.

    What was refused, and why, goes to stderr. `file` is a path, or `-` for standard input; raises
    `OperatorError` where it cannot be read. Reading blocks: nothing else runs beside this command.
    """
    source = "standard input" if file == "-" else file
    insert = _insert_together if atomic else _insert_each
    known = None if known_path is None else Known(Path(known_path))
    tally = Tally()
    unit = "line" if form == "rows" else "event"
    with _opened(file) as lines:
        readable = _readable(lines, source)
        if form == "rows":
            rows = read_rows(readable, defaults)
        else:
            document = b"".join(readable)
            if not document.strip():  # FDSN's 204, or a command before this one that failed
                raise OperatorError(
                    f"{source}: is empty: the source had nothing to tell, or could not be asked"
                )
            rows = _quakes(_READERS[form](document), source, defaults, known, tally)
        async with database_url(config) as url, open_producer(url, config.database) as producer:
            tally = await insert(producer, rows, f"{source}, {unit}", tally)
    if known is not None and not (atomic and tally.refused):
        known.save()
    say(msgspec.json.encode(tally).decode() if as_json else str(tally))
    return 1 if tally.refused else 0


def _quakes(
    quakes: Iterator[Quake | str], source: str, defaults: Defaults, known: Known | None, tally: Tally
) -> Iterator[Read]:
    """Give the rows, one when the one before has been dealt with, as `tally` tells."""
    try:
        for row in rows_of(quakes, defaults, known):
            refused = tally.refused
            yield row
            if known is not None and isinstance(row, Row) and tally.refused > refused:
                known.doubtful = True
    except NoQuakeError as error:
        raise OperatorError(f"{source}: {error}") from error


def _opened(file: str) -> BinaryIO:
    try:
        # Standard input is not ours to close, which `with` would do.
        return open(0 if file == "-" else file, "rb", closefd=file != "-")
    except OSError as error:
        raise OperatorError(f"{file}: cannot be read: {error.strerror}") from error


def _readable(lines: Iterable[bytes], source: str) -> Iterator[bytes]:
    try:
        yield from lines
    except OSError as error:
        raise OperatorError(f"{source}: cannot be read: {error.strerror}") from error


async def _insert_each(producer: Producer, rows: Iterable[Read], source: str, tally: Tally) -> Tally:
    """Insert what can be inserted: a bad row does not hold the alert behind it back."""
    for row in rows:
        await _insert(producer, row, source, tally)
    return tally


async def _insert_together(producer: Producer, rows: Iterable[Read], source: str, tally: Tally) -> Tally:
    try:
        async with producer.transaction():
            for row in rows:
                await _insert(producer, row, source, tally)
                _require_none_refused(tally)
    except _SpoiltError:
        complain(f"{source.rpartition(',')[0]}: nothing was inserted")
        return Tally(refused=tally.refused)
    return tally


def _require_none_refused(tally: Tally) -> None:
    if tally.refused:
        raise _SpoiltError


async def _insert(producer: Producer, row: Read, source: str, tally: Tally) -> None:
    problem = None
    if isinstance(row, Unreadable):
        problem = row.problem
    else:
        match await producer.insert(row.event):
            case Refused(problem=problem):
                pass
            case Written.INSERTED:
                tally.inserted += 1
            case Written.ALREADY_THERE:
                tally.already_there += 1
    if problem is not None:
        tally.refused += 1
        complain(f"{source} {row.line}: {printable(problem)}")
