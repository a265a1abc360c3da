"""How a webhook is told, as fields of a form: in what order, how fast, and what it can do without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from dispatcher.core.ordering import Ordering
from dispatcher.core.rate import MAX_RATE_PER_S, MIN_RATE_PER_S
from dispatcher.core.webhook import MAX_AGE_S, MAX_SETTLE_S
from dispatcher.dashboard.conditions import number, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.store.webhooks import WebhookFields

PAYLOADS: Final = ("standard", "full")
ORDERINGS: Final[tuple[Ordering, ...]] = get_args(Ordering)
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "max_age_s": (1, MAX_AGE_S),
    "settle_s": (1, MAX_SETTLE_S),
    "rate_limit_per_s": (MIN_RATE_PER_S, MAX_RATE_PER_S),
}
TEXTS: Final = ("payload", "ordering", "coalesce", *_BOUNDS)
BLANK: Final = {**dict.fromkeys(TEXTS, ""), "payload": PAYLOADS[0], "ordering": ORDERINGS[0]}


def texts_of(fields: WebhookFields) -> dict[str, str]:
    """Give the texts of the fields that show it."""
    values = {name: getattr(fields, name) for name in _BOUNDS}
    return {
        "payload": fields.payload,
        "ordering": fields.ordering,
        "coalesce": "yes" if fields.coalesce else "",
        **{name: "" if value is None else written(value) for name, value in values.items()},
    }


def read(texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Give the webhook's fields, and name what is wrong, by field."""
    wrong: dict[str, list[str]] = {}
    given: dict[str, Any] = {"coalesce": bool(texts["coalesce"])}
    for name, choices in (("payload", PAYLOADS), ("ordering", ORDERINGS)):
        given[name] = texts[name] or choices[0]
        if given[name] not in choices:
            wrong[name] = ["choose one of those shown"]
    for name, (least, most) in _BOUNDS.items():
        value = number(texts[name]) if texts[name] else None
        given[name] = value
        if texts[name] and value is None:
            wrong[name] = ["must be a number"]
        elif value is not None and not least <= value <= most:
            wrong[name] = [f"must be from {least} to {most}, is {written(value)}"]
        elif isinstance(value, float) and name != "rate_limit_per_s":
            wrong[name] = ["must be whole seconds"]
    return given, wrong
