"""The guide's troubleshooting list, checked now as `dispatcher doctor` does, in both languages."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.dashboard import finding, words
from dispatcher.dashboard.sentences import translated
from dispatcher.diagnosis import examine_webhook

if TYPE_CHECKING:
    from aiohttp import web

    from dispatcher.dashboard.language import Speech
    from dispatcher.dashboard.visit import Visit
    from dispatcher.diagnosis import Finding, Words

_TOOK: Final = re.compile(r"([0-9.]+) (ms|s)")
_AT_ONCE: Final = asyncio.Semaphore(4)  # each opens a connection to wherever a webhook leads


class Check(msgspec.Struct, frozen=True):
    """A finding as it is shown."""

    name: str
    verdict: str
    found: str
    advice: str


async def show(visit: Visit) -> web.Response:
    """Go through the list, with a connection to the webhook's server but no request."""
    webhook = await finding.webhook(visit)
    if webhook is None:
        return visit.not_found()
    async with _AT_ONCE:
        findings = await examine_webhook(
            visit.context.database,
            visit.context.config.delivery,
            webhook.public_id,
            organization_id=visit.key.organization_id,
        )
    return visit.page(
        "check.html",
        webhook=webhook,
        state=webhook.health.state(active=webhook.active),
        checks=[_shown(visit.speech, one) for one in findings or ()],
        verdicts={name: visit.speech.gettext(text) for name, text in words.VERDICTS.items()},
    )


def _shown(speech: Speech, found: Finding) -> Check:
    return Check(
        speech.gettext(words.CHECKS[found.check]),
        found.verdict,
        _said(speech, found.found),
        _said(speech, found.advice),
    )


def _said(speech: Speech, said: Words) -> str:
    if not said.template:
        return ""
    values = {name: _value(speech, name, value) for name, value in said.values.items()}
    template = speech.gettext(said.template)
    return (template[:1].upper() + template[1:]).format_map(values)


def _value(speech: Speech, name: str, value: str) -> str:
    if name == "state":
        return speech.gettext(words.STATES[value]).lower()
    if value in words.IN_FINDINGS:
        return speech.gettext(value)
    took = _TOOK.fullmatch(value)
    return f"{speech.number(float(took[1]))}\u00a0{took[2]}" if took else translated(speech, value)
