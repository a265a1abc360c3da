"""`dispatcher doctor`: what keeps a webhook, or the installation, from working, and what to do about it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.diagnosis import any_failed, examine_installation, examine_webhook, send_test
from dispatcher.store.connection import Database
from dispatcher.tools.session import database_url, open_database
from dispatcher.tools.terminal import Paint, printable, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dispatcher.config import Config
    from dispatcher.diagnosis import Finding

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "red", "skipped": "dim"}
_WIDTH: Final = 15  # of the names of checks


async def doctor(config: Config, webhook: str | None, *, test: bool, as_json: bool) -> int:
    """Examine a webhook, or the installation; 1 where a check failed, warnings aside, else 0.

    With `test`, the dispatcher sends the webhook a `webhook.test` as well. Raises `OperatorError` for an
    unknown webhook.
    """
    findings = await (_installation(config) if webhook is None else _webhook(config, webhook, test=test))
    if as_json:
        say(*(msgspec.json.encode(finding.plain()).decode() for finding in findings))
    else:
        say(*_lines(findings, Paint(sys.stdout)))
    return 1 if any_failed(findings) else 0


async def _installation(config: Config) -> list[Finding]:
    async with database_url(config, complete=False) as url:
        database = Database(url, config.database)
        try:
            return await examine_installation(database, config)
        finally:
            await database.close()


async def _webhook(config: Config, webhook: str, *, test: bool) -> list[Finding]:
    async with open_database(config) as database:
        findings = await examine_webhook(database, config.delivery, webhook)
        if findings is None:
            raise OperatorError(f"there is no webhook {webhook}")
        if test:
            findings.append(await send_test(database, config.delivery, webhook))
        return findings


def _lines(findings: Sequence[Finding], paint: Paint) -> Iterator[str]:
    for finding in findings:
        verdict = paint(f"{finding.verdict:<7}", _STYLES[finding.verdict])
        yield f"{verdict}  {finding.check:<{_WIDTH}} {printable(str(finding.found))}"
        if advice := str(finding.advice):
            yield f"{'':<{7 + 2 + _WIDTH}} → {printable(advice)}"
    failed = sum(finding.verdict == "fail" for finding in findings)
    warned = sum(finding.verdict == "warn" for finding in findings)
    if failed or warned:
        yield f"{failed} failed, {warned} with a warning"
    else:
        yield "nothing is wrong"
