"""Producers: pgbench's clients, each of which inserts one row and commits, again and again."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

import asyncpg

from bench.child import pinned
from bench.feed import EVENT
from bench.machine import cores
from dispatcher.store.embedded.binaries import find_binaries

_WRITERS: Final = 8
_BARE_TABLE: Final = """
create table bench_bare (
    id bigint generated always as identity primary key, type text not null, data json not null,
    occurred_at timestamptz not null default now(), network_id text, dedup_key text
)
"""
_SCRIPT: Final = """\\set n random(1, 1000000000)
insert into {table} (type, data{column})
values ('event.detected', replace(:event, '{{n}}', (:n)::text)::json{value});
"""


class Producers:
    """Eight at a time, on every core."""

    def __init__(self, pgbench: Path, database_url: str) -> None:
        self._pgbench = pgbench
        self._database_url = database_url

    async def insert(self, table: str, seconds: float, *, event_id: bool = False) -> tuple[float, int]:
        """Insert into a table for some seconds; give how many a second, and how many in all.

        `event_id`: as a column as well, where no trigger finds it in the data.
        """
        column, value = (", event_id", ", 'eq_' || (:n)::text") if event_id else ("", "")
        with tempfile.NamedTemporaryFile("w", suffix=".sql", encoding="utf-8") as script:
            script.write(_SCRIPT.format(table=table, column=column, value=value))
            script.flush()
            process = await asyncio.create_subprocess_exec(
                *pinned(*cores()),
                *(str(self._pgbench), "--no-vacuum", "--protocol=prepared", f"--client={_WRITERS}"),
                *(
                    f"--time={max(1, round(seconds))}",
                    f"--define=event={EVENT.replace('{network}', 'nobody')}",
                    f"--file={script.name}",
                ),
                self._database_url,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output = (await process.communicate())[0].decode()
        rate = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
        count = re.search(r"transactions actually processed: ([0-9]+)", output)
        if process.returncode != 0 or rate is None or count is None:
            raise RuntimeError(f"pgbench failed:\n{output}")
        return float(rate[1]), int(count[1])


async def make_bare_table(connection: asyncpg.Connection) -> None:
    """Make the table without triggers, `bench_bare`."""
    await connection.execute(_BARE_TABLE)


def find_pgbench() -> Path | None:
    """Find the program: beside PostgreSQL's others, or on the path."""
    beside = find_binaries().bin_dir / "pgbench"
    if beside.exists():
        return beside
    found = shutil.which("pgbench")
    return None if found is None else Path(found)
