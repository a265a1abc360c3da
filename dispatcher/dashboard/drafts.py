"""What was typed into the form of a webhook: read field by field, judged by `core.webhook` as in the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.core.addresses import check_url
from dispatcher.core.certificates import certificates_problems, read_certificates
from dispatcher.core.webhook import (
    events_problems,
    headers_problems,
    network_problems,
    secret_problems,
    shown_headers,
    unhidden_headers,
)
from dispatcher.dashboard import conditions, manners
from dispatcher.dashboard.sentences import translated
from dispatcher.store import accounts, event_types
from dispatcher.store.webhooks import Webhook, WebhookFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.dashboard.visit import Visit

_TEXTS: Final = ("url", "description", "network_ids", "headers", "ca_certificates", "secret")
FIELDS: Final = (  # of a webhook, as the form decides them
    *("url", "description", "events", "network_ids", "filter", "headers", "ca_certificates"),
    *manners.TEXTS,
)
_MOST_EVENTS: Final = 200  # that a form is asked to show again


class Draft(msgspec.Struct, frozen=True):
    """The form as it is shown, and what it amounts to."""

    texts: Mapping[str, str]
    events: Sequence[str]
    errors: Mapping[str, Sequence[str]]  # in the visitor's language, by field
    fields: WebhookFields | None = None  # None where anything is wrong
    secret: str = ""

    @property
    def filter_errors(self) -> bool:
        """Whether anything is wrong with the filter."""
        return not self.errors.keys().isdisjoint({*conditions.TEXTS, "bbox"})

    @property
    def manners(self) -> bool:
        """Whether it says anything of how the webhook is told, or says it wrongly."""
        return any(self.texts[name] != manners.BLANK[name] for name in manners.TEXTS)

    def __repr__(self) -> str:
        return "Draft(…)"  # the headers' values often are tokens


def blank() -> Draft:
    """Give the form of a webhook that is to be."""
    texts = {**dict.fromkeys(_TEXTS, ""), **conditions.texts_of(None), **manners.BLANK}
    return Draft(texts, ("event.detected",), {})


def of_webhook(webhook: Webhook) -> Draft:
    """Give the form of a webhook as it is."""
    texts = {
        "url": webhook.url,
        "description": webhook.description,
        "network_ids": ", ".join(webhook.network_ids or ()),
        "headers": "\n".join(f"{name}: {value}" for name, value in shown_headers(webhook.headers).items()),
        "ca_certificates": webhook.ca_certificates or "",
        "secret": "",
        **manners.texts_of(webhook),
        **conditions.texts_of(webhook.filter),
    }
    return Draft(texts, webhook.events, {})


async def read(visit: Visit, present: Webhook | None) -> Draft:
    """Read and judge a form; `present` is the webhook that there is."""
    context = visit.context
    texts = {
        name: visit.field(name) for name in (*_TEXTS, *manners.TEXTS, *conditions.TEXTS, conditions.UNKNOWN)
    }
    events = list(dict.fromkeys(visit.form.get("events", ())))[:_MOST_EVENTS]
    known = await event_types.names(context.database)
    owned = await accounts.owned_networks(context.database, visit.key.organization_id)
    condition, wrong = conditions.read(texts, present.filter if present else None)
    told, wrong_manners = manners.read(texts)
    wrong |= wrong_manners
    url = check_url(texts["url"], require_https=context.config.delivery.require_https, policy=context.policy)
    wrong["url"] = ["is required"] if not texts["url"] else [url] if url else []
    wrong["events"] = events_problems(events, known)
    network_ids = conditions.names(texts["network_ids"], (present.network_ids if present else None) or ())
    wrong["network_ids"] = network_problems(network_ids, owned) if network_ids else []
    typed, wrong["headers"] = _headers(texts["headers"])
    headers = unhidden_headers(typed, present.headers if present else {})
    wrong["headers"] = wrong["headers"] or headers_problems(headers)
    certificates = texts["ca_certificates"]
    wrong["ca_certificates"] = certificates_problems(certificates) if certificates else []
    secret = texts["secret"] if present is None else ""
    wrong["secret"] = secret_problems(secret) if secret else []
    errors = {
        name: [translated(visit.speech, one) for one in problems]
        for name, problems in wrong.items()
        if problems
    }
    if errors:
        return Draft({**texts, "secret": ""}, events, errors)
    fields = WebhookFields(
        url=texts["url"],
        events=tuple(events),
        network_ids=tuple(network_ids) or None,
        description=texts["description"],
        headers=typed,
        filter=condition,
        ca_certificates=read_certificates(certificates) if certificates else None,
        **told,
    )
    return Draft(texts, events, {}, fields, secret)


def is_shown(fields: WebhookFields, webhook: Webhook) -> bool:
    """Say whether a webhook is what a form says already."""
    shown = {name: getattr(webhook, name) for name in FIELDS}
    typed = {name: getattr(fields, name) for name in FIELDS}
    return {**typed, "headers": unhidden_headers(fields.headers, webhook.headers)} == shown


def _headers(text: str) -> tuple[dict[str, str], list[str]]:
    """Read headers, one on each line."""
    headers: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            problems.append(f"line {number} has no colon between name and value")
        elif name.strip() in headers:
            problems.append(f'"{name.strip()[:100]}" is given more than once')
        else:
            headers[name.strip()] = value.strip()
    return headers, problems
