"""Databases that are restored or moved: commands and daemons beside them, and who hears what from them."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from dispatcher.store.embedded.binaries import find_binaries
from tests import commands
from tests.acceptance.conservation import UNFINISHED
from tests.acceptance.daemon import ENCRYPTION_KEY, Daemon, daemons
from tests.acceptance.producer import INSERT
from tests.acceptance.subscriber import Subscriber
from tests.postgres import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.acceptance.producer import Event
    from tests.acceptance.subscriber import Seen

HOW_TO: Final = Path(__file__).parents[1] / "docs" / "how-to" / "backup-and-restore.md"
CLEAN: Final = "no discrepancy: what is shown is what the facts amount to"
RETRIES: Final = {"DELIVERY__RETRY_DELAYS_S": "20,600"}
REFUSED: Final = "run `dispatcher rebase` before `dispatcher serve`"
DONE: Final = "done: `dispatcher serve` goes on from here"


class Site:
    """A database, and the daemons and commands that work on it."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory
        directory.mkdir()
        key = base64.b64encode(ENCRYPTION_KEY).decode()
        self._config = directory / "config.toml"
        self._config.write_text(f'[secrets]\nencryption_key = "{key}"\n')

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Daemon]:
        """Run a daemon for the block, and let it end in order."""
        async with daemons(self.url, self._directory, **RETRIES) as house:
            daemon = await house.start()
            yield daemon
            if daemon.process.returncode is None:
                daemon.terminate()
                assert 0 == await daemon.ended(), daemon.last_words()

    async def refusal(self) -> str:
        """Give what a daemon says that ends with status 2 instead of serving."""
        async with daemons(self.url, self._directory) as house:
            daemon = await house.start(wait=False)
            assert 2 == await daemon.ended(), daemon.last_words()
            return daemon.last_words()

    async def dispatcher(self, *arguments: str) -> commands.Ended:
        """Run a command."""
        return await commands.run("--config", str(self._config), *arguments, url=self.url)

    async def value(self, query: str) -> Any:
        """Ask for one value."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def burn(self, count: int) -> None:
        """Use up transaction ids, as years would."""
        await self.execute(
            "create temp table burnt (number int);"
            f"do $$ begin for number in 1..{count} loop"
            "    begin insert into burnt values (number); exception when others then raise; end;"
            "end loop; end $$"
        )

    async def execute(self, statements: str) -> None:
        """Run statements."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def insert(self, events: Sequence[Event]) -> None:
        """Insert events, each in its own transaction."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            for event in events:
                await connection.execute(INSERT, event.type, event.data, event.occurred_at, None)
        finally:
            await connection.close()

    async def settled(self) -> None:
        """Wait until no delivery is unfinished and no row unread."""
        query = (
            f"select ({UNFINISHED}) = 0 and (select count(*) from outbox) = (select count(*) from message)"
        )
        await wait_for(lambda: self.value(query), "everything is delivered", 60)

    async def clean(self) -> bool:
        """Say whether `verify` finds nothing."""
        ended = await self.dispatcher("verify")
        return (0, CLEAN) == (ended.status, ended.lines[-1])

    async def interrupted(self) -> int:
        """Count the facts that say that something may have been sent after the backup."""
        query = "select count(*) from delivery_event where kind = 'interrupted' and reason = 'restored'"
        count: int = await self.value(query)
        return count


class Moods:
    """Two subscribers to everything: one always well, one that refuses everything until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.well = Subscriber(["*"], lambda _: (0, 200))
        self.ill = Subscriber(["*"], lambda _: (0, 200 if self.mended else 500))

    async def register(self, stack: AsyncExitStack, url: str) -> None:
        """Create them in the database."""
        await self.well.register(stack, url)
        await self.ill.register(stack, url)

    async def first_attempts(self, events: Sequence[Event]) -> None:
        """Wait until both were sent every one of these events."""
        wanted = {event.serial for event in events}

        def seen_by_all() -> bool:
            return all(wanted <= {seen.serial for seen in one.seen} for one in (self.well, self.ill))

        await wait_for(seen_by_all, "first attempts")

    def forget(self) -> tuple[list[Seen], list[Seen]]:
        """Give what each has seen so far, and begin anew."""
        seen = (self.well.seen[:], self.ill.seen[:])
        self.well.seen.clear()
        self.ill.seen.clear()
        return seen


def serials(seen: Sequence[Seen]) -> list[int]:
    """Give the events of requests, in order."""
    return sorted(one.serial for one in seen)


def numbers(events: Sequence[Event]) -> list[int]:
    """Give the numbers of events."""
    return [event.serial for event in events]


async def as_documented(heading: str, directory: Path, without: str = "", **variables: str) -> None:
    """Run the first commands under a heading of the how-to, as they are written there.

    Without the command that holds `without`, where it says that one may be left out.
    """
    text = HOW_TO.read_text().partition(f"\n## {heading}\n")[2]
    commands_there = re.search(r"^```sh\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    assert commands_there is not None, f"{heading}: no commands"
    script = re.sub(r"\\\n", "", commands_there[1])  # a command a line
    if without:
        script = "".join(line for line in script.splitlines(keepends=True) if without not in line)
        assert script, f"{heading}: no command is left"
    path = f"{find_binaries().bin_dir}:{os.environ['PATH']}"
    await program("sh", "-euc", script, cwd=directory, env={**variables, "PATH": path})


async def program(*command: str | Path, **options: Any) -> None:
    """Run a program; fails with what it says."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    out, _ = await process.communicate()
    assert 0 == process.returncode, out.decode()
